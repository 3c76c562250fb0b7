"""How each model stands: in all, and over the window."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.monitoring.estimates import mean, quantile, wilson
from gateway.monitoring.figures import MINUTE, Figures
from gateway.monitoring.quality import Quality, quality
from gateway.summary import MILLISECONDS, Model
from gateway.summary.figures import Key


@dataclass(frozen=True, slots=True)
class Standing:
    """A model and version; all but the first three are of the window, and None where there is nothing to tell."""

    model: str
    version: str
    predictions: int
    """Ever."""
    last: float | None
    """When it was last seen, in seconds since 1970, to the minute; None when that was before the kept minutes."""
    window: Model
    """All its figures."""
    quality: Quality | None
    interval: tuple[float, float] | None
    """Of the accuracy, 95 %."""
    confidence: float | None
    duration_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    error_rate: float | None


def standings(figures: Figures) -> list[Standing]:
    """Return all models that are told apart, and `other`; those with most predictions in the window come first."""
    seen: dict[Key, int] = {}
    for minute, summary in figures.minutes():
        seen.update((key, minute) for key, model in summary.models.items() if model.predictions)
    window = figures.window().models
    found = []
    for key, model in figures.all().models.items():
        mine = window.get(key) or Model()
        its = quality(mine)
        p50, p95, p99 = (quantile(mine.duration_ms, MILLISECONDS, share) for share in (0.5, 0.95, 0.99))
        found.append(
            Standing(
                *key,
                model.predictions,
                float(seen[key] * MINUTE) if key in seen else None,
                mine,
                its,
                wilson(its.correct, its.labelled) if its else None,
                mean(mine.confidence),
                mean(mine.duration_ms),
                p50,
                p95,
                p99,
                sum(mine.errors.values()) / mine.predictions if mine.predictions else None,
            )
        )
    return sorted(found, key=lambda each: (-each.window.predictions, each.model, each.version))
