"""Panels that were made: kept for all who look at the same, so that looking costs the events next to nothing.

Who opens a page gets panels that are made for them. Who goes on looking gets what there is, made anew so often that
all panels that are looked at take no more than `SHARE` of a processor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.console.asking import Asked, asked

SHARE = 0.1
LEAST_SECS, MOST_SECS = 5.0, 60.0
LATE_SECS = 5.0
"""Who does not come back so long after the time that they were told looks elsewhere now."""
MAX_PANELS = 100

Key = tuple[str, ...]


@dataclass
class Panel:
    """One answer: ``questions`` are those that were put to the store for it, ``again_secs`` when to ask again."""

    html: str
    spent_secs: float
    again_secs: float
    questions: list[Asked]


@dataclass
class _Kept:
    html: str
    cost: float
    """Seconds, without those in which it waited for its turn."""
    made: float = field(default_factory=time.monotonic)
    expected: float = 0.0
    """When whoever looks at it asks again."""


class Panels:
    """Makes panels and keeps what is looked at."""

    def __init__(self) -> None:
        self._kept: dict[Key, _Kept] = {}

    async def get(self, key: Key, make: Callable[[], Awaitable[str]], *, patient: bool) -> Panel:
        """Return a panel; who is ``patient`` may get one that was made before. What ``make`` raises is raised."""
        began = time.monotonic()
        kept = self._kept.get(key)
        if kept is not None and patient and began < kept.made + self._period(began):
            return self._told(kept, 0.0, [])
        questions: list[Asked] = []
        before = asked.set(questions)
        try:
            html = await make()
        finally:
            asked.reset(before)
        spent = time.monotonic() - began
        kept = _Kept(html, sum(each.secs for each in questions) if questions else spent)
        self._kept = {each: panel for each, panel in self._kept.items() if panel.expected + LATE_SECS > began}
        if len(self._kept) >= MAX_PANELS:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = kept
        return self._told(kept, spent, questions)

    def _told(self, kept: _Kept, spent: float, questions: list[Asked]) -> Panel:
        now = time.monotonic()
        kept.expected = math.inf  # it counts
        again = math.ceil(max(1.0, kept.made + self._period(now) - now))
        kept.expected = now + again
        return Panel(kept.html, spent, again, questions)

    def _period(self, now: float) -> float:
        """Return how old a panel becomes."""
        cost = sum(each.cost for each in self._kept.values() if each.expected + LATE_SECS > now)
        return min(max(LEAST_SECS, cost / SHARE), MOST_SECS)
