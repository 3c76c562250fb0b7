"""Figures over time as charts have them: a value for each stretch, and gaps where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.console.view import View

Chart = dict[str, Any]
LATE_SECS = 4.0
"""What happened so lately before the end of a view may not be stored yet."""
ENOUGH_SECS = 60.0
"""Of a stretch that is not over: as much of a long one tells a rate or an average."""


class Stretches:
    """The stretches of time of a view, by the second at which each begins."""

    def __init__(self, view: View) -> None:
        """Cut the view into as many as its charts have points."""
        self._view, self._step = view, view.step_secs
        # Of the first one the view may have seen so little that its figures would jump.
        first = math.ceil(view.since / self._step - 0.5) * self._step
        self.begins = range(first, math.ceil(view.until), self._step)

    def chart(self, kind: str, series: Iterable[Mapping[str, Any]], unit: str = "", **more: Any) -> Chart:
        """Return a chart; each series has a value for every stretch."""
        view = self._view
        ends = {"from": round(view.since * 1000), "to": round(view.until * 1000)}
        labels = [round(max(each, view.since) * 1000) for each in self.begins]
        return {"type": kind, "time": True, "labels": labels, "series": [*series], "unit": unit, **ends, **more}

    def values(self, buckets: Sequence[Mapping[str, Any]], metric: str, scale: float = 1) -> list[float | None]:
        """Return a metric in each stretch, ``scale`` times; None where there is none."""
        found = {second(each["key"]): each[metric] for each in buckets}
        values = [None if (value := found.get(each)) is None else round(value * scale, 6) for each in self.begins]
        return self.settled(values, ENOUGH_SECS)

    def settled(self, values: Sequence[float | None], enough_secs: float = math.inf) -> list[float | None]:
        """Return values without the last one, unless half of its stretch or ``enough_secs`` are there or it is alone.

        What is told of the few documents of a stretch that has just begun would look as if something had happened.
        """
        if not values:
            return []
        *before, last = values
        there = self._view.until - LATE_SECS - self.begins[-1]
        if self.begins[-1] + self._step > self._view.until and there < min(self._step / 2, enough_secs) and any(before):
            last = None
        return [*before, last]

    def rates(self, counts: Mapping[int, int], per_secs: float) -> list[float | None]:
        """Return how many there are in ``per_secs`` of each stretch, of which the view may see but a part."""
        rates: list[float | None] = []
        for begin in self.begins:
            secs = min(begin + self._step, self._view.until) - max(begin, self._view.since)
            rates.append(round(counts.get(begin, 0) / secs * per_secs, 6))
        return self.settled(rates, ENOUGH_SECS)


def second(key: str) -> int:
    """Return a bucket's time in seconds since 1970."""
    return round(datetime.fromisoformat(key).timestamp())


def pace(count: float, secs: float) -> tuple[float, str]:
    """Return the seconds, and their name in a unit, in which so many come that one can count them."""
    for per_secs, name in ((1, "/s"), (60, "/min"), (3600, "/h")):
        if count / secs * per_secs >= 1:
            return per_secs, name
    return 86_400, "/d"
