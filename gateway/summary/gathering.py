"""Events to figures of them. What can be done for many at once is not done for each.

A document holds all that is counted, but for refused events. So what a record counted of a document can be told from
the document's bytes.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, Literal, cast
from zlib import crc32

import msgspec

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
    Model,
    Summary,
)

PREDICTIONS, LOGS, OPERATIONS = "ml-metrics", "ml-pipeline", "ml-operations"
"""The indices whose documents are looked at; those of others are counted only."""
STAGES = {"feature_processing_ms": "feature_processing", "model_load_ms": "model_load"}
"""Fields of predictions that no schema knows, with the operation whose ``duration_ms`` means the same."""
USAGE = ("cpu_usage", "gpu_usage", "memory_usage_mb")
MAX_CHARACTERS = 200
"""Longer names of models, versions, classes, services and endpoints are `OTHER`."""
MAX_MS = 1e12
"""Longer durations count as so long: a sum stays a number."""
COUNTED_AT_ONCE = 1000
"""Documents: under a millisecond of work."""

Unit = Literal["s", "ms"]
_UNITS = {"s": 1000.0, "ms": 1.0}
_TOLD = (
    "model_name", "model_version", "prediction_class", "true_label", "prediction_confidence", "inference_time_ms",
    "user_id", *USAGE,
)  # fmt: skip
_ROW = itemgetter(*_TOLD)
_KEY = itemgetter(0, 1)
_USER = itemgetter(_TOLD.index("user_id"))
_NUMBERS = frozenset((int, float))
_SPREAD = 0x9E3779B97F4A7C15  # 2**64 by the golden ratio: checksums that are alike end far from each other
_DECODE = msgspec.json.Decoder().decode
_Cells = dict[tuple[str | None, str | None], int]


def summary_of(documents: Iterable[tuple[str, Sequence[bytes | memoryview]]], unit: Unit) -> Summary:
    """Return the figures of documents, given as JSON by index without prefix and day; ``unit``: of logs' durations.

    Of any number of models, classes and endpoints all are told apart, so that it can be taken away from figures in
    which some are together.
    """
    gathering = Gathering(unit)
    for index, texts in documents:
        gathering.add(index, list(map(_DECODE, texts)))
    return gathering.summary(bounded=False)


class Gathering:
    """Makes one summary of documents that come in parts."""

    def __init__(self, unit: Unit) -> None:
        """``unit``: of logs' durations."""
        self._log_ms = _UNITS[unit]
        self._counted: dict[str, int] = {}
        self._waiting: list[Mapping[str, Any]] = []  # predictions
        self._models: dict[Key, Model] = {}
        self._cells: dict[Key, _Cells] = {}
        self._endpoints: dict[Key, Histogram] = {}
        self._users: set[str | None] = set()

    def add(self, index: str, documents: Sequence[Mapping[str, Any]]) -> None:
        """Add documents of an index without prefix and day; they are looked at until `summary` returns."""
        self._counted[index] = self._counted.get(index, 0) + len(documents)
        if index == PREDICTIONS:
            self._waiting += documents
            if len(self._waiting) >= COUNTED_AT_ONCE:
                self._count()
        elif index == LOGS:
            self._count_logs(documents)
        elif index == OPERATIONS:
            self._count_operations(documents)

    def refuse(self, event: Mapping[str, Any]) -> None:
        """Count an event that broke its schema, if it names a model."""
        name, version = event.get("model_name"), event.get("model_version")
        if type(name) is str:
            self._model(_named((name, version if type(version) is str else None))).refused += 1

    def summary(self, *, bounded: bool = True) -> Summary:
        """Return the figures of all that was added; unless ``bounded`` all models, classes and endpoints by name."""
        self._count()
        users = {(crc32(user.encode()) * _SPREAD >> 32) % USER_HASHES for user in self._users if user is not None}
        made = Summary(self._counted, users=sorted(users)[:MAX_USERS])
        limit = MAX_MODELS if bounded else len(self._models) + len(self._endpoints)
        for key, cells in self._cells.items():
            model = self._models[key]
            model.outcomes, model.classes = _table(cells, MAX_CLASSES if bounded else 2 * len(cells))
        for key, model in self._models.items():
            if len(made.models) < limit:
                made.models[key] = model
            else:
                made.models.setdefault((OTHER, ""), Model()).plus(model)
        for key, durations in self._endpoints.items():
            if len(made.endpoints) < limit:
                made.endpoints[key] = durations
            else:
                made.endpoints.setdefault((OTHER, ""), Histogram()).plus(durations)
        return made

    def _model(self, key: Key) -> Model:
        model = self._models.get(key)
        if model is None:
            model = self._models[key] = Model()
        return model

    def _count(self) -> None:
        """Count the predictions that wait."""
        documents, self._waiting = self._waiting, []
        if not documents:
            return
        try:
            rows = list(map(_ROW, documents))
        except KeyError:  # they have not all of them
            rows = list(zip(*(map(dict.get, documents, repeat(name)) for name in _TOLD), strict=True))  # type: ignore[arg-type]
        groups: dict[tuple[str, str | None], list[tuple[Any, ...]]] = defaultdict(list)
        deque(map(list.append, map(groups.__getitem__, map(_KEY, rows)), rows), maxlen=0)
        for key, group in groups.items():
            self._count_group(_named(key), group)
        self._users.update(map(_USER, rows))
        failed = list(map(dict.get, documents, repeat("error")))  # type: ignore[arg-type]
        if True in failed:
            for document in documents:
                if document.get("error") is True:
                    errors = self._model(_key(document)).errors
                    sort = str(document.get("error_type"))
                    errors[sort] = errors.get(sort, 0) + 1
        for name, stage in STAGES.items():
            values = list(map(dict.get, documents, repeat(name)))  # type: ignore[arg-type]
            if values.count(None) < len(values):
                for document, value in zip(documents, values, strict=True):
                    self._count_stage(_key(document), stage, value)

    def _count_group(self, key: Key, rows: list[tuple[Any, ...]]) -> None:
        """Count predictions of one model and version."""
        model = self._model(key)
        model.predictions += len(rows)
        _, _, predicted, truths, confidences, durations, _, *usage = zip(*rows, strict=True)
        cells = self._cells.setdefault(key, {})
        for cell, count in _cells(predicted, truths):
            cells[cell] = cells.get(cell, 0) + count
        _put(model.confidence, CONFIDENCES, confidences)
        _put(model.duration_ms, MILLISECONDS, durations)
        for name, values in zip(USAGE, usage, strict=True):
            latest = values[-1]
            if latest is None:
                latest = next((value for value in reversed(values) if value is not None), None)
            if latest is not None:
                model.usage[name] = latest

    def _count_stage(self, key: Key, stage: str, value: Any) -> None:
        if type(value) in _NUMBERS and value >= 0:
            _put(self._model(key).stages.setdefault(stage, Histogram()), MILLISECONDS, (value,))

    def _count_logs(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Count durations of requests; one below nothing is none."""
        groups: dict[tuple[str | None, str | None], list[float]] = defaultdict(list)
        for document in documents:
            duration = document.get("duration")
            if duration is not None and duration >= 0:
                groups[document.get("service"), document.get("endpoint")].append(duration * self._log_ms)
        for key, durations in groups.items():
            _put(self._endpoints.setdefault(_named(key), Histogram()), MILLISECONDS, durations)

    def _count_operations(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Count operations that are stages of a model and came to their end."""
        for document in documents:
            stage = document.get("operation")
            if stage in STAGES.values() and document.get("status") == "complete":
                self._count_stage(_key(document), str(stage), document.get("duration_ms"))


def _key(document: Mapping[str, Any]) -> Key:
    """Return model and version that a document names, whatever they are in it."""
    names = document.get("model_name"), document.get("model_version")
    return _named(tuple(name if type(name) is str else None for name in names))  # type: ignore[arg-type]


def _named(key: tuple[str | None, str | None]) -> Key:
    first, second = key[0] or "", key[1] or ""
    return (first, second) if len(first) <= MAX_CHARACTERS and len(second) <= MAX_CHARACTERS else (OTHER, "")


def _put(histogram: Histogram, bounds: tuple[float, ...], found: Sequence[float | None]) -> None:
    """Count values in their buckets."""
    values = [value for value in found if value is not None] if None in found else cast(Sequence[float], found)
    if not values:
        return
    if not histogram.counts:
        histogram.counts = [0] * (len(bounds) + 1)
    counts = histogram.counts
    for bucket in map(bisect_left, repeat(bounds), values):
        counts[bucket] += 1
    total = sum(values)
    if total > MAX_MS:
        total = sum(min(value, MAX_MS) for value in values)
    histogram.sum += total


def _cells(predicted: tuple[Any, ...], truths: tuple[Any, ...]) -> Iterable[tuple[tuple[str | None, str | None], int]]:
    """Count what was predicted by what was true, as they are spelled."""
    try:  # by far the fastest way to see that all are strings, of which those that are equal are spelled alike
        "".join(predicted), "".join(truths)
    except TypeError:
        kinds = Counter(zip(map(type, predicted), predicted, map(type, truths), truths, strict=True))
        return [((_spelled(one), _spelled(other)), count) for (_, one, _, other), count in kinds.items()]
    return Counter(zip(predicted, truths, strict=True)).items()


def _spelled(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    return json.dumps(value + 0.0 if type(value) is float else value)  # there is one zero


def _table(cells: _Cells, most: int) -> tuple[dict[str | None, dict[str | None, int]], list[str]]:
    """Return outcomes and their classes, of which so many are told apart."""
    outcomes: dict[str | None, dict[str | None, int]] = {}
    classes: dict[str | None, str | None] = {None: None}
    for cell, count in cells.items():
        predicted, truth = cell
        if predicted is None and truth is None:
            continue
        for name in cell:
            if name not in classes:
                is_told = len(classes) <= most and len(name or "") <= MAX_CHARACTERS and name != OTHER
                classes[name] = name if is_told else OTHER
        row = outcomes.setdefault(classes[predicted], {})
        row[classes[truth]] = row.get(classes[truth], 0) + count
    return outcomes, [name for name, told in classes.items() if name not in (None, OTHER) and name == told]
