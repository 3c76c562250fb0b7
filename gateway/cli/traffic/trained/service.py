"""A trained model in service: which rows come, what goes wrong with them, and what is measured."""

import resource
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.cli.traffic.scenario import Effects
from gateway.cli.traffic.trained.data import Numbers
from gateway.cli.traffic.trained.training import Version

# At the end of a scenario, in standard deviations of each column, and as a share of the values.
_SHIFT = 1.2
_NOISE = 1.5
_MISSING = 0.1

_CHECKED_ROWS = 200
_MOST_DISTANCE = 0.3
_LEAST_COMPLETE = 0.95
_USAGE_SECS = 0.5


@dataclass(frozen=True, slots=True)
class Request:
    """A row on its way to the model: its position among the served rows, and its features as they arrive."""

    position: int
    features: Numbers
    quality: float
    """The part of the features that are there and within two standard deviations of what was learned from."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one timed call of `predict_proba` gave: a class by its position, or the error it raised."""

    milliseconds: float
    position: int = 0
    confidence: float = 0.0
    error: str = ""


class Service:
    """Serves the second half of a dataset row by row, over and over, with two versions of a model."""

    def __init__(self, versions: tuple[Version, Version], random: np.random.Generator) -> None:
        self.versions = versions
        self.dataset = versions[0].dataset
        self._random = random
        self._order = random.permutation(len(self.dataset.served))
        self._next = 0
        self._direction = np.random.default_rng(0).choice((-1.0, 1.0), len(self.dataset.columns))
        # Full from the start, with the rows before the first: a few rows would look like drift by chance.
        self._arrived = deque(self.dataset.served[self._order[-_CHECKED_ROWS:]], maxlen=_CHECKED_ROWS)

    def request(self, effects: Effects) -> Request:
        """Bring the next row. Under drift its features are moved, and some are missing."""
        position = int(self._order[self._next])
        self._next = (self._next + 1) % len(self._order)
        features = self.dataset.served[position].copy()
        if effects.drift:
            features += effects.drift * _SHIFT * self._direction * self.dataset.spread
            features[self._random.random(features.size) < effects.drift * _MISSING] = np.nan
        self._arrived.append(features)
        usual = np.abs(features - self.dataset.mean) <= 2 * self.dataset.spread
        return Request(position, features, float(usual.mean()))

    def answer(self, version: Version, request: Request, degradation: float = 0.0) -> Answer:
        """Let a version predict a row; with `degradation` (0 to 1) its features get lost in noise on the way.

        The noise is the version's own: it comes after the check of the data.
        """
        features = np.where(np.isnan(request.features), self.dataset.mean, request.features)
        if degradation:
            features += degradation * _NOISE * self.dataset.spread * self._random.standard_normal(features.size)
        return _call(version.estimator, features.reshape(1, -1))

    def refuse(self, version: Version, request: Request, mistake: int) -> Answer:
        """Call a version with a row that its client got wrong, in one of three ways; the error is scikit-learn's."""
        row = request.features.reshape(1, -1)
        wrong = (row[:, 1:], np.array([["n/a", *row[0, 1:]]], dtype=object), row[:0])
        return _call(version.estimator, wrong[mistake % len(wrong)])

    def check(self, column: int) -> dict[str, Any]:
        """Compare a column of the last rows that arrived with the rows learned from."""
        values = np.array([features[column] for features in self._arrived])
        there = values[~np.isnan(values)]
        distance, complete = self.dataset.distance(column, there), there.size / values.size
        return {
            "dataset_name": self.dataset.name,
            "check_name": "distribution",
            "column": self.dataset.columns[column],
            "score": complete,
            "drift_score": distance,
            "passed": distance < _MOST_DISTANCE and complete >= _LEAST_COMPLETE,
            "row_count": values.size,
            "missing_count": values.size - there.size,
        }


class Usage:
    """What this process uses, measured twice a second at most."""

    def __init__(self) -> None:
        self._measured_at, self._spent = time.perf_counter(), time.process_time()
        self._current: tuple[float, float] | None = None

    def measured(self) -> tuple[float, float]:
        """Return the CPU in percent of a core since the measurement before, and the peak of the memory in MB."""
        now = time.perf_counter()
        if self._current is None or now - self._measured_at >= _USAGE_SECS:
            spent = time.process_time()
            cpu = 100 * (spent - self._spent) / (now - self._measured_at)
            unit = 1 if sys.platform == "darwin" else 1024
            memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
            self._measured_at, self._spent = now, spent
            self._current = round(cpu, 1), round(memory_mb, 1)
        return self._current


def _call(estimator: Any, rows: Any) -> Answer:
    started = time.perf_counter()
    try:
        probabilities = estimator.predict_proba(rows)[0]
    except ValueError as error:
        milliseconds = _since(started)
        return Answer(milliseconds, error=f"ValueError: {str(error).splitlines()[0]}")
    milliseconds = _since(started)
    best = int(probabilities.argmax())
    # The shares are normalised: their rounding may end a hair above 1.
    return Answer(milliseconds, best, min(1.0, float(probabilities[best])))


def _since(started: float) -> float:
    """Give the milliseconds since then, to a tenth of a microsecond."""
    return round((time.perf_counter() - started) * 1000, 4)
