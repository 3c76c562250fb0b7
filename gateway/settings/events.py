"""Settings of what an event may be and what is added to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticKnownError

from gateway.settings.section import Positive, Section, listed, spelled


class Events(Section):
    """What an event may be."""

    max_age_days: Positive | None = Field(
        90,
        examples=[365],
        description="Older events are refused, reason `clock`, rule `too_old`; null: no limit. Not set: 90, or "
        "store.retention_days where that is less.",
    )
    max_future_secs: Annotated[float, Field(ge=0)] = Field(
        600,
        description="Events further ahead of this machine's clock are refused, reason `clock`, rule `in_the_future`.",
    )
    naive_timezone: str = Field("UTC", description="Time zone of timestamps that name none, such as Europe/Berlin.")
    default_kind: Literal["log"] | None = Field(
        None, examples=["log"], description="`log` accepts events of no known kind as pipeline logs."
    )
    index_prefix: Annotated[
        str,
        spelled(
            r"([a-z0-9.][a-z0-9._-]*)?",
            "write lower-case letters, digits, `.`, `_` and `-`, and begin with a letter, a digit or `.`",
        ),
    ] = Field("", description="Put before every index name, for several gateways on one cluster.")


def _number(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """Refuse what is neither integer nor float in one sentence instead of one for each."""
    try:
        return read(value)
    except ValidationError:
        raise PydanticKnownError("float_type") from None


Bound = Annotated[int | float, WrapValidator(_number)]


class ExtraField(Section):
    """A field of one's own in events of a built-in kind; `null` in an event is the same as absent."""

    type: Literal["string", "text", "number", "integer", "boolean", "date"] = Field(
        examples=["string"], description="What it holds: `string` is found as a whole, `text` also by its words."
    )
    minimum: Bound | None = Field(None, description="Least value of a number or integer.")
    maximum: Bound | None = Field(None, description="Greatest value of a number or integer.")
    description: str = Field("", description="What it means, in a sentence, for /v1/schemas.")

    @model_validator(mode="after")
    def _bounds(self) -> ExtraField:
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if bounds and self.type not in ("number", "integer"):
            raise ValueError(f"minimum and maximum are for number and integer, not for {self.type}")
        if self.type == "integer" and not all(isinstance(bound, int) and abs(bound) < 2**63 for bound in bounds):
            raise ValueError("minimum and maximum of an integer are whole numbers of 64 bits")
        if bounds != sorted(bounds):
            raise ValueError(f"minimum {self.minimum} is greater than maximum {self.maximum}")
        return self


class Schemas(Section):
    """Fields and kinds of one's own."""

    extra_fields: dict[str, dict[str, ExtraField]] = Field(
        default_factory=dict,
        examples=[{"model_inference": {"shadow": {"type": "boolean"}, "cost_usd": {"type": "number", "minimum": 0}}}],
        description="Kind to name to field: checked, mapped and described like the built-in ones.",
    )
    files: Annotated[tuple[Path, ...], BeforeValidator(listed)] = Field(
        (),
        examples=[["/etc/gateway/kinds.py"]],
        description="Python files that define kinds of one's own; they run with the gateway.",
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
        None,
        examples=[{"timeout": "timed? ?out|deadline", "data": "missing feature"}],
        description="error_type to regular expression, the first that matches decides. They take the place of all "
        "built-in patterns; null: those.",
    )


class Thresholds(Section):
    """The enrichers' settings."""

    confidence: Confidence = Field(default_factory=Confidence, description="Bounds of confidence_level.")
    latency: Latency = Field(default_factory=Latency, description="Bounds of latency_category.")
    error: ErrorType = Field(default_factory=ErrorType, description="Patterns of error_type.")


class Enrichment(Thresholds):
    """What is added to inference events."""

    models: dict[str, Thresholds] = Field(
        default_factory=dict,
        examples=[{"image_classifier": {"confidence": {"high": 0.95}, "latency": {"fast": 20}}}],
        description="model_name to its own thresholds; what it leaves out is as above.",
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
