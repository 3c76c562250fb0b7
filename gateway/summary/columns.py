"""Figures of all models as bytes: what each of them has stands in columns, so that records are added up in few calls.

Written is MessagePack, a list for each class; a later version may put fields at the end of them, which this one passes
over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, count
from struct import pack, unpack

import msgspec

from gateway.summary.figures import (
    CONFIDENCES,
    MAX_USERS,
    MILLISECONDS,
    OTHER,
    USER_HASHES,
    Histogram,
    Key,
    Model,
    add_counts,
)

LEVELS, LENGTHS = len(CONFIDENCES) + 1, len(MILLISECONDS) + 1
LANES = LEVELS + LENGTHS
"""Counts of a model: of confidences, then of durations."""
USAGE = ("cpu_usage", "gpu_usage", "memory_usage_mb")
_LANE_BYTES = 8  # as they are added up
_MAX_BYTE = 255
_ROW_BYTES = LANES * _LANE_BYTES
_UNUSED = (None,) * len(USAGE)
Pair = tuple[str | None, str | None]
"""A predicted class, and the true one."""


class Rest(msgspec.Struct, array_like=True):
    """What few models have."""

    errors: dict[str, int] = {}
    stages: dict[str, Histogram] = {}
    refused: int = 0
    classes: list[str] = []
    """Those of the model, where they are not just the ones that are among its pairs, in their order."""


class Part:
    """What is counted of one model."""

    __slots__ = ("cells", "counts", "lanes", "predictions", "rest", "sure", "took", "usage")

    def __init__(self) -> None:
        self.predictions = 0
        self.counts: list[int] = []
        """As many as `LANES`, or none when they are added up in lanes."""
        self.lanes = 0
        """The counts as one number, in which none of them reaches the next one: so they are added all at once."""
        self.sure = 0.0
        self.took = 0.0
        self.cells: dict[Pair, int] = {}
        self.usage: Sequence[float | None] = _UNUSED
        self.rest: Rest | None = None

    def others(self) -> Rest:
        """Return what few models have, to be changed."""
        if self.rest is None:
            self.rest = Rest()
        return self.rest

    def model(self) -> Model:
        """Return it as figures."""
        counts = self.counts or list(unpack(f"<{LANES}Q", self.lanes.to_bytes(_ROW_BYTES, "little")))
        outcomes: dict[str | None, dict[str | None, int]] = {}
        for (predicted, truth), times in self.cells.items():
            outcomes.setdefault(predicted, {})[truth] = times
        rest = self.rest or Rest()
        levels, lengths = counts[:LEVELS], counts[LEVELS:]
        return Model(
            predictions=self.predictions,
            errors=rest.errors,
            outcomes=outcomes,
            classes=list(dict.fromkeys([*rest.classes, *classes_of(self.cells)])),
            confidence=Histogram(levels, self.sure) if any(levels) else Histogram(),
            duration_ms=Histogram(lengths, self.took) if any(lengths) else Histogram(),
            stages=rest.stages,
            refused=rest.refused,
            usage={name: value for name, value in zip(USAGE, self.usage, strict=True) if value is not None},
        )


class _Columns(msgspec.Struct, array_like=True):
    """What is written. For each of ``keys``: one number, `LANES` counts, two sums, as many values as `USAGE`."""

    indices: dict[str, int]
    keys: list[Key]
    predictions: list[int]
    counts: bytes
    """A byte each; 0 for those that are larger."""
    large: dict[int, int]
    """Those, by number among all counts."""
    sums: list[float]
    usage: list[float | None]
    pairs: list[Pair]
    cells: list[int]
    """Three numbers each: that of the key, that of the pair, how often."""
    rest: dict[int, Rest]
    endpoints: dict[Key, Histogram]
    users: bytes


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(_Columns).decode


def write(
    indices: dict[str, int], parts: Mapping[Key, Part], endpoints: dict[Key, Histogram], users: Collection[int]
) -> bytes:
    """Return figures as bytes; of each part the ``counts``. Users come in any order."""
    if len(users) > 2 * MAX_USERS:
        users = sorted(users)[:MAX_USERS]
    pairs: dict[Pair, int] = {}
    cells: list[int] = []
    sums: list[float] = []
    usage: list[float | None] = []
    rest: dict[int, Rest] = {}
    found = parts.values()
    for number, part in enumerate(found):
        sums += (part.sure, part.took)
        usage += part.usage
        for pair, times in part.cells.items():
            cells += (number, pairs.setdefault(pair, len(pairs)), times)
        if part.rest is not None:
            rest[number] = part.rest
    counts = list(chain.from_iterable([part.counts for part in found]))
    large: dict[int, int] = {}
    try:
        lanes = bytes(counts)
    except ValueError:
        large = {at: each for at, each in enumerate(counts) if each > _MAX_BYTE}
        lanes = bytes([each if 0 <= each <= _MAX_BYTE else 0 for each in counts])
    return _ENCODE(
        _Columns(
            indices, list(parts), [part.predictions for part in found], lanes, large, sums, usage, list(pairs), cells,
            rest, endpoints, pack(f"<{len(users)}I", *users),
        )
    )  # fmt: skip


class Sum:
    """Adds up what was written."""

    def __init__(self, users: Sequence[int] = ()) -> None:
        """``users``: those that are known already, rising; only smaller ones can come to them when they are many."""
        self.indices: dict[str, int] = {}
        self.endpoints: dict[Key, Histogram] = {}
        self.users = set(users)
        self._users_below = users[-1] if len(users) >= MAX_USERS else USER_HASHES
        self._parts: dict[Key, Part] = {}

    def models(self) -> dict[Key, Model]:
        """Return the models, all of them and all classes by name."""
        return {key: part.model() for key, part in self._parts.items()}

    def add(self, data: bytes | memoryview) -> dict[str, int]:
        """Add what was written; return its documents by index. Raises `msgspec.MsgspecError` for anything else."""
        new = _DECODE(data)
        many = len(new.keys)
        if (
            len(new.predictions) != many
            or len(new.counts) != many * LANES
            or len(new.sums) != many * 2
            or len(new.usage) != many * len(USAGE)
        ):
            raise msgspec.ValidationError("The columns are not of one length.")
        lanes = bytearray(many * _ROW_BYTES)
        lanes[::_LANE_BYTES] = new.counts
        own: list[Part] = []
        parts, sums, usage = self._parts, iter(new.sums), iter(new.usage)
        for key, predictions, at, sure, took, used in zip(
            new.keys, new.predictions, count(0, _ROW_BYTES), sums, sums, zip(usage, usage, usage, strict=True),
            strict=False,  # there is no end of places
        ):  # fmt: skip
            part = parts.get(key)
            if part is None:
                part = parts[key] = Part()
            own.append(part)
            part.predictions += predictions
            part.lanes += int.from_bytes(lanes[at : at + _ROW_BYTES], "little")
            part.sure += sure
            part.took += took
            part.usage = latest(part.usage, used) if None in used else used
        for at, times in new.large.items():
            own[at // LANES].lanes += times << at % LANES * _LANE_BYTES * 8
        cells, pairs = iter(new.cells), new.pairs
        for number, place, times in zip(cells, cells, cells, strict=True):
            mine, pair = own[number].cells, pairs[place]
            mine[pair] = mine.get(pair, 0) + times
        for number, rest in new.rest.items():
            _add_rest(own[number].others(), rest)
        for key, durations in new.endpoints.items():
            self.endpoints.setdefault(key, Histogram()).plus(durations)
        add_counts(self.indices, new.indices, 1)
        below = self._users_below
        self.users.update([each for each in unpack(f"<{len(new.users) // 4}I", new.users) if each < below])
        return new.indices


def names(data: bytes | memoryview) -> tuple[dict[str, int], list[Key], Iterable[Key]]:
    """Return what was written is about: documents by index, models with predictions, endpoints."""
    found = _DECODE(data)
    models = [key for key, predictions in zip(found.keys, found.predictions, strict=True) if predictions]
    return found.indices, models, found.endpoints


def part_of(model: Model) -> Part:
    """Return a model's figures as they are written."""
    part = Part()
    part.predictions = model.predictions
    part.counts = [*(model.confidence.counts or [0] * LEVELS), *(model.duration_ms.counts or [0] * LENGTHS)]
    part.sure, part.took = model.confidence.sum, model.duration_ms.sum
    part.cells = {(one, other): times for one, row in model.outcomes.items() for other, times in row.items()}
    part.usage = [model.usage.get(name) for name in USAGE]
    classes = [] if model.classes == classes_of(part.cells) else model.classes
    if model.errors or model.stages or model.refused or classes:
        part.rest = Rest(model.errors, model.stages, model.refused, classes)
    return part


def classes_of(pairs: Iterable[Pair]) -> list[str]:
    """Return the classes of pairs, without `OTHER`, in their order."""
    found = dict.fromkeys(chain.from_iterable(pairs))
    return [name for name in found if name is not None and name != OTHER]


def latest(one: Iterable[float | None], other: Iterable[float | None]) -> list[float | None]:
    """Return the other values, and the ones before where there are none."""
    return [before if value is None else value for before, value in zip(one, other, strict=True)]


def _add_rest(mine: Rest, other: Rest) -> None:
    add_counts(mine.errors, other.errors, 1)
    for stage, durations in other.stages.items():
        mine.stages.setdefault(stage, Histogram()).plus(durations)
    mine.refused += other.refused
    mine.classes += [name for name in other.classes if name not in mine.classes]
