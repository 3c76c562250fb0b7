"""The Elasticsearch sink: reads the spool, keeps several bulks in flight, moves its cursor behind them.

The cursor moves over a record when all of its documents have a final verdict, in the order of
the spool; what a crash leaves behind it is sent again, and Elasticsearch answers 409: success.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.bulk import Batcher, Bulk, Taken
from gateway.sinks.elasticsearch.client import connect
from gateway.sinks.elasticsearch.parking import Parking, Settled
from gateway.sinks.elasticsearch.retention import Retention
from gateway.sinks.elasticsearch.room import MESSAGE as ROOM_MESSAGE
from gateway.sinks.elasticsearch.room import Room
from gateway.sinks.elasticsearch.sender import Sender
from gateway.spool.reader import Item
from gateway.spool.spool import Spool
from gateway.spool.state import State
from gateway.telemetry import Telemetry
from schemas import BUILT_IN, Registry

log = structlog.get_logger(__name__)
READ_BYTES = 4 * 1024 * 1024
COMMIT_SECS = 0.2  # one sync of the cursor for all that was settled meanwhile
STATE_RETRY_SECS = 1.0
MAX_ON_THE_WAY = 100_000  # records behind one that waits; their documents are not in memory
MAX_HELD_BYTES = 32 * 1024 * 1024  # of documents that wait behind such a record to be put aside on disk
PAUSE_SECS = 0.05


class ElasticsearchSink:
    """Documents from the spool into Elasticsearch. ``client`` also serves the console's queries."""

    name = "elasticsearch"

    def __init__(
        self,
        spool: Spool,
        state: State,
        settings: Elasticsearch,
        prefix: str,
        telemetry: Telemetry,
        registry: Registry = BUILT_IN,
    ) -> None:
        self._spool = spool
        self._telemetry = telemetry
        self._state = state
        self._settings = settings
        self._on_the_way: deque[Taken] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(settings.max_in_flight)
        self._settled = asyncio.Event()
        self._writing = asyncio.Lock()
        self._draining = asyncio.Event()
        self._finished = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: str | None = None
        self.client = connect(settings)
        self._room = Room(self.name, state, telemetry)
        self._sender = Sender(
            self.name, self.client, settings, prefix, registry, self._room, telemetry, self._settled.set
        )
        self._parking = Parking(self.name, settings, state, self._sender, self._count_parked)
        self._retention: Retention | None = None
        if settings.retention_days is not None and not settings.ilm:
            self._retention = Retention(self.client, prefix, registry.indices, settings.retention_days)
        self._batcher = Batcher(settings.max_batch_bytes, settings.max_batch_events)
        known = state.cursor(self.name, spool.name)
        if known is not None and spool.outlives(known):
            log.warning("The spool was replaced: the sink begins with its oldest record.", sink=self.name)
            known = None
        self.cursor = known or spool.new_cursor()
        self._reader = spool.reader(self.name, known)

    async def start(self) -> None:
        """Nothing local is needed; whether the server answers is found out while it runs."""

    async def run(self) -> None:
        """Take events until cancelled, drained or stopped."""
        parts = (self._feed(), self._parking.run(), self._commit_loop(), self._sender.look_after())
        self._tasks = [self._begin(each) for each in parts]
        if self._retention is not None:
            self._tasks.append(self._begin(self._retention.run()))
        feeding = self._tasks[0]
        try:
            await asyncio.wait([feeding])
            if self._in_flight:
                await asyncio.wait(self._in_flight)
            with suppress(sqlite3.Error):  # tried once more by `stop`
                await self._commit()
        finally:
            feeding.cancel()  # it would go on by itself
            self._finished.set()

    async def drain(self, secs: float) -> None:
        """Send what is in the spool, for at most ``secs``."""
        self._draining.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._finished.wait(), secs)

    async def stop(self) -> None:
        """Break off what is on its way, note what was settled, and close; the rest stays in the spool."""
        # All at once: a feeding that went on would put others into the place of those that end.
        ending = [*self._tasks, *self._in_flight]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        with suppress(sqlite3.Error):
            await self._commit()
        await self.client.close()

    def status(self) -> dict[str, Any]:
        """Return how the sink does."""
        sender = self._sender
        parked = self.cursor.parked
        stopped = self._room.lacking or self._failure
        state = "stopped" if stopped else "retrying" if sender.retrying or parked else "ok"
        troubles = (
            self._failure,
            ROOM_MESSAGE if self._room.lacking else None,
            sender.last_error if state == "retrying" else None,
            sender.lifecycle_error,
            sender.last_error,  # of trouble that is over
        )
        retention = None if self._retention is None else self._retention.status()
        return {
            "state": state,
            "last_error": next(filter(None, troubles), None),
            "in_flight": len(self._in_flight),
            "parked": parked,
            "troubled_indices": sorted(self._parking.indices) if parked else [],
            **({} if retention is None else {"retention": retention}),
        }

    async def _feed(self) -> None:
        """Read records and send them, until drained."""
        batcher = self._batcher
        deadline = 0.0
        while True:
            items = await self._read()
            for item in items:
                if not batcher:
                    deadline = time.monotonic() + self._settings.flush_after_secs
                batcher.max_bytes = min(batcher.max_bytes, self._sender.max_bytes)
                taken = self._take(item)
                for bulk in batcher.add(taken, item.record):
                    await self._dispatch(bulk)
            if items:
                await self._keep_bounded()
            elif batcher and (self._draining.is_set() or time.monotonic() >= deadline):
                await self._dispatch(batcher.flush())
            elif self._draining.is_set() and not batcher:
                return
            else:
                await self._wait(deadline - time.monotonic() if batcher else None)

    async def _read(self) -> list[Item]:
        while True:
            try:
                return await asyncio.to_thread(self._reader.read, self._spool.end, READ_BYTES)
            except OSError as error:
                log.error("The spool cannot be read, trying again.", sink=self.name, error=str(error))
                await asyncio.sleep(STATE_RETRY_SECS)

    async def _keep_bounded(self) -> None:
        """Wait while too much waits behind a record that is not settled."""
        while len(self._on_the_way) > MAX_ON_THE_WAY or self._room.reserved > MAX_HELD_BYTES:
            if self._batcher:  # it may be what all the others wait for
                await self._dispatch(self._batcher.flush())
            await asyncio.sleep(PAUSE_SECS)

    def _take(self, item: Item) -> Taken:
        header = item.record.header
        taken = Taken(header, item.after, item.damaged, open=header.documents)
        self._on_the_way.append(taken)
        if not taken.open:
            self._settled.set()
        return taken

    async def _dispatch(self, bulk: Bulk) -> None:
        """Send a bulk as soon as there is a slot; return then, not when it is done."""
        await self._slots.acquire()
        task = self._begin(self._sender.send(bulk, self._spool.name))
        self._in_flight.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._slots.release()

    def _begin(self, part: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(part)
        task.add_done_callback(self._tell_failure)
        return task

    def _tell_failure(self, task: asyncio.Task[None]) -> None:
        """An error that nothing foresaw: the events are safe in the spool, but somebody has to know."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = f"The sink met an error that it does not know ({error!r}): restart the gateway."
            log.error(self._failure, sink=self.name, exc_info=error)

    async def _wait(self, secs: float | None) -> None:
        """Wait for more events, for the drain, or for the time to pass."""
        waits = [
            asyncio.create_task(self._spool.wait_beyond(self._reader.position)),
            asyncio.create_task(self._draining.wait()),
        ]
        try:
            await asyncio.wait(waits, timeout=secs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _commit_loop(self) -> None:
        while True:
            await self._settled.wait()
            self._settled.clear()
            try:
                await self._commit()
            except sqlite3.Error as error:
                log.error("The cursor cannot be written, trying again.", sink=self.name, error=str(error))
                self._settled.set()
                await asyncio.sleep(STATE_RETRY_SECS)
            await asyncio.sleep(COMMIT_SECS)

    async def _commit(self) -> None:
        """Move the cursor over the records at the front that are settled."""
        await self._undisturbed(self._move)

    async def _move(self) -> None:
        done: list[Taken] = []
        cursor = self.cursor
        for taken in self._on_the_way:
            if taken.open:
                break
            cursor = taken.settle(cursor)
            done.append(taken)
        if not done:
            return
        folder = self._spool.name
        letters = [letter for taken in done for letter in taken.letters]
        parked = [each for taken in done for each in taken.parked]
        await self._state.run(lambda: self._state.commit(self.name, folder, cursor, letters, parked))
        if letters:
            self._telemetry.dead_lettered(self.name, len(letters), letters[0].index, letters[0].letter.message)
        self._room.release(sum(taken.held for taken in done))
        for _ in done:
            self._on_the_way.popleft()
        self.cursor = cursor
        self._spool.release(self.name, cursor.position)

    async def _count_parked(self, settled: Settled) -> None:
        """Let parked documents go that got their verdict."""
        await self._undisturbed(lambda: self._unpark(settled))

    async def _unpark(self, settled: Settled) -> None:
        cursor = self.cursor.advanced(
            indexed=self.cursor.indexed + settled.indexed,
            duplicates=self.cursor.duplicates + settled.duplicates,
            dead_letters=self.cursor.dead_letters + len(settled.letters),
            parked=self.cursor.parked - len(settled.documents),
        )
        folder = self._spool.name
        await self._state.run(lambda: self._state.unpark(self.name, folder, settled.documents, cursor, settled.letters))
        self.cursor = cursor

    async def _undisturbed(self, change: Callable[[], Awaitable[None]]) -> None:
        """Finish a change of cursor and disk, one at a time, also when the caller is cancelled meanwhile."""

        async def alone() -> None:
            async with self._writing:
                await change()

        await asyncio.shield(asyncio.create_task(alone()))
