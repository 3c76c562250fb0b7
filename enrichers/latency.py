"""`latency_category`: how long the prediction took, in a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enrichers import Enricher


def latency(*, fast: float = 50, normal: float = 200, slow: float = 1000) -> Enricher:
    """Say the first of `fast`, `normal`, `slow` whose milliseconds it stays below, else `very_slow`."""
    if not fast <= normal <= slow:  # NaN breaks this too
        raise ValueError(f"latency thresholds must rise: fast ({fast}), normal ({normal}), slow ({slow}) do not")
    bounds = ((fast, "fast"), (normal, "normal"), (slow, "slow"))

    def enrich(event: Mapping[str, Any]) -> dict[str, Any]:
        value = event.get("inference_time_ms")
        if value is None:
            return {}
        for bound, category in bounds:
            if value < bound:
                return {"latency_category": category}
        return {"latency_category": "very_slow"}

    return enrich
