"""Figures of all documents: by minute of receipt for a while, and in one sum what came before. Keeps promises 3 and 5.

A document counts when the first sink has indexed it, in the transaction that moves that sink's cursor over its record:
what is to be written is worked out first, and stands here once it is on disk. So a crash changes nothing, and what
comes twice, or is refused, is not counted.

Changes are made in the one thread that writes that sink's cursors; what only reads may do so in any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import structlog

from gateway.monitoring.adding import Adding
from gateway.monitoring.kept import Kept
from gateway.monitoring.names import Names, forget_endpoint, forget_model
from gateway.settings import Monitoring
from gateway.summary import Model, Summary
from gateway.summary.columns import Sum

log = structlog.get_logger(__name__)
BEFORE = 0
"""Stands where a minute does for all that came before those that are kept."""
MINUTE = 60
HOUR = 60  # minutes that are kept beside those of the window
RATE_SECS = 300

Document = tuple[str, bytes]
"""A document and the name of its index."""
Gather = Callable[[Sequence[Document]], Summary]
"""Makes a summary of documents, in which all classes, models and endpoints are told apart."""


class Told(NamedTuple):
    """A record whose documents have their verdicts, written ``at`` so many seconds since 1970.

    Of what its summary tells, documents are ``left_out`` that were there already, were refused or wait elsewhere;
    ``none`` when that is all of them. ``added`` are documents whose record was counted without them before.
    """

    at: float
    summary: bytes | memoryview | None
    left_out: Sequence[Document] = ()
    none: bool = False
    added: Sequence[Document] = ()


@dataclass(slots=True)
class Change:
    """What records add. ``blobs`` by folder and minute are to be written, None to be deleted; then `put`."""

    put: Callable[[], None]
    blobs: dict[tuple[str, int], bytes | None] = field(default_factory=dict)


class Figures:
    """What is known of the documents that the first sink has indexed."""

    def __init__(self, settings: Monitoring, gather: Gather, clock: Callable[[], float] = time.time) -> None:
        """Begin with nothing; ``gather`` makes a summary of documents, ``clock`` gives seconds since 1970."""
        self.window_secs = settings.window_secs
        self._max_models = settings.max_models
        self._kept = HOUR + -(-settings.window_secs // MINUTE)
        self._gather = gather
        self._clock = clock
        self._lock = threading.Lock()
        self._lately = threading.Lock()  # of `_seconds`: the event loop takes it, and nobody holds it for long
        self._blobs: dict[tuple[str, int], bytes] = {}
        self._all = Summary()
        self._models = Names(settings.max_models)
        self._endpoints = Names(settings.max_models)
        self._indices: dict[str, int] = {}  # of all documents; replaced, never changed
        self._seconds: dict[int, dict[str, int]] = {}

    def load(self, blobs: Iterable[tuple[str, int, bytes]]) -> None:
        """Begin with what is on disk: folder, minute and figures of each. What cannot be read counts as nothing."""
        found: dict[tuple[str, int], bytes] = {}
        everything, models, endpoints = Summary(), Names(self._max_models), Names(self._max_models)
        for folder, minute, data in sorted(blobs, key=lambda each: each[1]):
            try:
                summary = Summary.decode(data)
            except msgspec.MsgspecError:
                log.error("Figures of the events cannot be read: they begin anew.", folder=folder, minute=minute)
                continue
            found[folder, minute] = data
            everything.plus(summary)
            for names, keys, forget in (
                (models, summary.models, forget_model), (endpoints, summary.endpoints, forget_endpoint),
            ):  # fmt: skip
                for key in keys:  # there may be too many when `max_models` was more
                    place, gone = names.place(key, minute, minute)
                    if gone is not None:
                        forget(everything, gone)
                    if place != key:
                        forget(everything, key)
        everything.users = []
        with self._lock:
            self._blobs, self._all, self._models, self._endpoints = found, everything, models, endpoints
            self._indices = dict(everything.indices)

    def change(self, folder: str, told: Iterable[Told]) -> Change:
        """Return what records of a folder add. Put it in place when it is on disk, before another is asked for."""
        now = int(self._clock()) // MINUTE
        first = now - self._kept + 1
        adding = Adding(self._all, self._models.copy(), self._endpoints.copy(), first)
        known: dict[int, Summary] = {}
        sums: dict[int, Sum] = {}
        seconds: list[tuple[int, dict[str, int]]] = []
        for each in told:
            minute = min(int(each.at) // MINUTE, now)
            if minute < first:
                minute = BEFORE
            try:
                if (data := self._counted(each)) is not None:
                    if minute not in sums:
                        known[minute] = self._read(folder, minute)
                        sums[minute] = Sum(known[minute].users)
                    seconds.append((int(each.at), sums[minute].add(data)))
            except Exception as error:  # a mistake of ours: what is counted holds up no event
                log.error("The figures of a record cannot be made: they are not counted.", exc_info=error)
        counted = [(minute, Summary.of(each)) for minute, each in sums.items()]
        for minute, summary in counted:  # so that none of them makes room for another
            adding.models.seen(summary.models, minute)
            adding.endpoints.seen(summary.endpoints, minute)
        for minute, summary in counted:
            adding.add(minute, summary)
        new = adding.sum()
        blobs = self._written(folder, first, adding, known)

        def put() -> None:
            with self._lock:
                for place, data in blobs.items():
                    if data is None:
                        self._blobs.pop(place, None)
                    else:
                        self._blobs[place] = data
                adding.forget_in(self._all)
                self._all.plus(new)
                self._all.users = []
                self._models, self._endpoints = adding.models, adding.endpoints
                self._indices = dict(self._all.indices)
            with self._lately:
                for at, indices in seconds:  # by second: there are hundreds of records in one
                    line = self._seconds.setdefault(at, {})
                    for index, count in indices.items():
                        line[index] = line.get(index, 0) + count
                for at in [at for at in self._seconds if at <= self._clock() - RATE_SECS]:
                    del self._seconds[at]

        return Change(put, blobs)

    # What is known, each of one moment.

    @property
    def beyond(self) -> int:
        """How many models and versions were not told apart since the start for want of room."""
        return self._models.beyond

    def all(self) -> Summary:
        """Return the figures of all documents; without users."""
        with self._lock:
            data = self._all.encode()
        return Summary.decode(data)

    def indices(self) -> dict[str, int]:
        """Return all documents, by index without prefix and day."""
        return dict(self._indices)

    def kept(self) -> Kept:
        """Return the minutes that are kept."""
        present = int(self._clock()) // MINUTE
        first = present - self._kept + 1
        with self._lock:
            found = [(minute, data) for (_, minute), data in self._blobs.items()]
        # A clock that was ahead may have left minutes that are still to come.
        minutes = sorted(each for each in found if first <= each[0] <= present)
        return Kept(minutes, present, present - -(-self.window_secs // MINUTE) + 1)

    def rates(self) -> tuple[dict[str, float], dict[str, list[int]]]:
        """Return by index, without prefix and day: events a second just now, and events in each of the last 5 minutes'
        seconds, oldest first.

        Of events that this start has seen indexed, by the time of their receipt. Just now: ten seconds, up to two
        seconds ago, since the last ones are on their way.
        """
        now = int(self._clock())
        with self._lately:
            seconds = {second: counts.copy() for second, counts in self._seconds.items()}
        lines: dict[str, list[int]] = {}
        for second, counts in seconds.items():
            at = second - (now - RATE_SECS) - 1
            if 0 <= at < RATE_SECS:
                for index, count in counts.items():
                    lines.setdefault(index, [0] * RATE_SECS)[at] += count
        return {index: sum(line[-12:-2]) / 10 for index, line in lines.items()}, lines

    def _counted(self, told: Told) -> bytes | memoryview | None:
        """Return what a record adds, without what is left out of it; None where that is nothing."""
        if not (told.left_out or told.none or told.added):
            return told.summary
        summary = Summary()
        if told.summary is not None:
            summary = Summary.decode(told.summary)
        if told.none:
            models = {key: Model(refused=model.refused) for key, model in summary.models.items() if model.refused}
            summary = Summary(models=models)
        elif told.summary is not None and told.left_out:
            summary.minus(self._gather(told.left_out))
        if told.added:
            summary.plus(self._gather(told.added))
        return summary.encode() if summary.indices or summary.models else None

    def _written(
        self, folder: str, first: int, adding: Adding, known: dict[int, Summary]
    ) -> dict[tuple[str, int], bytes | None]:
        """Return what is to be written: minutes with what is new in them, old ones in the sum of their folder.

        ``known``: what the folder's minutes had so far to which something is added.
        """
        blobs: dict[tuple[str, int], bytes | None] = {}
        befores = {folder: known[BEFORE]} if BEFORE in known else {}

        def before(name: str) -> Summary:
            if name not in befores:
                befores[name] = self._read(name, BEFORE)
            return befores[name]

        for name, minute in sorted(self._blobs, key=lambda each: each[1]):
            if BEFORE < minute < first:
                before(name).plus(self._read(name, minute))
                blobs[name, minute] = None
            elif minute == BEFORE and (adding.gone_models or adding.gone_endpoints):
                before(name)
        for summary in befores.values():
            adding.forget_in(summary)
        for minute, new in adding.minutes.items():
            into = known[minute]
            into.plus(new)
            if minute != BEFORE:
                blobs[folder, minute] = into.encode()
        for name, summary in befores.items():
            summary.users = []
            blobs[name, BEFORE] = summary.encode()
        return blobs

    def _read(self, folder: str, minute: int) -> Summary:
        data = self._blobs.get((folder, minute))
        return Summary() if data is None else Summary.decode(data)
