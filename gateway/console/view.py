"""What a page looks at: a stretch of time and filters, as its address has them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from gateway.store.query import Query, QueryError

RANGES = {"15m": 900, "1h": 3600, "6h": 21_600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000}
"""Seconds; the stretches end now."""
DEFAULT_RANGE = "1h"
GRID_SECS = 2
"""What several browsers look at within this time is the same stretch, and asked of the store once."""
MOST_POINTS = 90
_STEPS = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_592_000,
          31_536_000)  # fmt: skip


@dataclass(frozen=True)
class View:
    """A stretch of time from ``since`` to before ``until``, in seconds since 1970, and filters by name."""

    since: float
    until: float
    range: str | None
    """The name of the stretch; None where it was given by its ends."""
    filters: Mapping[str, str]
    """What is asked for, by the names of the page's filters; all others are empty."""
    is_chosen: bool = True
    """Whether the address has the stretch; else it is the one that a page begins with."""

    @property
    def step_secs(self) -> int:
        """How long a point of a chart stands for."""
        least = (self.until - self.since) / MOST_POINTS
        return next((step for step in _STEPS if step >= least), _STEPS[-1])

    @property
    def interval(self) -> str:
        """The same, as the store takes it."""
        days, rest = divmod(self.step_secs, 86_400)
        return f"{self.step_secs}s" if rest else f"{days}d"

    def query(self, index: str, fields: Mapping[str, str], **more: object) -> Query:
        """Return a query of an index pattern for what is looked at; ``fields``: the field of each filter's name."""
        where = tuple((fields[name], value) for name, value in self.filters.items() if value and name in fields)
        text = self.filters.get("q") or None
        return Query(index, _iso(self.since), _iso(self.until), where, text, **more)  # type: ignore[arg-type]

    def address(self, path: str, /, **changes: str | None) -> str:
        """Return the address of a page that looks at the same, but for the changes; None and "" leave one out."""
        stretch: dict[str, str | None] = {}
        if self.range is None:
            stretch = {"from": _iso(self.since), "to": _iso(self.until)}
        elif self.is_chosen:
            stretch = {"range": self.range}
        kept = {name: value for name, value in {**stretch, **self.filters, **changes}.items() if value}
        return f"{path}?{urlencode(kept)}" if kept else path


def view(parameters: Sequence[tuple[str, str]], names: Sequence[str], default: str = DEFAULT_RANGE) -> View:
    """Read a page's address; ``names`` are its filters; raise `QueryError` for what makes no sense.

    ``default`` is the stretch of an address without one.
    """
    given: dict[str, str] = {}
    for name, value in parameters:
        if name not in ("range", "from", "to", *names):
            raise QueryError(f"{name[:50]!r} is not a parameter of this page.")
        if name in given:
            raise QueryError(f"{name} is given twice, it may be given once.")
        given[name] = value.strip()
    filters = {name: given.get(name, "") for name in names}
    now = time.time() // GRID_SECS * GRID_SECS + GRID_SECS
    if given.get("from") or given.get("to"):
        ends = Query(since=given.get("from") or None, until=given.get("to") or None)
        until = now if ends.until_us is None else ends.until_us / 1e6
        since = until - RANGES[DEFAULT_RANGE] if ends.since_us is None else ends.since_us / 1e6
        if since >= until:
            raise QueryError("from must be before to.")
        try:
            _ = _iso(since), _iso(until + 60)  # a page shows whole minutes
        except (ValueError, OverflowError):
            raise QueryError("from and to must lie between the years 1 and 9999.") from None
        return View(since, until, None, filters)
    name = given.get("range") or default
    if name not in RANGES:
        raise QueryError(f"range is {name[:20]!r}, it must be one of {', '.join(RANGES)}.")
    return View(now - RANGES[name], now, name, filters, is_chosen=bool(given.get("range")))


def _iso(secs: float) -> str:
    return datetime.fromtimestamp(secs, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
