"""How often a model is right: with what can be said of it from so many labels, and which classes it takes for which."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.monitoring.estimates import wilson

MOST_CLASSES = 12


def interval(share: float | None, count: int) -> tuple[float, float] | None:
    """Return where a share lies with a probability of 95 %, given that of ``count`` (Wilson); None without any."""
    if share is None or count <= 0:
        return None
    return wilson(min(max(share, 0.0), 1.0) * count, count)  # a sender may have told an accuracy of its own


@dataclass(frozen=True)
class Matrix:
    """How often each class was predicted, by what was true; the last row and column may be all other classes."""

    classes: list[str]
    cells: list[list[int]]
    """By predicted, then by true class."""
    precision: list[float | None]
    """Of those predicted as a class, the share that is one; None of others together, and of none."""
    recall: list[float | None]
    """Of those that are of a class, the share predicted as one."""
    correct: int
    labelled: int
    others: int
    """How many classes those are."""

    def shade(self, predicted: int, true: int) -> int:
        """Return the tenths that a cell has of all that are of its true class; 1 where it is not empty."""
        count, of = self.cells[predicted][true], sum(row[true] for row in self.cells)
        return max(1, round(10 * count / of)) if count else 0


def matrix(buckets: Iterable[dict[str, Any]]) -> Matrix | None:
    """Return the matrix of buckets by predicted and true class; None where none has both."""
    pairs: Counter[tuple[str, str]] = Counter()
    for each in buckets:
        predicted, true = each["key"]
        if predicted is not None and true is not None:
            pairs[_spelled(predicted), _spelled(true)] += each["count"]
    if not pairs:
        return None
    predictions, truths = Counter[str](), Counter[str]()
    for (predicted, true), count in pairs.items():
        predictions[predicted] += count
        truths[true] += count
    sizes = predictions + truths
    classes = sorted(sorted(sizes, key=lambda name: (-sizes[name], name))[:MOST_CLASSES], key=_order)
    place = {name: at for at, name in enumerate(classes)}
    others = len(sizes) - len(classes)
    cells = [[0] * (len(classes) + bool(others)) for _ in range(len(classes) + bool(others))]
    for (predicted, true), count in pairs.items():
        cells[place.get(predicted, len(classes))][place.get(true, len(classes))] += count
    nothing: list[float | None] = [None] if others else []
    return Matrix(
        [*classes, *([f"{others} others"] if others else [])],
        cells,
        [pairs[name, name] / predictions[name] if predictions[name] else None for name in classes] + nothing,
        [pairs[name, name] / truths[name] if truths[name] else None for name in classes] + nothing,
        sum(count for (predicted, true), count in pairs.items() if predicted == true),
        pairs.total(),
        others,
    )


def _spelled(value: Any) -> str:
    """Spell a class as JSON without quotes: so 1 and "1" are the same, 1 and true are not."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _order(name: str) -> tuple[bool, float, str]:
    """Digits come in the order of numbers."""
    try:
        value = float(name)
    except ValueError:
        value = math.nan
    return (False, value, name) if math.isfinite(value) else (True, 0.0, name)
