"""Events to figures of them. What can be done for many at once is not done for each.

A document holds all that is counted, but for refused events. So what a record counted of a document can be told from
the document's bytes.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal
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
MAX_CHARACTERS = 200
"""Longer names of models, versions, classes, services and endpoints are `OTHER`."""
MAX_MS = 1e12
"""Longer durations count as so long: a sum stays a number."""
COUNTED_AT_ONCE = 1500
"""Documents: a millisecond of work, and more than one read brings."""

Unit = Literal["s", "ms"]
_UNITS = {"s": 1000.0, "ms": 1.0}
TOLD = (
    "model_name", "model_version", "prediction_class", "true_label", "prediction_confidence", "inference_time_ms",
    "user_id", "cpu_usage", "gpu_usage", "memory_usage_mb",
)  # fmt: skip
Row = tuple[Any, ...]
"""Of a prediction, the values of `TOLD`, None where it has none."""
row_of_all = itemgetter(*TOLD)
"""Return the row of a prediction that has all of them; raise KeyError for others."""
_KEY = itemgetter(0, 1)
_USER = itemgetter(TOLD.index("user_id"))
_USAGE = tuple((at, name) for at, name in enumerate(TOLD) if "usage" in name)
_CLASSES = frozenset(("prediction_class", "true_label"))
_TEXTS = frozenset(("model_name", "model_version", "user_id"))
_NUMBERS = frozenset((int, float))
_SPREAD = 2654435769  # 2**32 by the golden ratio: checksums that are alike end far from each other
_HASH = USER_HASHES - 1
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
        self._documents: dict[str, int] = {}
        self._rows: list[Row] = []
        self._models: dict[Key, Model] = {}
        self._cells: dict[Key, _Cells] = {}
        self._endpoints: dict[Key, Histogram] = {}
        self._users: set[int] = set()

    def add(self, index: str, documents: Iterable[Mapping[str, Any]]) -> None:
        """Add documents of an index without prefix and day."""
        self.count(index, [self.look(index, document) for document in documents])

    def look(self, index: str, document: Mapping[str, Any]) -> Row | None:
        """Return what is to be counted of a document; of a prediction alone it is more than that it is there."""
        if index == PREDICTIONS:
            if document.get("error") is True:
                errors, sort = self._model(_key(document)).errors, str(document.get("error_type"))
                errors[sort] = errors.get(sort, 0) + 1
            for name, measured in STAGES.items():
                if name in document:
                    self._count_stage(document, measured, document[name])
            return tuple([_sound(name, document.get(name)) for name in TOLD])
        if index == LOGS:
            duration = document.get("duration")
            if type(duration) in _NUMBERS and duration >= 0:  # type: ignore[operator]
                key = _named(_text(document.get("service")), _text(document.get("endpoint")))
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
            self._rows += looked  # type: ignore[arg-type]
            if len(self._rows) >= COUNTED_AT_ONCE:
                self._count_rows()

    def refuse(self, event: Mapping[str, Any]) -> None:
        """Count an event that broke its schema, if it names a model."""
        if type(event.get("model_name")) is str:
            self._model(_key(event)).refused += 1

    def summary(self, *, bounded: bool = True) -> Summary:
        """Return the figures of all that was counted; unless ``bounded`` all models, classes and endpoints by name."""
        self._count_rows()
        made = Summary(self._documents, users=sorted(self._users)[:MAX_USERS])
        limit = MAX_MODELS if bounded else len(self._models) + len(self._endpoints)
        for key, cells in self._cells.items():
            model = self._models[key]
            model.outcomes, model.classes = _table(cells, MAX_CLASSES if bounded else 2 * len(cells))
        if len(self._models) <= limit:
            made.models = self._models
        else:
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

    def _count_rows(self) -> None:
        """Count the predictions that wait."""
        rows, self._rows = self._rows, []
        groups: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
        deque(map(list.append, map(groups.__getitem__, map(_KEY, rows)), rows), maxlen=0)
        for (name, version), group in groups.items():
            self._count_group(_named(name, version), group)
        self._users.update([crc32(user.encode()) * _SPREAD & _HASH for user in map(_USER, rows) if user is not None])

    def _count_group(self, key: Key, rows: list[Row]) -> None:
        """Count predictions of one model and version: in one loop, since most groups are small."""
        model = self._model(key)
        model.predictions += len(rows)
        cells = self._cells.get(key)
        if cells is None:
            cells = self._cells[key] = {}
        levels = model.confidence.counts or [0] * (len(CONFIDENCES) + 1)
        lengths = model.duration_ms.counts or [0] * (len(MILLISECONDS) + 1)
        sure = took = 0.0
        for _, _, predicted, truth, confidence, duration, _, _, _, _ in rows:
            if type(predicted) is not str or type(truth) is not str:
                predicted, truth = _spelled(predicted), _spelled(truth)
            cell = predicted, truth
            cells[cell] = cells.get(cell, 0) + 1
            if confidence is not None:
                levels[bisect_left(CONFIDENCES, confidence)] += 1
                sure += confidence
            if duration is not None:
                lengths[bisect_left(MILLISECONDS, duration)] += 1
                took += duration if duration < MAX_MS else MAX_MS
        if any(levels):
            model.confidence = Histogram(levels, model.confidence.sum + sure)
        if any(lengths):
            model.duration_ms = Histogram(lengths, model.duration_ms.sum + took)
        usage = model.usage
        for at, name in _USAGE:
            latest = rows[-1][at]
            if latest is None:
                latest = next((row[at] for row in reversed(rows) if row[at] is not None), None)
            if latest is not None:
                usage[name] = latest

    def _count_stage(self, document: Mapping[str, Any], stage: str, value: Any) -> None:
        if type(value) in _NUMBERS and value >= 0:
            stages = self._model(_key(document)).stages
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


def _table(cells: _Cells, most: int) -> tuple[dict[str | None, dict[str | None, int]], list[str]]:
    """Return outcomes and their classes, of which so many are told apart."""
    cells.pop((None, None), None)
    names: dict[Any, None] = {}
    outcomes: dict[str | None, dict[str | None, int]] = {}
    for (predicted, truth), count in cells.items():
        names[predicted] = names[truth] = None
        if predicted in outcomes:
            outcomes[predicted][truth] = count
        else:
            outcomes[predicted] = {truth: count}
    names.pop(None, None)
    if len(names) <= most and OTHER not in names and len("".join(names)) <= MAX_CHARACTERS:
        return outcomes, list(names)
    classes = [name for name in names if len(name) <= MAX_CHARACTERS and name != OTHER][:most]
    told: dict[str | None, str | None] = {None: None, **dict(zip(classes, classes, strict=True))}
    outcomes = {}
    for (predicted, truth), count in cells.items():
        row, column = outcomes.setdefault(told.get(predicted, OTHER), {}), told.get(truth, OTHER)
        row[column] = row.get(column, 0) + count
    return outcomes, classes
