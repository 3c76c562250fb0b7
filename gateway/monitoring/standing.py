"""How each model stands over the window."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.monitoring.estimates import mean
from gateway.monitoring.kept import Kept
from gateway.monitoring.quality import Quality, quality


@dataclass(frozen=True, slots=True)
class Standing:
    """A model and version with predictions in the window; None where there is nothing to tell."""

    model: str
    version: str
    quality: Quality | None
    confidence: float | None


def standings(kept: Kept) -> list[Standing]:
    """Return all models that are told apart, and `other`; those with most predictions come first."""
    found = sorted(kept.window.models.items(), key=lambda each: (-each[1].predictions, each[0]))
    return [Standing(*key, quality(model), mean(model.confidence)) for key, model in found if model.predictions]
