"""One report of a training job."""

from typing import Annotated

from pydantic import Field, with_config

from schemas.event import KEEP_EXTRAS, Event
from schemas.types import Integer, Number, Numbers, Object, Text


@with_config(KEEP_EXTRAS)
class Training(Event, total=False):
    """An epoch, a step or a whole run: its parameters and the metrics it reached."""

    model_name: Annotated[Text | None, Field(description="The model being trained.")]
    model_version: Annotated[Text | None, Field(description="The version it will have.")]
    run_id: Annotated[Text | None, Field(description="The training run.")]
    experiment_id: Annotated[Text | None, Field(description="The experiment the run belongs to.")]
    epoch: Annotated[Integer | None, Field(description="The epoch reported.")]
    step: Annotated[Integer | None, Field(description="The step reported.")]
    metrics: Annotated[Numbers | None, Field(description="Numbers by name, such as loss or rmse.")]
    parameters: Annotated[Object | None, Field(description="Hyperparameters by name.")]
    dataset_version: Annotated[Text | None, Field(description="The version of the data trained on.")]
    duration_ms: Annotated[Number | None, Field(description="Duration in milliseconds.")]
    status: Annotated[Text | None, Field(description="How the run stands, such as running or finished.")]
