"""Settings of the figures that are made of events."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.settings.section import Section


class Monitoring(Section):
    """Figures of models and services."""

    max_models: Annotated[int, Field(ge=1, le=400)] = Field(
        100, description="Models with their versions that are told apart, and endpoints; the rest is `other`."
    )
    window_secs: Annotated[int, Field(ge=60, le=3600)] = Field(
        900, description="Accuracy, precision, rates of errors and the like are of the last so many seconds."
    )
    log_duration_unit: Literal["s", "ms"] = Field("s", description="Unit of `duration` in pipeline logs.")
