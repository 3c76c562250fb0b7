"""Brings the spool's documents into the embedded store. Keeps promises 3, 4 and 6.

A batch's rows and the cursor behind them are one transaction of the store: what is repeated after a
crash or an error was not there before. Nothing is let go from the spool before that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Literal

import structlog

from gateway.errors import GatewayError
from gateway.settings import Store as StoreSettings
from gateway.spool.books import Cursor
from gateway.spool.reader import Item, Reader
from gateway.spool.record import Documents
from gateway.spool.spool import Spool
from gateway.spool.state import Letter
from gateway.store.embedded import EmbeddedStore
from gateway.store.refusals import letters
from gateway.store.rows import DocumentError
from gateway.telemetry import Telemetry

log = structlog.get_logger(__name__)
BATCH_BYTES = 8 << 20
# After trouble, which may be want of memory.
LEAST_BATCH_BYTES = 256 << 10
# An event after a pause goes at once; those behind it wait for one another this long, as a
# transaction costs as much as some hundred events.
PAUSE_SECS = 0.5
IDLE_SECS = 0.05
MAX_BACKOFF_SECS = 30.0
RETENTION_SECS = 3600.0

DeadLetters = Callable[[list[Letter]], Awaitable[None]]


class EmbeddedSink:
    """Reads the spool, writes the store."""

    name = "embedded"

    def __init__(
        self,
        spool: Spool,
        store: EmbeddedStore,
        settings: StoreSettings,
        telemetry: Telemetry,
        dead_letter: DeadLetters,
    ) -> None:
        """``dead_letter`` keeps letters, each origin once, and returns when they are on disk."""
        self._spool = spool
        self._store = store
        self._settings = settings
        self._telemetry = telemetry
        self._dead_letter = dead_letter
        self._cursor = Cursor()
        self._reader: Reader | None = None
        self._work: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._pending = False  # read from the spool, and not in the store yet
        self._state: Literal["ok", "retrying", "stopped"] = "stopped"
        self._last_error: str | None = None
        self._failing_since: float | None = None

    @property
    def cursor(self) -> Cursor:
        """How far this sink has come, as last committed."""
        return self._cursor

    def status(self) -> dict[str, str | None]:
        """Return how it stands, for `/status`."""
        return {"state": self._state, "last_error": self._last_error}

    async def start(self) -> None:
        """Open the store and find the place to go on from; raise `GatewayError` when it cannot be opened."""
        self._cursor = await self._stored()
        self._reader = self._spool.reader(self.name, self._cursor)
        self._state = "ok"

    async def _stored(self) -> Cursor:
        """Open the store, also anew, and return how far it has come."""
        await self._store.open()
        cursor = await self._store.cursor(self._spool.name)
        if cursor is None:
            return await asyncio.to_thread(self._spool.new_cursor)
        if self._spool.outlives(cursor):
            log.warning(
                "The spool ends before the place up to which it was read, as after a restore: "
                "reading it from the beginning.",
                sink=self.name,
            )
            return await asyncio.to_thread(self._spool.new_cursor)
        return cursor

    async def run(self) -> None:
        """Take what comes until `stop`."""
        self._work = asyncio.create_task(self._run())
        try:
            await asyncio.wait([self._work])
            if not self._work.cancelled() and (failure := self._work.exception()) is not None:
                self._state, self._last_error = "stopped", f"A mistake of the gateway ended the sink: {failure!r}."
                raise failure
        finally:
            self._work.cancel()

    async def drain(self, secs: float) -> None:
        """Return when the store has all that is in the spool, or after ``secs``."""
        self._hurry.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(secs):
                while self._pending or self._place().position < self._spool.end:
                    await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Stop working and close the store; what was not taken stays in the spool."""
        self._state = "stopped"
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        await self._store.close()

    def _place(self) -> Reader:
        if self._reader is None:
            raise RuntimeError("start first")
        return self._reader

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._retain())
            tasks.create_task(self._take())

    async def _take(self) -> None:
        failures = 0
        while True:
            if not failures:
                await self._spool.wait_beyond(self._place().position)
            try:
                if failures:
                    await self._begin_anew()
                behind = await self._batch(BATCH_BYTES if not failures else LEAST_BATCH_BYTES)
            except Exception as error:  # whatever it is, the events stay in the spool and status tells
                self._failed(error, failures)
                failures += 1
                await asyncio.sleep(min(MAX_BACKOFF_SECS, 0.25 * 2 ** min(failures, 10)))
                continue
            if failures:
                failures = 0
                self._recovered()
            if not behind:
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_SECS):
                        await self._hurry.wait()

    async def _batch(self, max_bytes: int) -> bool:
        """Take the next records; return whether more were there already."""
        self._pending = True
        reader, end = self._place(), self._spool.end
        items = await asyncio.to_thread(reader.read, end, max_bytes)
        if not items:
            # Behind the last good record lie bytes that cannot be read, counted once one follows.
            self._pending = False
            await asyncio.sleep(IDLE_SECS)
            return False
        groups = [group for item in items for group in item.record.documents()]
        size = sum(len(group.data) for group in groups)
        cursor = _behind(self._cursor, items)
        started = time.monotonic()
        try:
            cursor = await self._store.commit(self._spool.name, cursor, groups)
        except DocumentError as error:
            self._telemetry.retried(self.name, sum(group.count for group in groups))
            cursor = await self._commit_rest(cursor, items, groups, error)
        self._telemetry.bulk_sent(self.name, size=size, seconds=time.monotonic() - started)
        self._cursor = cursor
        self._pending = False
        self._spool.release(self.name, cursor.position)
        return reader.position < end

    async def _commit_rest(
        self, cursor: Cursor, items: list[Item], groups: list[Documents], error: DocumentError
    ) -> Cursor:
        """Commit a batch without the documents that the store refuses: they become dead letters."""
        refused = await self._store.refused(groups)
        if not refused:
            raise error  # each goes in alone: it was not theirs
        # Kept before the cursor moves past them; should that fail they are kept again, under the same origin.
        await self._dead_letter(letters(self.name, self._spool.name, items, refused))
        cursor = cursor.advanced(dead_letters=cursor.dead_letters + len(refused))
        return await self._store.commit(self._spool.name, cursor, groups, without=frozenset(refused))

    async def _begin_anew(self) -> None:
        """Open the store again and go back to what it has: a failed commit may have succeeded."""
        self._cursor = await self._stored()
        # The place in the spool is kept since `start`.
        self._reader = Reader(self._spool.folder, self._cursor.position, self._cursor.accepted, self._cursor.sequence)

    def _failed(self, error: Exception, failures: int) -> None:
        self._state = "retrying"
        self._last_error = str(error)
        self._failing_since = self._failing_since or time.monotonic()
        self._telemetry.sink_failed(self.name, type(error).__name__, str(error), first=not failures)

    def _recovered(self) -> None:
        self._state = "ok"
        if self._failing_since is not None:
            self._telemetry.sink_recovered(self.name, time.monotonic() - self._failing_since)
        self._failing_since = None

    async def _retain(self) -> None:
        while self._settings.retention_days is not None:
            day = (datetime.now(UTC) - timedelta(days=self._settings.retention_days)).date()
            try:
                dropped = await self._store.drop_before(day)
            except GatewayError as error:
                log.warning("Old indices could not be deleted.", sink=self.name, error=str(error))
            else:
                if dropped:
                    log.info("Deleted indices older than store.retention_days.", indices=dropped)
            await asyncio.sleep(RETENTION_SECS)


def _behind(cursor: Cursor, items: list[Item]) -> Cursor:
    """Return the cursor behind the items, without what becomes of their documents."""
    last = items[-1]
    return cursor.advanced(
        position=last.after,
        sequence=last.record.header.sequence,
        accepted=last.record.header.accepted,
        damaged=cursor.damaged + sum(item.damaged for item in items),
    )
