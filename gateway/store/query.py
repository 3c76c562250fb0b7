"""What can be asked of a store, and what it answers: the same for both stores."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.errors import GatewayError

MAX_LIMIT = 10_000
# An engine plans a statement in time and memory that grow with the square of these, and planning cannot be broken off.
MAX_CONDITIONS = 20
MAX_PATTERNS = 100
MAX_PARTS = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A + that was not escaped in an address arrives as a blank: 12:00:00 01:00.
_UNESCAPED_PLUS = re.compile(r"(:\d\d(?:[.,]\d+)?) (?=\d\d(?::?\d\d)?$)")
_MICROSECOND = timedelta(microseconds=1)


class QueryError(GatewayError):
    """The question is wrong: change it and ask again."""


class UnknownIndex(QueryError):
    """There is no index of this name; the text names those nearest to it."""


class StoreUnavailable(GatewayError):
    """The store does not answer now: ask again later."""


class StoreOpening(StoreUnavailable):
    """The store is not open yet: ask again in a moment."""


@dataclass(frozen=True)
class Query:
    """Which documents; raises `QueryError` when it makes no sense.

    A document fits when each ``where`` (field, value) is equal in it, in any element of a list;
    when each word of ``text`` is part of one of its strings, whatever the case; and when its
    ``@timestamp`` is not before ``since`` and before ``until``.
    """

    index: str = "*"
    """Index names, several by comma; ``*`` stands for any characters."""
    since: str | None = None
    until: str | None = None
    where: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    limit: int = 50
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Look at everything now, so that no store has to."""
        if not 1 <= self.limit <= MAX_LIMIT:
            raise QueryError(f"limit is {self.limit}, it must be from 1 to {MAX_LIMIT}.")
        for name, _ in self.where:
            if not name:
                raise QueryError("where has no field, write it as FIELD:VALUE.")
            check_field("where", name)
        if len(self.where) + len(self.words) > MAX_CONDITIONS:
            raise QueryError(
                f"where is given {len(self.where)} times and q has {len(self.words)} words: "
                f"together they may be {MAX_CONDITIONS}."
            )
        if len(self.patterns) > MAX_PATTERNS:
            raise QueryError(f"index names {len(self.patterns)} indices or patterns, it may name {MAX_PATTERNS}.")
        _ = self.since_us, self.until_us

    @property
    def patterns(self) -> list[str]:
        """The index patterns."""
        return [pattern.strip() for pattern in self.index.split(",") if pattern.strip()]

    @property
    def words(self) -> list[str]:
        """The words of the text."""
        return (self.text or "").split()

    @property
    def since_us(self) -> int | None:
        """The beginning, in microseconds since 1970."""
        return None if self.since is None else _microseconds("from", self.since)

    @property
    def until_us(self) -> int | None:
        """The end, in microseconds since 1970."""
        return None if self.until is None else _microseconds("to", self.until)


@dataclass(frozen=True)
class Hits:
    """A page of documents, newest first, and how many there are in all.

    Each hit is ``{"_index", "_id", "_source"}``. ``cursor`` leads to the next page; None: this is the last.
    Large documents make a page shorter than asked for.
    """

    total: int
    hits: list[dict[str, Any]] = field(default_factory=list)
    cursor: str | None = None


def check_field(parameter: str, name: str) -> None:
    """Raise `QueryError` for the name of a field that is nested too deep to be looked for."""
    if name.count(".") >= MAX_PARTS:
        raise QueryError(
            f"{parameter} names the field {name[:50]!r}… of {name.count('.') + 1} parts, it may have {MAX_PARTS}."
        )


def encode_cursor(store: str, *place: Any) -> str:
    """Return a cursor of the store named ``store``."""
    text = json.dumps([store, *place], separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(store: str, cursor: str, *types: type) -> list[Any]:
    """Return the place that `encode_cursor` was given; raise `QueryError` when it was not that store's."""
    try:
        place = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        place = None
    if not isinstance(place, list) or [type(part) for part in place] != [str, *types] or place[0] != store:
        raise QueryError("The cursor is not one this store gave out: ask again without it.")
    return place[1:]


def _microseconds(name: str, text: str) -> int:
    try:
        try:
            number = float(text)
        except ValueError:
            when = datetime.fromisoformat(_UNESCAPED_PLUS.sub(r"\1+", text))
            return ((when if when.tzinfo else when.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
        size = abs(number)
        unit = 1e6 if size < 1e11 else 1e3 if size < 1e14 else 1 if size < 1e17 else 1e-3
        # Through a datetime, so that what no store can hold is refused here.
        return (_EPOCH + timedelta(microseconds=round(number * unit)) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        raise QueryError(
            f"{name} is {text[:100]!r}, not a time: write ISO 8601 such as 2026-01-31T12:00:00Z, "
            "or a number since 1970 in s, ms, us or ns."
        ) from None
