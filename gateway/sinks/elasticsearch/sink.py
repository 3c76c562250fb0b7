"""The Elasticsearch sink: reads the spool, keeps several bulks in flight, moves its cursor behind them.

The cursor moves over a record when all of its documents have a final verdict, in the order of
the spool; what a crash leaves behind it is sent again, and Elasticsearch answers 409: success.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from gateway.monitoring.figures import Figures
from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.bulk import Batcher, Bulk, Taken
from gateway.sinks.elasticsearch.client import connect
from gateway.sinks.elasticsearch.parking import Parking
from gateway.sinks.elasticsearch.progress import STATE_RETRY_SECS, Progress
from gateway.sinks.elasticsearch.retention import Retention
from gateway.sinks.elasticsearch.room import Room
from gateway.sinks.elasticsearch.sender import Sender
from gateway.sinks.elasticsearch.trial import Trial
from gateway.sinks.reading import Reading
from gateway.sinks.skipping import Skipping
from gateway.spool.books import Cursor
from gateway.spool.folder import Folder
from gateway.spool.reader import Item
from gateway.spool.segment import Position
from gateway.spool.shelf import NO_ROOM
from gateway.spool.state import State
from gateway.telemetry import Telemetry
from schemas import BUILT_IN, Registry

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

log = structlog.get_logger(__name__)
READ_BYTES = 4 * 1024 * 1024
MAX_ON_THE_WAY = 100_000  # records behind one that waits; their documents are not in memory
MAX_HELD_BYTES = 32 * 1024 * 1024  # of documents that wait behind such a record to be put aside on disk
PAUSE_SECS = 0.05


class ElasticsearchSink:
    """Documents from a folder of the spool into Elasticsearch. ``client`` also serves the console's queries.

    Those of further folders stand ``beside`` the first and share with it what there is once for a server: client,
    bulks in flight, room, what is known of its troubles. The first looks after it.
    """

    name = "elasticsearch"

    def __init__(
        self,
        spool: Folder,
        state: State,
        settings: Elasticsearch,
        prefix: str,
        telemetry: Telemetry,
        registry: Registry = BUILT_IN,
        beside: ElasticsearchSink | None = None,
        figures: Figures | None = None,
    ) -> None:
        self._spool = spool
        self._beside = beside
        self._telemetry = telemetry
        self._state = state
        self._settings = settings
        self._in_flight: dict[asyncio.Task[None], list[Taken]] = {}
        self._slots: asyncio.Semaphore = asyncio.Semaphore(settings.max_in_flight) if beside is None else beside._slots
        self._settled = asyncio.Event()
        self._draining = asyncio.Event()
        self._finished = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: str | None = None
        self._unreadable: str | None = None  # why the spool cannot be read
        self.client: AsyncElasticsearch = connect(settings) if beside is None else beside.client
        self._room: Room = Room(self.name, state, telemetry) if beside is None else beside._room
        if beside is None:
            self._sender = Sender(
                self.name, self.client, settings, prefix, registry, self._room, telemetry, self._settled.set
            )
        else:
            self._sender = beside._sender
            self._sender.when_settled.append(self._settled.set)
        self._retention: Retention | None = None
        if settings.retention_days is not None and not settings.ilm and beside is None:
            self._retention = Retention(self.client, prefix, registry.indices, settings.retention_days)
        self._batcher = Batcher(settings.max_batch_bytes, settings.max_batch_events)
        known = state.cursor(self.name, spool.name)
        replaced = known is not None and spool.outlives(known)
        if replaced:
            log.warning("The spool was replaced: the sink begins with its oldest record.", sink=self.name)
            known = None
        cursor = known or spool.new_cursor()
        self._figures = figures
        # What is before it may have been sent by an earlier start, and not been counted; that of a replaced spool was.
        self._doubted = Position() if replaced else spool.end
        self._progress = Progress(self.name, spool, state, self._room, telemetry, cursor, figures)
        self._parking = Parking(self.name, settings, state, self._sender, self._progress.count_parked, spool.name)
        self._reading = Reading(spool, spool.reader(self.name, known), lambda: self.cursor)
        self._trial = Trial(self.client, settings, prefix, registry)
        self._skipping = Skipping(self.name, spool, self._skip, required=settings.required)

    @property
    def cursor(self) -> Cursor:
        """How far this sink has come, as it is on disk."""
        return self._progress.cursor

    async def start(self) -> None:
        """Nothing local is needed; whether the server answers is found out while it runs."""

    async def run(self) -> None:
        """Take events until cancelled, drained or stopped."""
        parts = (
            self._feed(),
            self._parking.run(),
            self._progress.run(self._settled),
            self._skipping.run(),
            *([self._sender.look_after()] if self._beside is None else []),
        )
        self._tasks = [self._begin(each) for each in parts]
        if self._retention is not None:
            self._tasks.append(self._begin(self._retention.run()))
        feeding = self._tasks[0]
        try:
            await asyncio.wait([feeding])
            if self._in_flight:
                await asyncio.wait(self._in_flight)
            with suppress(sqlite3.Error):  # tried once more by `stop`
                await self._progress.commit()
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
            await self._progress.commit()
        if self._beside is None:
            await self.client.close()

    async def trial(self, documents: list[tuple[str, bytes]]) -> list[str | None]:
        """Return for each index name and document None, or why Elasticsearch would not take it now.

        Raises `RequestFailed` when it cannot be known.
        """
        await self._sender.ensure()
        return await self._trial.run(documents)

    def status(self) -> dict[str, Any]:
        """Return how the sink does."""
        sender = self._sender
        parked = self.cursor.parked
        stopped = self._room.lacking or self._failure
        disk = self._unreadable or self._progress.trouble
        state = "stopped" if stopped else "retrying" if disk or sender.retrying or parked else "ok"
        troubles = (
            self._failure,
            disk,
            NO_ROOM if self._room.lacking else None,
            sender.last_error if state == "retrying" else None,
            sender.lifecycle_error,
            sender.last_error,  # of trouble that is over
        )
        retention = None if self._retention is None else self._retention.status()
        return {
            "state": state,
            "last_error": next(filter(None, troubles), None),
            **self._skipping.status(),
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
                if item.after <= self.cursor.position:
                    continue  # skipped meanwhile
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
                items = await self._reading.read(READ_BYTES)
            except OSError as error:
                self._unreadable = f"The spool cannot be read ({error}), trying again."
                log.error(self._unreadable, sink=self.name)
                await asyncio.sleep(STATE_RETRY_SECS)
            else:
                self._unreadable = None
                return items

    async def _keep_bounded(self) -> None:
        """Wait while too much waits behind a record that is not settled."""
        room = self._room
        while len(self._progress) > MAX_ON_THE_WAY or max(room.reserved, room.counting) > MAX_HELD_BYTES:
            if self._batcher:  # it may be what all the others wait for
                await self._dispatch(self._batcher.flush())
            await asyncio.sleep(PAUSE_SECS)

    def _take(self, item: Item) -> Taken:
        header = item.record.header
        taken = Taken(header, item.after, open=header.documents, in_doubt=item.after <= self._doubted)
        if self._figures is not None and (summary := item.record.summary()) is not None:
            taken.summary = bytes(summary)
        self._progress.add(taken)
        if not taken.open:
            self._settled.set()
        return taken

    async def _skip(self, place: Cursor) -> int:
        """Give up what lies before a place, also what is on its way."""
        await self._progress.skip(place)
        for task, records in list(self._in_flight.items()):
            if all(taken.passed for taken in records):
                task.cancel()
        return self.cursor.skipped

    async def _dispatch(self, bulk: Bulk) -> None:
        """Send a bulk as soon as there is a slot; return then, not when it is done."""
        await self._slots.acquire()
        records = [part.taken for part in bulk.parts]
        if all(taken.passed for taken in records):  # skipped meanwhile
            self._slots.release()
            return
        task = self._begin(self._sender.send(bulk, self._spool.name))
        self._in_flight[task] = records
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
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
            asyncio.create_task(self._spool.wait_beyond(self._reading.position)),
            asyncio.create_task(self._draining.wait()),
        ]
        try:
            await asyncio.wait(waits, timeout=secs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
