"""Documents whose index alone is in trouble: put aside on disk, tried again, at last dead letters.

So an index that is closed or blocked holds up no other, and takes no memory. Keeps promise 4.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import structlog

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.backoff import Backoff
from gateway.sinks.elasticsearch.bulk import id_in
from gateway.sinks.elasticsearch.client import RequestFailed
from gateway.sinks.elasticsearch.doubt import Sent
from gateway.sinks.elasticsearch.sender import SMALLEST_BULK_BYTES, Sender
from gateway.sinks.elasticsearch.verdicts import (
    SAID_LATE,
    Ruling,
    Verdict,
    dead_letter,
    rewritten,
    rule,
    speaks_of_the_index,
)
from gateway.spool.shelf import Letter
from gateway.spool.state import Parked, State

log = structlog.get_logger(__name__)
FIRST_COUNT = 10  # documents of the first try; each further one takes twice as many
AT_ONCE = 500
LOOK_SECS = 0.5


class Settled(NamedTuple):
    """Parked documents that got their verdict, of which some are dead letters now."""

    documents: list[Parked]
    new: list[Parked]
    """Those that were indexed."""
    duplicates: int
    letters: list[Letter]

    @property
    def indexed(self) -> int:
        """How many were indexed."""
        return len(self.new)


Count = Callable[[Settled], Awaitable[None]]
"""Removes parked documents and counts them in the cursor, in one transaction."""


@dataclass(slots=True)
class Index:
    """One index in trouble."""

    due: float = 0.0
    count: int = FIRST_COUNT
    backoff: Backoff = field(default_factory=Backoff)
    others_taken: float | None = None  # since when another index is known to take documents, seconds since 1970


class Parking:
    """Tries parked documents again."""

    def __init__(
        self, name: str, settings: Elasticsearch, state: State, sender: Sender, count: Count, folder: str = "0"
    ) -> None:
        self._name = name
        self._folder = folder
        self._settings = settings
        self._state = state
        self._sender = sender
        self._count = count
        self._known: dict[str, Index] = {}
        self._told: set[str] = set()
        self.indices: dict[str, float] = {}

    async def run(self) -> None:
        """Try again until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECS)
            if not self._state.parked_count(self._name, self._folder):
                self.indices, self._known = {}, {}
                self._report()
                continue
            try:
                await self._look()
            except sqlite3.Error as error:
                log.error("Parked documents cannot be read or moved, trying again.", sink=self._name, error=str(error))

    async def _look(self) -> None:
        self.indices = await self._state.run(lambda: self._state.parked_indices(self._name, self._folder))
        self._known = {index: self._known.get(index) or Index() for index in self.indices}
        for name, index in self._known.items():
            while time.monotonic() >= index.due and not self._sender.patience.holds_off:
                if await self._try(name, index):
                    index.backoff.reset()
                else:
                    index.due = time.monotonic() + index.backoff.next()
        self._report()

    def _report(self) -> None:
        """Say which indices are in trouble now, and which are out of it."""
        if new := sorted(name for name, index in self._known.items() if index.due and name not in self._told):
            log.warning(
                "Indices do not take documents: their events are put aside and tried again.",
                sink=self._name, indices=new, last_error=self._sender.last_error,
            )  # fmt: skip
        if over := sorted(self._told - self._known.keys()):
            log.info("No events are put aside any more for these indices.", sink=self._name, indices=over)
        self._told = self._told & self._known.keys() | set(new)

    def _expired(self, name: str, since: float, ruling: Ruling) -> bool:
        """Whether it is this index alone that has been in trouble for too long, not the cluster."""
        index = self._known[name]
        if index.others_taken is None and self._sender.last_success > self.indices[name]:
            index.others_taken = self._sender.last_success
        if len(self.indices) == 1 and speaks_of_the_index(ruling):
            alone_since = since
        elif index.others_taken is not None:  # after a trouble of all, from when the first of them was out of it
            alone_since = max(since, index.others_taken)
        else:
            return False
        return time.time() - alone_since > self._settings.index_retry_secs

    async def _try(self, name: str, index: Index) -> bool:
        """Send the oldest documents of an index; return whether any of them got its verdict."""
        parked = await self._state.run(lambda: self._state.parked(self._name, name, index.count, self._folder))
        if not parked:
            return False
        sizes = list(accumulate(len(each.action) + len(each.document) + 2 for each in parked))
        parked = parked[: max(1, sum(size <= self._sender.max_bytes for size in sizes))]
        fitting = self._sender.max_bytes * len(sizes) // sizes[-1]
        index.count = max(1, min(2 * index.count, fitting, AT_ONCE))
        try:
            rulings = await self._rulings(parked, [each.document for each in parked])
        except RequestFailed as error:  # the cluster's trouble, not the index's
            self._sender.last_error = str(error)
            index.count = FIRST_COUNT
            return False
        sent = {at: Sent(each.action, each.document) for at, each in enumerate(parked)}
        await self._sender.doubt.rule(rulings, sent)
        settled = self._settled(name, parked, rulings)
        if settled.documents:
            await self._count(settled)
        return bool(settled.documents)

    def _settled(self, name: str, parked: list[Parked], rulings: list[Ruling]) -> Settled:
        documents: list[Parked] = []
        letters: list[Letter] = []
        new: list[Parked] = []
        duplicates = 0
        for each, ruling in zip(parked, rulings, strict=True):
            if ruling.verdict is Verdict.INDEXED:
                new.append(each)
            elif ruling.verdict is Verdict.DUPLICATE:
                duplicates += 1
            elif ruling.verdict in (Verdict.REFUSED, Verdict.REPEATED_KEY):
                letters.append(self._letter(each, "mapping", ruling))
            elif ruling.verdict is Verdict.INDEX_TROUBLE:
                self._sender.troubled(name, ruling)
                if not self._expired(name, each.since, ruling):
                    continue
                letters.append(self._letter(each, "sink", ruling))
            else:
                continue
            documents.append(each)
        if new or duplicates:
            self._sender.last_success = time.time()
        if not any(ruling.type in SAID_LATE for ruling in rulings):
            self._sender.slow.pop(name, None)
        return Settled(documents, new, duplicates, letters)

    def _letter(self, parked: Parked, reason: str, ruling: Ruling) -> Letter:
        letter = dead_letter(self._name, reason, parked.document, ruling)
        return Letter(parked.origin, letter, parked.index, id_in(parked.action))

    async def _rulings(self, parked: list[Parked], sources: list[bytes]) -> list[Ruling]:
        """Return the ruling on each document; raise `RequestFailed` when none of them is to blame."""
        body = b"".join(each.action + b"\n" + source + b"\n" for each, source in zip(parked, sources, strict=True))
        try:
            answer = await self._sender.attempt(body, len(parked), {each.index for each in parked})
        except RequestFailed as error:
            if not error.blames_body or error.status == 429:
                raise
            if len(parked) == 1:
                too_large = error.status == 413 and len(body) > SMALLEST_BULK_BYTES
                return [Ruling(Verdict.REFUSED if too_large else Verdict.INDEX_TROUBLE, "request", str(error))]
            half = len(parked) // 2
            return [
                *await self._rulings(parked[:half], sources[:half]),
                *await self._rulings(parked[half:], sources[half:]),
            ]
        if answer.items is None:
            return [Ruling(Verdict.INDEXED)] * len(parked)
        rulings = [rule(item) for item in answer.items]
        again = {
            at: source
            for at, ruling in enumerate(rulings)
            if ruling.verdict is Verdict.REPEATED_KEY and (source := rewritten(sources[at]))
        }
        if again:
            second = await self._rulings([parked[at] for at in again], list(again.values()))
            for at, ruling in zip(again, second, strict=True):
                rulings[at] = ruling
        return rulings
