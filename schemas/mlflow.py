"""One step of an MLflow pipeline, and the document it is stored as."""

from typing import Annotated, Required

from pydantic import Field, with_config
from typing_extensions import TypedDict

from schemas.event import KEEP_EXTRAS, Event
from schemas.types import Object, Stored, Text


@with_config(KEEP_EXTRAS)
class MLflowEvent(Event, total=False):
    """A pipeline step that started, succeeded or failed."""

    event_type: Required[
        Annotated[Text, Field(description="The step and its outcome, such as model_training_success.")]
    ]
    details: Annotated[Object | None, Field(description="What the step reports, by name.")]
    source: Annotated[Text | None, Field(description="The sender, such as mlflow_pipeline.")]


class MLflowDocument(TypedDict, total=False):
    """What is stored for an MLflow event: the event as sent, under one name, and two ways to find it."""

    pipeline: Annotated[Text, Field(description="Always mlflow.")]
    event_category: Annotated[Text, Field(description="The event_type.")]
    mlflow_event: Annotated[MLflowEvent, Stored("object"), Field(description="The event as sent.")]
