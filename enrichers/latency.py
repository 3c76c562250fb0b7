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
    is_fast, is_normal, is_slow, is_very_slow = (
        {"latency_category": category} for category in ("fast", "normal", "slow", "very_slow")
    )

    def enrich(event: Mapping[str, Any]) -> dict[str, Any]:
        value = event.get("inference_time_ms")
        if value is None:
            return {}
        if value < normal:
            return is_fast if value < fast else is_normal
        return is_slow if value < slow else is_very_slow

    return enrich
