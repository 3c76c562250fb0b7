"""Settings of what an event may be and what is added to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gateway.settings.section import Positive, Section


class Events(Section):
    """What an event may be."""

    max_age_days: Positive | None = Field(90, description="Older events are refused, reason `clock`; null: no limit.")
    max_future_secs: Annotated[float, Field(ge=0)] = Field(
        600, description="Events further ahead of this machine's clock are refused, reason `clock`."
    )
    naive_timezone: str = Field("UTC", description="Time zone of timestamps that name none, such as Europe/Berlin.")
    default_kind: Literal["log"] | None = Field(
        None, description="`log` accepts events of no known kind as pipeline logs."
    )
    index_prefix: Annotated[str, Field(pattern=r"^[a-z0-9._-]*$")] = Field(
        "", description="Put before every index name, for several gateways on one cluster."
    )


class Confidence(Section):
    """Bounds of `confidence_level`."""

    high: float = Field(0.85, ge=0, le=1, description="From here on `high`.")
    medium: float = Field(0.70, ge=0, le=1, description="From here on `medium`, below it `low`.")


class Latency(Section):
    """Bounds of `latency_category`, in milliseconds."""

    fast: float = Field(50, gt=0, description="Below this `fast`.")
    normal: float = Field(200, gt=0, description="Below this `normal`.")
    slow: float = Field(1000, gt=0, description="Below this `slow`, from here on `very_slow`.")


class ErrorType(Section):
    """Patterns of `error_type`."""

    patterns: dict[str, str] | None = Field(
        None, description="error_type to regular expression, the first that matches decides; null: built in."
    )


class Thresholds(Section):
    """The enrichers' settings."""

    confidence: Confidence = Field(default_factory=Confidence, description="Bounds of confidence_level.")
    latency: Latency = Field(default_factory=Latency, description="Bounds of latency_category.")
    error: ErrorType = Field(default_factory=ErrorType, description="Patterns of error_type.")


class Enrichment(Thresholds):
    """What is added to inference events."""

    models: dict[str, Thresholds] = Field(
        default_factory=dict, description="model_name to its own thresholds; what it leaves out is as above."
    )

    @model_validator(mode="before")
    @classmethod
    def _models_inherit(cls, value: object) -> object:
        """A model's thresholds begin from the common ones, so that naming one does not reset the others."""
        if not isinstance(value, dict) or not isinstance(value.get("models"), dict):
            return value
        common = {name: value[name] for name in Thresholds.model_fields if isinstance(value.get(name), dict)}
        models = {
            model: {
                **common,
                **{k: {**common.get(k, {}), **v} if isinstance(v, dict) else v for k, v in own.items()},
            }
            if isinstance(own, dict)
            else own
            for model, own in value["models"].items()
        }
        return {**value, "models": models}
