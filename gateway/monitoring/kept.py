"""The minutes of which figures are kept, as they stood at one moment: for all that is asked of them then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from gateway.monitoring.names import REST
from gateway.summary import Summary
from gateway.summary.columns import Sum, names

Who = tuple[str, str, str]
"""What sends events (model, service or index), its name, and the version of a model."""


class Kept:
    """Figures by minute of receipt. A minute is given in minutes since 1970."""

    def __init__(self, minutes: Iterable[tuple[int, bytes]], present: int, window_begin: int) -> None:
        """Take what is kept, oldest first, several of a minute with several folders; and two minutes of the clock."""
        self._minutes = list(minutes)
        self.present = present
        self.window_begin = window_begin

    @property
    def first(self) -> int:
        """The first minute in which there was something; the next one when there was nothing."""
        return self._minutes[0][0] if self._minutes else self.present + 1

    @cached_property
    def window(self) -> Summary:
        """The figures of the window, to the minute: the last minute is the present one."""
        return self.between(self.window_begin)

    @cached_property
    def seen(self) -> dict[Who, list[int]]:
        """The minutes in which each sent something, oldest first."""
        seen: dict[Who, list[int]] = {}
        for minute, data in self._minutes:
            for who in _in(data):
                minutes = seen.setdefault(who, [])
                if not minutes or minutes[-1] != minute:
                    minutes.append(minute)
        return seen

    def between(self, since: int, until: int | None = None) -> Summary:
        """Return the figures from a minute on, and before another one."""
        found = Sum()
        for minute, data in self._minutes:
            if since <= minute and (until is None or minute < until):
                found.add(data)
        return Summary.of(found)

    def by_index(self, since: int) -> dict[str, dict[int, int]]:
        """Return by index the events of each minute from one on."""
        found: dict[str, dict[int, int]] = {}
        for minute, data in self._minutes:
            if minute >= since:
                for index, count in names(data)[0].items():
                    line = found.setdefault(index, {})
                    line[minute] = line.get(minute, 0) + count
        return found


def _in(data: bytes) -> Iterator[Who]:
    indices, models, endpoints = names(data)
    yield from (("model", *key) for key in models if key != REST)
    yield from (("service", service, "") for service in {each[0] for each in endpoints if each != REST} if service)
    yield from (("index", index, "") for index in indices)
