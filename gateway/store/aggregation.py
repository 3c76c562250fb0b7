"""What can be counted and measured in a store, and how it answers: the same for both stores."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

from gateway.store.query import Query, QueryError, check_field

MAX_KEYS = 1000
"""The most values of a field that one answer shows."""
MAX_BUCKETS = 10_000
MAX_METRICS = 20
MAX_BY = 3
MAX_KEYWORD, MAX_TEXT = 8191, 1024
"""Characters: a longer string is no key, in a keyword and in a text."""
TOO_MANY_BUCKETS = (
    f"This makes more than {MAX_BUCKETS:,} buckets: ask with a longer interval, a shorter time between from and to, "
    "or a smaller limit."
)
NEAR = 1e-9
"""Parts of a width: a number less than this below a bound lies at it, for 0.35 / 0.05 is 6.999999999999999."""
FURTHEST = 2**53
"""Widths from 0: a number further away has no bucket, since two of them could not be told apart."""
_METRICS = (
    "count, count:FIELD, avg:FIELD, sum:FIELD, min:FIELD, max:FIELD, or a percentile such as p95:FIELD or p99.9:FIELD"
)
_WIDTH = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


class Key(NamedTuple):
    """What documents are put into buckets by: a field's values, or with ``width`` its numbers in steps that wide."""

    field: str
    width: Decimal | None

    def bound(self, steps: float) -> int | float | None:
        """Return the lower bound of a bucket, ``steps`` widths from 0, with no more digits than the width has."""
        if self.width is None or not abs(steps) < FURTHEST:
            return None
        return number(float(self.width * int(steps)))


class Metric(NamedTuple):
    """A figure of a field: ``avg``, ``sum``, ``min``, ``max``, or with ``percent`` set that percentile.

    ``count`` is how many documents have a value in the field: one that `Question.by` would find.
    """

    name: str
    field: str
    function: str
    percent: float | None


