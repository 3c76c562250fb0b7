"""The truth about a prediction, known later."""

from typing import Annotated, Required

from pydantic import Field, with_config

from schemas.event import KEEP_EXTRAS, Event
from schemas.types import Moment, Scalar, Text


@with_config(KEEP_EXTRAS)
class Label(Event, total=False):
    """The true label of the prediction with this request id."""

    request_id: Required[Annotated[Text, Field(description="The request_id of the prediction.")]]
    true_label: Required[Annotated[Scalar, Field(description="What turned out to be true.")]]
    model_name: Annotated[Text | None, Field(description="The model, where request ids are not unique.")]
    labelled_at: Annotated[Moment | None, Field(description="When the truth was found.")]
