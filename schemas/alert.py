"""One alert that was raised or resolved."""

from typing import Annotated

from pydantic import Field, with_config

from schemas.event import KEEP_EXTRAS, Event
from schemas.types import FreeText, Number, Object, Text


@with_config(KEEP_EXTRAS)
class Alert(Event, total=False):
    """A rule that was broken, by which value, and how bad that is."""

    alert_id: Annotated[Text | None, Field(description="The same when raised and when resolved.")]
    name: Annotated[Text | None, Field(description="The rule's name.")]
    severity: Annotated[Text | None, Field(description="How bad it is, such as warning or critical.")]
    status: Annotated[Text | None, Field(description="How it stands, such as firing or resolved.")]
    model_name: Annotated[Text | None, Field(description="The model it is about.")]
    metric: Annotated[Text | None, Field(description="The metric that broke the rule.")]
    value: Annotated[Number | None, Field(description="The value it had.")]
    threshold: Annotated[Number | None, Field(description="The value it should have kept to.")]
    message: Annotated[FreeText | None, Field(description="What happened, in a sentence.")]
    details: Annotated[Object | None, Field(description="Anything else, by name.")]
