"""Events to figures of them. What can be done for many at once is not done for each.

A document holds all that is counted, but for refused events. So what a record counted of a document can be told from
the document's bytes.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Literal
from zlib import crc32

import msgspec

from gateway.summary.columns import LANES, LEVELS, USAGE, Pair, Part, classes_of, latest, write
from gateway.summary.figures import (
    CONFIDENCES,
    MAX_CLASSES,
    MAX_MODELS,
    MAX_USERS,
    MILLISECONDS,
    OTHER,
    USER_HASHES,
    Histogram,
    Key,
)
from gateway.summary.summary import Summary

PREDICTIONS, LOGS, OPERATIONS = "ml-metrics", "ml-pipeline", "ml-operations"
"""The indices whose documents are looked at; those of others are counted only."""
STAGES = {"feature_processing_ms": "feature_processing", "model_load_ms": "model_load"}
"""Fields of predictions that no schema knows, with the operation whose ``duration_ms`` means the same."""
MAX_CHARACTERS = 200
"""Longer names of models, versions, classes, services and endpoints are `OTHER`."""
MAX_MS = 1e12
"""Longer durations count as so long: a sum stays a number."""
Unit = Literal["s", "ms"]
UNIT_MS: Mapping[str, float] = {"s": 1000.0, "ms": 1.0}
"""Milliseconds in one unit of a log line's ``duration``."""
TOLD = (
    "model_name", "model_version", "prediction_class", "true_label", "prediction_confidence", "inference_time_ms",
    "user_id", *USAGE,
)  # fmt: skip
Row = tuple[Any, ...]
"""Of a prediction, the values of `TOLD`, None where it has none."""
row_of_all = itemgetter(*TOLD)
"""Return the row of a prediction that has all of them; raise KeyError for others."""
_USER = itemgetter(TOLD.index("user_id"))
_CLASSES = frozenset(("prediction_class", "true_label"))
_TEXTS = frozenset(("model_name", "model_version", "user_id"))
_NUMBERS = frozenset((int, float))
_SPREAD = 2654435769  # 2**32 by the golden ratio: checksums that are alike end far from each other
_HASH = USER_HASHES - 1
_DECODE = msgspec.json.Decoder().decode


def summary_of(documents: Iterable[tuple[str, Sequence[bytes | memoryview]]], unit: Unit) -> Summary:
    """Return the figures of documents, given as JSON by index without prefix and day; ``unit``: of logs' durations.

    Of any number of models, classes and endpoints all are told apart, so that it can be taken away from figures in
    which some are together.
    """
    gathering = Gathering(unit, bounded=False)
    for index, texts in documents:
        gathering.add(index, list(map(_DECODE, texts)))
    return gathering.summary()


