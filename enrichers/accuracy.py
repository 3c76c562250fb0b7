"""`prediction_correct` and `prediction_accuracy`: whether the model was right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enrichers import Enricher


_RIGHT = {"prediction_correct": True, "prediction_accuracy": 1.0}
_WRONG = {"prediction_correct": False, "prediction_accuracy": 0.0}


def accuracy() -> Enricher:
    """Compare prediction and truth as JSON text without quotes; nothing when one of them is absent."""
    return _enrich


def _enrich(event: Mapping[str, Any]) -> dict[str, Any]:
    predicted, truth = event.get("prediction_class"), event.get("true_label")
    if predicted is None or truth is None:
        return {}
    if type(predicted) is str and type(truth) is str:
        return _RIGHT if predicted == truth else _WRONG
    return _RIGHT if _text(predicted) == _text(truth) else _WRONG


def _text(value: Any) -> str:
    """Spell a value as JSON: Python alone takes 1, 1.0 and true for the same."""
    return value if isinstance(value, str) else json.dumps(value)
