"""A sink with a real spool and a real state in a folder, as the tests of this room start it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from gateway.settings import Elasticsearch
from gateway.settings import Spool as SpoolSettings
from gateway.sinks.elasticsearch.sink import ElasticsearchSink
from gateway.spool.books import sink_books, total
from gateway.spool.record import Counts, Documents, Draft
from gateway.spool.spool import Spool
from gateway.spool.state import State
from gateway.telemetry import Telemetry
from tests.spool.building import letters_in

GIB = 1 << 30
DAY = "2024.01.15"


class Doc(NamedTuple):
    """A document as the pipeline writes it."""

    id: str
    source: bytes
    index: str = f"ml-metrics-{DAY}"  # type: ignore[assignment]  # hides a tuple's method

    def lines(self) -> bytes:
        """Its two lines."""
        return b'{"create":{"_index":"%s","_id":"%s"}}\n%s\n' % (self.index.encode(), self.id.encode(), self.source)


def docs(count: int, prefix: str = "", index: str = f"ml-metrics-{DAY}", start: int = 0, pad: int = 0) -> list[Doc]:
    """Return sound documents, numbered from ``start``."""
    return [
        Doc(
            f"{index}-{number}",
            orjson.dumps({"@timestamp": "2024-01-15T10:00:00Z", "model_name": f"m{number}", "user_id": "x" * pad}),
            f"{prefix}{index}",
        )
        for number in range(start, start + count)
    ]


def draft(documents: Iterable[Doc]) -> Draft:
    """Return one record's draft."""
    groups = [(index, list(group)) for index, group in groupby(documents, key=lambda each: each.index)]
    sections = [Documents(index, len(group), b"".join(each.lines() for each in group)) for index, group in groups]
    count = sum(group.count for group in sections)
    return Draft("http", Counts(count, count, 0), sections, [])


async def until(condition: Callable[[], Any], secs: float = 20) -> None:
    """Return as soon as the condition holds; fail when it does not within ``secs``."""
    deadline = time.monotonic() + secs
    while not condition():
        assert time.monotonic() < deadline, f"after {secs} s it does not hold"
        await asyncio.sleep(0.02)


class Rig:
    """A sink that runs, and what it stands on."""

    limits = SpoolSettings(min_free_bytes=0)

    def __init__(self, folder: Path, settings: Elasticsearch, prefix: str, max_letter_bytes: int) -> None:
        self._folder = folder
        self._settings = settings
        self._prefix = prefix
        self._max_letter_bytes = max_letter_bytes

    async def start(self) -> None:
        """Open the folder and let the sink run."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.state = State(self._folder / "state.sqlite3", self._max_letter_bytes)
        self.spool = Spool(self._folder / "spool" / "0", self.limits, lambda **_: None)
        self.telemetry = Telemetry()
        self.sink = ElasticsearchSink(self.spool, self.state, self._settings, self._prefix, self.telemetry)
        self.spool.attached()
        await self.sink.start()
        self._running = asyncio.create_task(self.sink.run())

    async def stop(self, drain_secs: float = 0) -> None:
        """Drain and close everything."""
        await self.spool.stop()
        await self.sink.drain(drain_secs)
        await self.sink.stop()
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self.state.close()

    async def restart(self) -> None:
        """Break off in the middle and begin again with new objects."""
        await self.stop()
        await self.start()

    async def append(self, documents: Iterable[Doc]) -> None:
        """Put one record into the spool."""
        await self.spool.append(draft(documents))

    @property
    def books(self) -> dict[str, int]:
        """The sink's books, which have to balance at every moment."""
        books, difference = sink_books(self.sink.cursor, total(self.spool.counts).accepted)
        assert difference == 0, f"the books do not balance: {books} and {difference}"
        return books

    async def settled(self, secs: float = 20) -> dict[str, int]:
        """Wait until nothing waits any more; the books balance all the while."""
        await until(lambda: self.books["waiting"] == 0, secs)
        return self.books

    @property
    def status(self) -> dict[str, Any]:
        """What `/status` says of the sink."""
        return self.sink.status()

    async def letters(self) -> list[dict[str, Any]]:
        """The dead letters, oldest first."""
        return await letters_in(self.state)


@asynccontextmanager
async def running(
    folder: Path, *urls: str, prefix: str = "", max_letter_bytes: int = GIB, **settings: Any
) -> AsyncIterator[Rig]:
    """Run a sink for a test."""
    rig = Rig(folder, Elasticsearch(**{"urls": urls, **settings}), prefix, max_letter_bytes)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()
