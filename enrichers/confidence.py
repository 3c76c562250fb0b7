"""`confidence_level`: how sure the model was, in a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enrichers import Enricher


def confidence(*, high: float = 0.85, medium: float = 0.70) -> Enricher:
    """Say `high` from `high` on, `medium` from `medium` on, else `low`; nothing without a confidence."""
    if not medium <= high:  # NaN breaks this too
        raise ValueError(f"confidence thresholds must rise: medium ({medium}) is not at most high ({high})")

    is_high, is_medium, is_low = ({"confidence_level": level} for level in ("high", "medium", "low"))

    def enrich(event: Mapping[str, Any]) -> dict[str, Any]:
        value = event.get("prediction_confidence")
        if value is None:
            return {}
        if value >= high:
            return is_high
        return is_medium if value >= medium else is_low

    return enrich
