"""How far the sink has come: its cursor, and the records behind it on their way. Keeps promises 3, 6 and 10."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from gateway.monitoring.figures import Figures, Told
from gateway.sinks.elasticsearch.bulk import Taken
from gateway.sinks.elasticsearch.parking import Settled
from gateway.sinks.elasticsearch.room import Room
from gateway.spool.books import Cursor
from gateway.spool.folder import Folder
from gateway.spool.state import State
from gateway.spool.tables import Blobs
from gateway.telemetry import Telemetry

log = structlog.get_logger(__name__)
COMMIT_SECS = 0.2  # one sync of the cursor for all that was settled meanwhile
STATE_RETRY_SECS = 1.0


class Progress:
    """Moves the cursor, in memory as on disk; each move is one transaction with what it counts."""

    def __init__(
        self,
        name: str,
        spool: Folder,
        state: State,
        room: Room,
        telemetry: Telemetry,
        cursor: Cursor,
        figures: Figures | None = None,
    ) -> None:
        self._name = name
        self._spool = spool
        self._state = state
        self._room = room
        self._telemetry = telemetry
        self._figures = figures
        self._on_the_way: deque[Taken] = deque()
        self._writing = asyncio.Lock()
        self.trouble: str | None = None
        """Why the cursor cannot be written."""
        self.cursor = cursor

    def __len__(self) -> int:
        """Records on their way."""
        return len(self._on_the_way)

    def add(self, taken: Taken) -> None:
        """Put a record on its way, behind those that are."""
        self._on_the_way.append(taken)
        self._room.counting += taken.counting

    async def run(self, settled: asyncio.Event) -> None:
        """Move the cursor whenever ``settled`` is set, until cancelled."""
        while True:
            await settled.wait()
            settled.clear()
            try:
                await self.commit()
            except sqlite3.Error as error:
                self.trouble = f"The cursor cannot be written into state.sqlite3 ({error}), trying again."
                log.error(self.trouble, sink=self._name)
                settled.set()
                await asyncio.sleep(STATE_RETRY_SECS)
            else:
                self.trouble = None
            await asyncio.sleep(COMMIT_SECS)

    async def commit(self) -> None:
        """Move the cursor over the records at the front that are settled; raise sqlite3.Error."""
        await self._undisturbed(self._move)

    async def skip(self, place: Cursor) -> None:
        """Move the cursor to a place at least; what has no verdict before it is skipped. Raises sqlite3.Error."""
        await self._undisturbed(lambda: self._move(place))

    async def count_parked(self, settled: Settled) -> None:
        """Let parked documents go that got their verdict; raise sqlite3.Error."""
        await self._undisturbed(lambda: self._unpark(settled))

    async def _move(self, place: Cursor | None = None) -> None:
        done: list[Taken] = []
        cursor = self.cursor
        for taken in self._on_the_way:
            if taken.open and (place is None or taken.after > place.position):
                break
            cursor = taken.settle(cursor)
            done.append(taken)
        if place is not None:
            cursor = cursor.skipped_to(place)
        if cursor is self.cursor:
            return
        folder = self._spool.name
        letters = [letter for taken in done for letter in taken.letters]
        parked = [each for taken in done for each in taken.parked]
        told = [each for taken in done if (each := _told(taken)) is not None]
        await self._write(
            told, lambda figures: self._state.commit(self._name, folder, cursor, letters, parked, (), figures)
        )
        if letters:
            self._telemetry.dead_lettered(self._name, len(letters), letters[0].index, letters[0].letter.message)
        # More than those counted, when records before the place were read meanwhile.
        while self._on_the_way and self._on_the_way[0].after <= cursor.position:
            taken = self._on_the_way.popleft()
            taken.passed = True
            self._room.release(taken.held)
            self._room.counting -= taken.counting
        self.cursor = cursor
        self._spool.release(self._name, cursor.position)

    async def _unpark(self, settled: Settled) -> None:
        cursor = self.cursor.advanced(
            indexed=self.cursor.indexed + settled.indexed,
            duplicates=self.cursor.duplicates + settled.duplicates,
            dead_letters=self.cursor.dead_letters + len(settled.letters),
            parked=self.cursor.parked - len(settled.documents),
        )
        folder = self._spool.name
        # Into the minute in which they were put aside: that of their receipt, or one shortly after it.
        told = [Told(each.since, None, added=[(each.index, each.document)]) for each in settled.new]
        await self._write(
            told,
            lambda figures: self._state.unpark(
                self._name, folder, settled.documents, cursor, settled.letters, figures=figures
            ),
        )
        self.cursor = cursor

    async def _write(self, told: list[Told], write: Callable[[Blobs], object]) -> None:
        """Write a change with the figures of records, worked out in the same thread; raise sqlite3.Error."""
        figures = self._figures

        def counted() -> None:
            if figures is None:
                write({})
                return
            change = figures.change(self._spool.name, told)
            write(change.blobs)
            change.put()

        await self._state.run(counted)

    async def _undisturbed(self, change: Callable[[], Awaitable[None]]) -> None:
        """Finish a change of cursor and disk, one at a time, also when the caller is cancelled meanwhile."""

        async def alone() -> None:
            async with self._writing:
                await change()

        await asyncio.shield(asyncio.create_task(alone()))


def _told(taken: Taken) -> Told | None:
    """Return what the figures are told of a record; None when some of its documents are skipped: which is not known."""
    if taken.open or taken.summary is None:
        return None
    none = bool(taken.header.documents) and not taken.indexed
    return Told(taken.header.written_us / 1e6, taken.summary, taken.left_out, none)
