"""Brings the spool's documents into the embedded store. Keeps promises 3, 4, 6 and 10.

A batch's rows and the cursor behind them are one transaction of the store: what is repeated after a
crash or an error was not there before. Nothing is let go from the spool before that, but for what the
sink has to skip: up to where is kept outside of the store, which may be what is broken.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import structlog

from gateway.errors import GatewayError
from gateway.monitoring.figures import Figures
from gateway.settings import Store as StoreSettings
from gateway.sinks.counting import behind, counted
from gateway.sinks.reading import Reading
from gateway.sinks.skipping import Skipping
from gateway.spool.books import Cursor
from gateway.spool.folder import Folder
from gateway.spool.reader import Item
from gateway.spool.record import Documents
from gateway.spool.shelf import NoRoom
from gateway.spool.state import State
from gateway.store.embedded import EmbeddedStore
from gateway.store.query import StoreUnavailable
from gateway.store.refusals import letters, trial_groups
from gateway.store.rows import DocumentError
from gateway.telemetry import Telemetry

log = structlog.get_logger(__name__)
BATCH_BYTES = 8 << 20
# After trouble, which may be want of memory or of disk; then twice as much each time.
LEAST_BATCH_BYTES = 256 << 10
# An event after a pause goes at once; those behind it wait for one another this long, as a
# transaction costs as much as some hundred events.
PAUSE_SECS = 0.5
IDLE_SECS = 0.05
MAX_BACKOFF_SECS = 30.0
RETENTION_SECS = 3600.0


class EmbeddedSink:
    """Reads a folder of the spool, writes the store; that of the first folder looks after the store."""

    name = "embedded"

    def __init__(
        self,
        spool: Folder,
        state: State,
        store: EmbeddedStore,
        settings: StoreSettings,
        telemetry: Telemetry,
        *,
        first: bool = True,
        figures: Figures | None = None,
    ) -> None:
        self._spool = spool
        self._first = first
        self._file = state
        self._store = store
        self._settings = settings
        self._telemetry = telemetry
        self._figures = figures
        self._cursor = Cursor()
        self._skipped = Cursor()  # up to here, whatever the store says
        self._skipping = Skipping(self.name, spool, self._skip, required=settings.required)
        self._reading: Reading | None = None
        self._work: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._pending = False  # read from the spool, and not in the store yet
        self._committing = False
        self._state: Literal["ok", "retrying", "stopped"] = "stopped"
        self._last_error: str | None = None
        self._failing_since: float | None = None

    @property
    def cursor(self) -> Cursor:
        """How far this sink has come, as last committed."""
        return self._cursor

    def status(self) -> dict[str, Any]:
        """Return how it stands, for `/status`."""
        return {"state": self._state, "last_error": self._last_error, **self._skipping.status()}

    async def start(self) -> None:
        """Open the store and find the place to go on from; raise `FormatVersionError` for a newer one.

        One that cannot be opened, for damage or want of room, is tried again while it runs: the spool keeps all.
        """
        skipped = self._file.cursor(self.name, self._spool.name)
        if skipped is not None and not self._spool.outlives(skipped):
            self._skipped = skipped
        try:
            if self._first:
                await self._store.open()
            self._cursor = await self._stored()
        except StoreUnavailable as error:
            self._failed(error, 0)
            self._cursor = await self._unstored()
        else:
            self._state = "ok"
        reader = await asyncio.to_thread(self._spool.reader, self.name, self._cursor)
        self._reading = Reading(self._spool, reader, lambda: self._cursor)

    async def _stored(self) -> Cursor:
        """Return how far the store has come."""
        if self._figures is not None:
            await self._store.read_figures(self._figures.load)
        cursor = await self._store.cursor(self._spool.name)
        if cursor is not None and self._spool.outlives(cursor):
            log.warning(
                "The spool ends before the place up to which it was read, as after a restore: "
                "reading it from the beginning.",
                sink=self.name,
            )
            cursor = None
        begin = await self._unstored() if cursor is None else cursor
        return begin.skipped_to(self._skipped)

    async def _unstored(self) -> Cursor:
        """Return where a store begins that does not know: at the oldest record, or before the first one skipped."""
        if self._skipped == Cursor():
            return await asyncio.to_thread(self._spool.new_cursor)
        begin = self._skipped.accepted - self._skipped.skipped
        return Cursor(accepted=begin, base=begin).skipped_to(self._skipped)

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

    async def trial(self, documents: list[tuple[str, bytes]]) -> list[str | None]:
        """Return for each index name and document None, or why the store would not take it now.

        Raises `StoreUnavailable` when it cannot be known.
        """
        reasons: list[str | None] = [None] * len(documents)
        for places, group in trial_groups(documents, BATCH_BYTES):
            for (_, at), reason in (await self._store.refused([group])).items():
                reasons[places[at]] = reason
        return reasons

    async def stop(self) -> None:
        """Stop working and close the store; what was not taken stays in the spool."""
        self._state = "stopped"
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        if self._first:
            await self._store.close()

    def _place(self) -> Reading:
        if self._reading is None:
            raise RuntimeError("start first")
        return self._reading

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self._first:
                tasks.create_task(self._retain())
            tasks.create_task(self._take())
            tasks.create_task(self._skipping.run())

    async def _take(self) -> None:
        failures, max_bytes = int(self._state == "retrying"), BATCH_BYTES
        while True:
            if not failures:
                await self._spool.wait_beyond(self._place().position)
            try:
                if failures:
                    await self._begin_anew()
                behind = await self._batch(max_bytes)
            except Exception as error:  # whatever it is, the events stay in the spool and status tells
                self._failed(error, failures)
                failures, max_bytes = failures + 1, LEAST_BATCH_BYTES
                await asyncio.sleep(min(MAX_BACKOFF_SECS, 0.25 * 2 ** min(failures, 10)))
                continue
            max_bytes = min(2 * max_bytes, BATCH_BYTES)
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
        end = self._spool.end
        items = await self._place().read(max_bytes)
        if not items:
            # Behind the last good record lie bytes that cannot be read, counted once one follows.
            self._pending = False
            await asyncio.sleep(IDLE_SECS)
            return False
        groups = [group for item in items for group in item.record.documents()]
        size = sum(len(group.data) for group in groups)
        cursor = behind(self._cursor, items)
        started = time.monotonic()
        self._committing = True
        try:
            cursor = await self._store.commit(
                self._spool.name, cursor, groups, count=counted(self._figures, self._spool.name, items)
            )
        except DocumentError as error:
            self._telemetry.retried(self.name, sum(group.count for group in groups))
            cursor = await self._commit_rest(cursor, items, groups, error)
        finally:
            self._committing = False
        self._telemetry.bulk_sent(self.name, size=size, seconds=time.monotonic() - started)
        self._cursor = cursor.skipped_to(self._skipped)
        self._pending = False
        self._spool.release(self.name, self._cursor.position)
        return self._place().position < end

    async def _commit_rest(
        self, cursor: Cursor, items: list[Item], groups: list[Documents], error: DocumentError
    ) -> Cursor:
        """Commit a batch without the documents that the store refuses: they become dead letters."""
        refused = await self._store.refused(groups)
        if not refused:
            raise error  # each goes in alone: it was not theirs
        # Kept before the cursor moves past them; should that fail they are kept again, under the same origin.
        kept = letters(self.name, self._spool.name, items, refused)
        await self._file.run(lambda: self._file.keep(kept))
        cursor = cursor.advanced(dead_letters=cursor.dead_letters + len(refused))
        without = frozenset(refused)
        return await self._store.commit(
            self._spool.name, cursor, groups, without, counted(self._figures, self._spool.name, items, without)
        )

    async def _begin_anew(self) -> None:
        """Open the store again and go back to what it has: a failed commit may have succeeded."""
        await self._store.open()
        self._cursor = await self._stored()
        self._place().go_back()

    async def _skip(self, place: Cursor) -> int:
        """Give up what lies before a place; a batch that is being written counts when it is."""
        place = place.advanced(skipped=self._cursor.skipped_to(place).skipped)  # for a store that is new
        await self._file.run(lambda: self._file.commit(self.name, self._spool.name, place))
        self._skipped = place
        self._spool.release(self.name, place.position)
        if not self._committing:
            self._cursor = self._cursor.skipped_to(place)
        return self._cursor.skipped

    def _failed(self, error: Exception, failures: int) -> None:
        self._state = "stopped" if isinstance(error, NoRoom) else "retrying"
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