class Gathering:
    """Makes one summary of documents that come in parts."""

    def __init__(self, unit: Unit, *, bounded: bool = True) -> None:
        """``unit``: of logs' durations. Unless it is ``bounded`` all models, classes and endpoints are told apart."""
        self._log_ms = UNIT_MS[unit]
        self._bounded = bounded
        self._documents: dict[str, int] = {}
        self._parts: dict[Key, Part] = {}
        self._named: dict[tuple[str | None, str | None], Part] = {}  # the same, by what stands in a row
        self._endpoints: dict[Key, Histogram] = {}
        self._users: set[int] = set()

    def add(self, index: str, documents: Iterable[Mapping[str, Any]]) -> None:
        """Add documents of an index without prefix and day."""
        self.count(index, [self.look(index, document) for document in documents])

    def look(self, index: str, document: Mapping[str, Any]) -> Row | None:
        """Return what is to be counted of a document; of a prediction alone it is more than that it is there."""
        if index == PREDICTIONS:
            if document.get("error") is True:
                errors, sort = self._part(_key(document)).others().errors, str(document.get("error_type"))
                errors[sort] = errors.get(sort, 0) + 1
            for name, measured in STAGES.items():
                if name in document:
                    self._count_stage(document, measured, document[name])
            return tuple([_sound(name, document.get(name)) for name in TOLD])
        if index == LOGS:
            duration = document.get("duration")
            if type(duration) in _NUMBERS and duration >= 0:  # type: ignore[operator]
                key = _named(_text(document.get("service")), _text(document.get("endpoint")))
                key = self._place(key, self._endpoints)
                _put(self._endpoints.setdefault(key, Histogram()), duration * self._log_ms)  # type: ignore[operator]
        elif index == OPERATIONS:
            stage = document.get("operation")
            if stage in STAGES.values() and document.get("status") == "complete":
                self._count_stage(document, str(stage), document.get("duration_ms"))
        return None

    def count(self, index: str, looked: Sequence[Row | None]) -> None:
        """Count documents of an index that were looked at, in their order."""
        self._documents[index] = self._documents.get(index, 0) + len(looked)
        if index == PREDICTIONS:
            self._count_rows(looked)  # type: ignore[arg-type]

    def refuse(self, event: Mapping[str, Any]) -> None:
        """Count an event that broke its schema, if it names a model."""
        if type(event.get("model_name")) is str:
            self._part(_key(event)).others().refused += 1

    def encode(self) -> bytes:
        """Return the figures of all that was counted, as `Summary.encode` does; count no more."""
        self._close()
        return write(self._documents, self._parts, self._endpoints, self._users)

    def summary(self) -> Summary:
        """Return the figures of all that was counted; count no more."""
        self._close()
        models = {key: part.model() for key, part in self._parts.items()}
        return Summary(self._documents, models, self._endpoints, sorted(self._users)[:MAX_USERS])

    def _place(self, key: Key, known: Mapping[Key, object]) -> Key:
        """Return under which name to count: there are `MAX_MODELS` beside `OTHER`."""
        return key if key in known or len(known) < MAX_MODELS or not self._bounded else (OTHER, "")

    def _part(self, key: Key) -> Part:
        key = self._place(key, self._parts)
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = Part()
            part.counts, part.cells = [0] * LANES, defaultdict(int)
        return part

    def _count_rows(self, rows: Sequence[Row]) -> None:
        """Count predictions soon after they were read: what is still at hand is cheap."""
        named = self._named
        for name, version, predicted, truth, confidence, duration, _, cpu, gpu, memory in rows:
            part = named.get((name, version))
            if part is None:
                part = named[name, version] = self._part(_named(name, version))
            if type(predicted) is not str or type(truth) is not str:
                predicted, truth = _spelled(predicted), _spelled(truth)
            part.cells[predicted, truth] += 1
            if confidence is not None:
                part.counts[bisect_left(CONFIDENCES, confidence)] += 1
                part.sure += confidence
            if duration is not None:
                part.counts[LEVELS + bisect_left(MILLISECONDS, duration)] += 1
                part.took += duration if duration < MAX_MS else MAX_MS
            if cpu is not None and gpu is not None and memory is not None:
                part.usage = cpu, gpu, memory
            elif cpu is not None or gpu is not None or memory is not None:
                part.usage = latest(part.usage, (cpu, gpu, memory))
        self._users.update([crc32(user.encode()) * _SPREAD & _HASH for user in map(_USER, rows) if user is not None])

    def _close(self) -> None:
        most = MAX_CLASSES if self._bounded else None
        parts = self._parts.values()
        for part in parts:
            part.predictions = sum(part.cells.values())
            part.cells.pop((None, None), None)
        names = {*chain.from_iterable(chain.from_iterable([part.cells for part in parts]))}
        if len(names) > MAX_CLASSES or any(len(name) > MAX_CHARACTERS for name in names if name is not None):
            for part in parts:
                part.cells = _told_apart(part.cells, most)

    def _count_stage(self, document: Mapping[str, Any], stage: str, value: Any) -> None:
        if type(value) in _NUMBERS and value >= 0:
            stages = self._part(_key(document)).others().stages
            _put(stages.setdefault(stage, Histogram()), value)


def _key(document: Mapping[str, Any]) -> Key:
    """Return model and version that a document names, whatever they are in it."""
    return _named(_text(document.get("model_name")), _text(document.get("model_version")))


def _sound(name: str, value: Any) -> Any:
    """Return a value of a row; None where it is none that a prediction can have, as in a document from elsewhere."""
    if name in _CLASSES:
        return value
    if name in _TEXTS:
        return _text(value)
    return value if type(value) in _NUMBERS and value >= 0 else None


def _text(value: Any) -> str | None:
    return value if type(value) is str else None


def _named(first: str | None, second: str | None) -> Key:
    one, other = first or "", second or ""
    return (one, other) if len(one) <= MAX_CHARACTERS and len(other) <= MAX_CHARACTERS else (OTHER, "")


def _put(histogram: Histogram, duration: float) -> None:
    """Count a duration in milliseconds in its bucket."""
    if not histogram.counts:
        histogram.counts = [0] * (len(MILLISECONDS) + 1)
    histogram.counts[bisect_left(MILLISECONDS, duration)] += 1
    histogram.sum += min(duration, MAX_MS)


def _spelled(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    return json.dumps(value + 0.0 if type(value) is float else value)  # there is one zero


def _told_apart(cells: dict[Pair, int], most: int | None) -> dict[Pair, int]:
    """Return how often there were which pairs of classes, of which so many are told apart."""
    classes = [name for name in classes_of(cells) if len(name) <= MAX_CHARACTERS][:most]
    told: dict[str | None, str | None] = {None: None, **dict(zip(classes, classes, strict=True))}
    found: dict[Pair, int] = defaultdict(int)
    for (predicted, truth), times in cells.items():
        found[told.get(predicted, OTHER), told.get(truth, OTHER)] += times
    return found
