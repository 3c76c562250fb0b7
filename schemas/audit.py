"""One deed that must stay on record."""

from typing import Annotated

from pydantic import Field, with_config

from schemas.event import KEEP_EXTRAS, Event
from schemas.types import Text


@with_config(KEEP_EXTRAS)
class Audit(Event, total=False):
    """Who did what to what, and whether it was allowed."""

    actor: Annotated[Text | None, Field(description="Who did it.")]
    action: Annotated[Text | None, Field(description="What was done.")]
    resource: Annotated[Text | None, Field(description="What it was done to.")]
    outcome: Annotated[Text | None, Field(description="How it ended, such as success or denied.")]
