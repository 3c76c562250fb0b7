"""One prediction of a model in service."""

from typing import Annotated, Required

from pydantic import Field, with_config

from schemas.event import KEEP_EXTRAS, Event
from schemas.types import Flag, Fraction, FreeText, NotNegative, Scalar, Text


@with_config(KEEP_EXTRAS)
class Inference(Event, total=False):
    """A prediction: which model, what it said, how sure, how fast, at what cost."""

    model_name: Required[Annotated[Text, Field(description="The model that predicted.")]]
    model_version: Annotated[Text | None, Field(description="Its version.")]
    prediction_confidence: Annotated[Fraction | None, Field(description="How sure the model is, 0 to 1.")]
    prediction_class: Annotated[Scalar | None, Field(description="What the model said.")]
    true_label: Annotated[Scalar | None, Field(description="What turned out to be true.")]
    inference_time_ms: Annotated[NotNegative | None, Field(description="Duration in milliseconds.")]
    cpu_usage: Annotated[NotNegative | None, Field(description="Processor use in percent; 250 is 2.5 cores.")]
    gpu_usage: Annotated[NotNegative | None, Field(description="GPU use in percent.")]
    memory_usage_mb: Annotated[NotNegative | None, Field(description="Memory in megabytes.")]
    environment: Annotated[Text | None, Field(description="Where it runs, such as production.")]
    region: Annotated[Text | None, Field(description="The region it runs in.")]
    request_id: Annotated[Text | None, Field(description="The request; a label sent later names it.")]
    user_id: Annotated[Text | None, Field(description="On whose behalf.")]
    data_quality_score: Annotated[Fraction | None, Field(description="Quality of the input, 0 to 1.")]
    error_message: Annotated[FreeText | None, Field(description="What went wrong, if anything did.")]
    error: Annotated[Flag | None, Field(description="Whether the prediction failed.")]
