"""What can be counted and measured in a store, and how it answers: the same for both stores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from gateway.store.query import Query, QueryError, check_field

MAX_KEYS = 1000
"""The most values of a field that one answer shows."""
MAX_BUCKETS = 10_000
MAX_METRICS = 20
MAX_KEYWORD, MAX_TEXT = 8191, 1024
"""Characters: a longer string is no key, in a keyword and in a text."""
TOO_MANY_BUCKETS = (
    f"This makes more than {MAX_BUCKETS:,} buckets: ask with a longer interval, a shorter time between from and to, "
    "or a smaller limit."
)
_METRICS = "count, avg:FIELD, sum:FIELD, min:FIELD, max:FIELD, or a percentile such as p95:FIELD or p99.9:FIELD"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Metric(NamedTuple):
    """A figure of a field: ``avg``, ``sum``, ``min``, ``max``, or with ``percent`` set that percentile."""

    name: str
    field: str
    function: str
    percent: float | None


@dataclass(frozen=True)
class Question:
    """What to count and measure, over which documents; raises `QueryError` when it makes no sense.

    Of ``query`` only what chooses documents matters. Buckets are the values of the field ``by``, most
    documents first, the ``limit`` first of them; or the stretches of time of ``interval``, in order; or
    both: each stretch, and in it each of those values; or, with neither, one for everything.
    """

    query: Query
    by: str | None = None
    interval: str | None = None
    """A number and s, m, h or d, such as ``5m``: as long every time, counted from 1970 on, UTC."""
    metrics: tuple[str, ...] = ()
    limit: int = 100

    def __post_init__(self) -> None:
        """Look at everything now, so that no store has to."""
        if self.by == "":
            raise QueryError("by names no field: write by=FIELD, or leave it out.")
        check_field("by", self.by or "")
        for name in self.fields:
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
    def figures(self) -> tuple[Metric, ...]:
        """The metrics, each once; the count is always there and not among them."""
        return tuple(metric for name in dict.fromkeys(self.metrics) if (metric := _metric(name)))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of the metrics, each once."""
        return tuple(dict.fromkeys(metric.field for metric in self.figures))

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
        """The metrics of a field."""
        return [metric for metric in self.figures if metric.field == field]

    def percents(self, field: str) -> list[float]:
        """The percentiles asked of a field, each once."""
        return list(dict.fromkeys(metric.percent for metric in self.of(field) if metric.percent is not None))


@dataclass(frozen=True)
class Aggregation:
    """Buckets, each ``{"key", "count", METRIC…}``; with `by` and `interval` ``{"key", "by", "count", METRIC…}``.

    ``key`` is a value of the field as JSON, or the beginning of a stretch of time, or None for everything.
    A stretch or a value without documents has no bucket. A metric is None where no document of the bucket
    has a number in the field; of a list, each number counts. A document whose field is a list is in the
    bucket of each of its values.
    """

    total: int
    """How many documents fit."""
    missing: int = 0
    """How many of them have no value in the field ``by``."""
    other: int = 0
    """The counts of those values that are not shown, added up."""
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
    if question.interval is None and question.by is None:
        counts = {(None, None): total}
    buckets = []
    for place in sorted(counts, key=lambda place: (place[0] or 0, place[1] or 0)):
        since, key = place
        bucket: dict[str, Any] = {"key": None if since is None else iso(since)}
        if key is not None:
            bucket["key" if since is None else "by"] = keys[key]
        measured = figures.get(place, {})
        bucket |= {"count": counts[place], **{metric.name: measured.get(metric.name) for metric in question.figures}}
        buckets.append(bucket)
    return Aggregation(total, missing, other, buckets)


def iso(us: int, timespec: str = "seconds") -> str:
    """Return a time, given in microseconds since 1970, as ISO 8601 in UTC."""
    when = _EPOCH + timedelta(microseconds=us)
    return when.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def number(value: float) -> int | float:
    """Return a number as a key: 3, not 3.0."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _metric(name: str) -> Metric | None:
    """Read a metric; None is the count."""
    if name == "count":
        return None
    function, _, field = name.partition(":")
    percentile = re.fullmatch(r"p([0-9]{1,3}(?:\.[0-9]{1,4})?)", function)
    percent = float(percentile[1]) if percentile else None
    known = function in ("avg", "sum", "min", "max") or (percent is not None and percent <= 100)
    if not known or not field:
        raise QueryError(f"metric is {name[:100]!r}, it must be one of {_METRICS}.")
    return Metric(name, field, function, percent)
