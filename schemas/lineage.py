"""One node in the history of data and models."""

from typing import Annotated, Literal

from pydantic import Field, with_config

from schemas.event import KEEP_EXTRAS, Event
from schemas.types import Text, TextList

NodeType = Literal["data_source", "raw_data", "features", "model", "predictions"]


@with_config(KEEP_EXTRAS)
class Lineage(Event, total=False):
    """A data set, model or set of predictions, and what it was made from."""

    node_id: Annotated[Text | None, Field(description="The node.")]
    node_type: Annotated[NodeType | None, Field(description="What the node is.")]
    name: Annotated[Text | None, Field(description="A name for people.")]
    operation: Annotated[Text | None, Field(description="What made it from its inputs.")]
    inputs: Annotated[TextList | None, Field(description="The ids of the nodes it was made from.")]
