"""One report of a long-running operation."""

from typing import Annotated, Literal

from pydantic import Field, with_config

from schemas.event import KEEP_EXTRAS, Event
from schemas.types import Fraction, Number, Object, Text

Status = Literal["start", "progress", "complete", "error"]


@with_config(KEEP_EXTRAS)
class Operation(Event, total=False):
    """How far an operation is, such as a deployment or a batch job."""

    operation_id: Annotated[Text | None, Field(description="The same in all reports of one operation.")]
    operation: Annotated[Text | None, Field(description="What is being done.")]
    status: Annotated[Status | None, Field(description="How it stands.")]
    progress: Annotated[Fraction | None, Field(description="How much is done, 0 to 1.")]
    duration_ms: Annotated[Number | None, Field(description="Duration so far in milliseconds.")]
    user_id: Annotated[Text | None, Field(description="On whose behalf.")]
    details: Annotated[Object | None, Field(description="Anything else, by name.")]
