"""Counts, sums and histograms of one model's events, that can be added up and taken away again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import repeat
from operator import add, sub
from typing import TypeVar

import msgspec

CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)
"""Upper bounds of the buckets of confidences, each within its bucket."""
MILLISECONDS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0, 60_000.0)
"""Those of durations."""
OTHER = "other"
"""Stands for what there is too much of to be told apart: models, classes, endpoints."""
MAX_USERS = 512
"""Of so many hashes, the smallest, the number of all users is estimated: 19 times in 20 to within 9 %."""
MAX_CLASSES = 50
"""Classes of a model that are told apart, those that came first."""
MAX_MODELS = 500
"""Models with their versions in one summary, and endpoints."""
USER_HASHES = 1 << 30
"""A user's hash is below."""

Key = tuple[str, str]
"""A model and its version, or a service and its endpoint; empty where there is none."""
K = TypeVar("K", bound=Hashable)


class Histogram(msgspec.Struct, array_like=True):
    """How many values lie in each bucket, the last above all bounds, and their sum; empty without values."""

    counts: list[int] = []
    sum: float = 0.0

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    def plus(self, other: Histogram, sign: int = 1) -> None:
        """Add another of the same bounds, or take it away."""
        if not other.counts:
            return
        if sign > 0:
            self.counts = list(map(add, self.counts, other.counts)) if self.counts else other.counts.copy()
            self.sum += other.sum
            return
        self.counts = list(map(sub, self.counts or repeat(0), other.counts))
        # What is left of a sum of fractions when all of them are gone is not quite nothing.
        self.sum = self.sum - other.sum if any(self.counts) else 0.0


class Model(msgspec.Struct, array_like=True):
    """Predictions of one model and version."""

    predictions: int = 0
    errors: dict[str, int] = {}
    """Those that failed, by type of error."""
    outcomes: dict[str | None, dict[str | None, int]] = {}
    """How often each class was predicted, by what was true; None where a prediction has none.

    Classes are spelled as JSON without quotes. Those that are not in ``classes`` are together under `OTHER`."""
    classes: list[str] = []
    confidence: Histogram = msgspec.field(default_factory=Histogram)
    """Of `CONFIDENCES`."""
    duration_ms: Histogram = msgspec.field(default_factory=Histogram)
    """Of `MILLISECONDS`."""
    stages: dict[str, Histogram] = {}
    """Durations of what else a model does, in `MILLISECONDS`: ``feature_processing``, ``model_load``."""
    refused: int = 0
    """Events that named the model and broke its schema."""
    usage: dict[str, float] = {}
    """What was told last of ``cpu_usage`` and ``gpu_usage``, in percent, and of ``memory_usage_mb``."""

    def plus(self, other: Model, sign: int = 1) -> None:
        """Add those of another, or take them away."""
        self.predictions += sign * other.predictions
        self.refused += sign * other.refused
        if other.errors:
            add_counts(self.errors, other.errors, sign)
        outcomes, classes = self.outcomes, self.classes
        for predicted, truths in other.outcomes.items():
            row = predicted if predicted in classes else self._class(predicted, sign)
            mine = outcomes.get(row)
            if mine is None:
                mine = outcomes[row] = {}
            for truth, count in truths.items():
                column = truth if truth in classes else self._class(truth, sign)
                if left := mine.get(column, 0) + sign * count:
                    mine[column] = left
                else:
                    mine.pop(column, None)
            if not mine:
                del outcomes[row]
        self.confidence.plus(other.confidence, sign)
        self.duration_ms.plus(other.duration_ms, sign)
        for stage, durations in other.stages.items():
            self.stages.setdefault(stage, Histogram()).plus(durations, sign)
        if sign > 0:
            self.usage |= other.usage

    def _class(self, name: str | None, sign: int) -> str | None:
        if name is None or name == OTHER or name in self.classes:
            return name
        if sign < 0 or len(self.classes) >= MAX_CLASSES:
            return OTHER
        self.classes.append(name)
        return name


def estimated(users: list[int]) -> int:
    """Return how many users there are, given the smallest of their hashes."""
    if len(users) < MAX_USERS:
        return len(users)
    return round((MAX_USERS - 1) * USER_HASHES / users[MAX_USERS - 1])


def add_counts(mine: dict[K, int], other: Mapping[K, int], sign: int) -> None:
    """Add counts, or take them away; what is 0 is not there."""
    for key, count in other.items():
        if left := mine.get(key, 0) + sign * count:
            mine[key] = left
        else:
            mine.pop(key, None)
