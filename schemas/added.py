"""The fields the gateway adds to documents: the one list of them."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from schemas.types import Anything, Flag, Moment, Number, Text, Unindexed

Stamps = TypedDict(
    "Stamps",
    {
        "@timestamp": Annotated[Moment, Field(description="When it happened, UTC.")],
        "received_at": Annotated[Moment, Field(description="When the gateway took it, UTC.")],
        # Any spelling of a time is kept here, so no index could take them all.
        "timestamp": Annotated[Unindexed, Field(description="The time as the client sent it.")],
        "type": Annotated[Anything, Field(description="The kind of event.")],
        "tenant": Annotated[Text, Field(description="Whose event it is.")],
        "event_id": Annotated[Text, Field(description="The client's own id of the event.")],
    },
    total=False,
)
"""What a document of any kind may carry."""


class Enrichment(TypedDict, total=False):
    """What enrichers add to an inference event."""

    confidence_level: Annotated[Text, Field(description="high, medium or low.")]
    latency_category: Annotated[Text, Field(description="fast, normal, slow or very_slow.")]
    prediction_correct: Annotated[Flag, Field(description="Whether the prediction was true.")]
    prediction_accuracy: Annotated[Number, Field(description="1.0 or 0.0; its average is the accuracy.")]
    error_type: Annotated[Text, Field(description="The sort of error, such as timeout.")]