@dataclass(frozen=True)
class Question:
    """What to count and measure, over which documents; raises `QueryError` when it makes no sense.

    Of ``query`` only what chooses documents matters. Buckets are the values of the field ``by``, or the
    combinations of values of several, most documents first, the ``limit`` first of them; or the stretches of
    time of ``interval``, in order; or both: each stretch, and in it each of those values; or, with neither,
    one for everything.
    """

    query: Query
    by: tuple[str, ...] = ()
    """Up to three. FIELD/WIDTH, such as ``prediction_confidence/0.05``, are the numbers of a field in steps of
    that width: a bucket's key is its lower bound. Alone it comes in order of the key, the ``limit`` with the
    most documents. What follows the last slash is a width when it is a number, else part of the field's name."""
    interval: str | None = None
    """A number and s, m, h or d, such as ``5m``: as long every time, counted from 1970 on, UTC."""
    metrics: tuple[str, ...] = ()
    limit: int = 100

    def __post_init__(self) -> None:
        """Look at everything now, so that no store has to."""
        if len(self.by) > MAX_BY:
            raise QueryError(f"by is given {len(self.by)} times, it may be given {MAX_BY} times.")
        for place, key in enumerate(self.keys):
            if not key.field:
                raise QueryError("by names no field: write by=FIELD, or leave it out.")
            if key in self.keys[:place]:
                raise QueryError(f"by names {self.by[place][:100]!r} twice: once is enough.")
            check_field("by", key.field)
        for name in (*self.fields, *self.counted):
            check_field("metric", name)
        if not 1 <= self.limit <= MAX_KEYS:
            raise QueryError(f"limit is {self.limit}, it must be from 1 to {MAX_KEYS}.")
        if len(self.figures) > MAX_METRICS:
            raise QueryError(f"metric is given {len(self.figures)} times, it may be {MAX_METRICS} times.")
        since, until = self.query.since_us, self.query.until_us
        if self.interval_secs is not None and since is not None and until is not None:
            buckets = (until - since) // (self.interval_secs * 1_000_000)
            if buckets > MAX_BUCKETS:
                raise QueryError(
                    f"interval is {self.interval}, which makes {buckets:,} buckets between from and to: "
                    f"at most {MAX_BUCKETS:,} can be asked for."
                )

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """What ``by`` names."""
        return tuple(map(_key, self.by))

    @property
    def histogram(self) -> bool:
        """Whether the buckets come in order of their key."""
        return len(self.keys) == 1 and self.keys[0].width is not None

    @cached_property
    def figures(self) -> tuple[Metric, ...]:
        """The metrics, each once; the count is always there and not among them."""
        return tuple(metric for name in dict.fromkeys(self.metrics) if (metric := _metric(name)))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields that are measured, each once: not those whose documents are only counted."""
        return tuple(dict.fromkeys(metric.field for metric in self.figures if metric.function != "count"))

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """The fields whose documents are counted, each once."""
        return tuple(dict.fromkeys(metric.field for metric in self.figures if metric.function == "count"))

    @cached_property
    def interval_secs(self) -> int | None:
        """How long a stretch of time is."""
        if self.interval is None:
            return None
        found = re.fullmatch(r"([0-9]{1,6})([smhd])", self.interval)
        if found is None or int(found[1]) == 0:
            raise QueryError(
                f"interval is {self.interval[:20]!r}, it must be a number and s, m, h or d, such as 30s, 5m or 1d."
            )
        return int(found[1]) * _UNITS[found[2]]

    def of(self, field: str) -> list[Metric]:
        """The metrics that measure a field."""
        return [metric for metric in self.figures if metric.field == field and metric.function != "count"]

    def percents(self, field: str) -> list[float]:
        """The percentiles asked of a field, each once."""
        return list(dict.fromkeys(metric.percent for metric in self.of(field) if metric.percent is not None))


@dataclass(frozen=True)
class Aggregation:
    """Buckets, each ``{"key", "count", METRIC…}``; with `by` and `interval` ``{"key", "by", "count", METRIC…}``.

    ``key`` is a value of the field as JSON, or the beginning of a stretch of time, or None for everything; of
    several fields (``key``, with an interval ``by``) a list with the value of each, None where documents have none.
    A stretch or a value without documents has no bucket. A metric is None where no document of the bucket
    has a number in the field, or where those are too large to add up, and 0 when it counts documents; of a list,
    each number counts. A document whose field is a list is in the bucket of each of its values; with several
    lists, of each combination.
    """

    total: int
    """How many documents fit."""
    missing: int = 0
    """How many of them have no value in the field ``by``, or in any of them."""
    other: int = 0
    """The counts of those values, or combinations, that are not shown, added up."""
    buckets: list[dict[str, Any]] = field(default_factory=list)


Place = tuple[int | None, int | None]
"""Where a bucket stands: the beginning of its stretch in microseconds since 1970, the position of its key."""


def aggregation(
    question: Question,
    total: int,
    keys: list[Any],
    counts: Mapping[Place, int],
    figures: Mapping[Place, Mapping[str, float | None]],
    missing: int = 0,
    other: int = 0,
) -> Aggregation:
    """Put an answer together: ``figures`` by place and name of the metric; raise `QueryError` for too many buckets."""
    if len(counts) > MAX_BUCKETS:
        raise QueryError(TOO_MANY_BUCKETS)
    if question.interval is None and not question.by:
        counts = {(None, None): total}
    buckets = []
    for place in sorted(counts, key=lambda place: (place[0] or 0, place[1] or 0)):
        since, key = place
        bucket: dict[str, Any] = {"key": None if since is None else iso(since)}
        if key is not None:
            bucket["key" if since is None else "by"] = keys[key]
        nothing = {metric.name: 0 if metric.function == "count" else None for metric in question.figures}
        measured = {name: _sound(value) for name, value in figures.get(place, {}).items()}
        bucket |= {"count": counts[place], **nothing, **measured}
        buckets.append(bucket)
    return Aggregation(total, missing, other, buckets)


def iso(us: int, timespec: str = "seconds") -> str:
    """Return a time, given in microseconds since 1970, as ISO 8601 in UTC; what is before the year 1 as its beginning.

    A stretch of many years may begin there.
    """
    when = _EPOCH + timedelta(microseconds=max(us, _FIRST_US))
    return when.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def _sound(value: float | None) -> float | None:
    """Return a figure; None for what is no number, as the sum of some that are too large (Elasticsearch: a string)."""
    return None if value is None or not math.isfinite(float(value)) else value


def number(value: float) -> int | float:
    """Return a number as a key: 3, not 3.0."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _key(name: str) -> Key:
    """Read a ``by``."""
    field, slash, width = name.rpartition("/")
    if not slash or not _WIDTH.fullmatch(width):
        return Key(name, None)
    if not (math.isfinite(float(width)) and float(width) > 0):
        raise QueryError(
            f"by is {name[:100]!r}: after the slash stands the width of a bucket, a number above 0 such as {field}/10."
        )
    return Key(field, Decimal(width))


def _metric(name: str) -> Metric | None:
    """Read a metric; None is the count."""
    if name == "count":
        return None
    function, _, field = name.partition(":")
    percentile = re.fullmatch(r"p([0-9]{1,3}(?:\.[0-9]{1,4})?)", function)
    percent = float(percentile[1]) if percentile else None
    known = function in ("count", "avg", "sum", "min", "max") or (percent is not None and percent <= 100)
    if not known or not field:
        raise QueryError(f"metric is {name[:100]!r}, it must be one of {_METRICS}.")
    return Metric(name, field, function, percent)
