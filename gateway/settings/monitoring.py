"""Settings of the figures that are made of events."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.settings.section import Section


class Monitoring(Section):
    """Figures of models and services."""

    log_duration_unit: Literal["s", "ms"] = Field("s", description="Unit of `duration` in pipeline logs.")
