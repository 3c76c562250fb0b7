"""One log line of a service around the models."""

from typing import Annotated

from pydantic import Field, with_config

from schemas.event import KEEP_EXTRAS, Event
from schemas.types import FreeText, Number, Scalar, Text, Texts


@with_config(KEEP_EXTRAS)
class Log(Event, total=False):
    """A log line, with what a model server usually adds to it."""

    level: Annotated[Text | None, Field(description="The severity, such as INFO.")]
    service: Annotated[Text | None, Field(description="The service that logged.")]
    message: Annotated[FreeText | None, Field(description="What happened.")]
    logger: Annotated[Text | None, Field(description="The logger's name.")]
    request_id: Annotated[Text | None, Field(description="The request it is about.")]
    endpoint: Annotated[Text | None, Field(description="The endpoint called.")]
    duration: Annotated[Number | None, Field(description="How long it took, in seconds unless the settings say ms.")]
    prediction: Annotated[Scalar | None, Field(description="What the model said.")]
    confidence: Annotated[Number | None, Field(description="How sure the model is.")]
    model_type: Annotated[Text | None, Field(description="The sort of model.")]
    error: Annotated[Scalar | None, Field(description="The error, or whether there was one.")]
    labels: Annotated[Texts | None, Field(description="Strings by name, such as Kubernetes labels.")]
