"""Takes refused events from the records into the dead letters, and out of them what was sent again.

A record names the letters that became documents of it: they go in the transaction that moves the cursor over
the record, so that a letter is held until its documents are on disk, and not any longer. Keeps promises 2, 3, 7.
"""

from __future__ import annotations

import asyncio
import sqlite3

import structlog

from gateway.spool.books import Cursor, total
from gateway.spool.folder import Folder
from gateway.spool.reader import Item
from gateway.spool.shelf import Letter
from gateway.spool.state import State

log = structlog.get_logger(__name__)
READ_BYTES = 4 * 1024 * 1024
RETRY_SECS = 1.0
PAUSE_SECS = 0.2  # one sync for the letters of many records


class LetterBox:
    """Reads the spool like a sink and keeps what was refused."""

    name = "dead_letters"

    def __init__(self, spool: Folder, state: State) -> None:
        self._spool = spool
        self._state = state
        known = state.cursor(self.name, spool.name)
        if known is not None and spool.outlives(known):
            known = None
        self._cursor = known or Cursor()
        self._reader = spool.reader(self.name, known)
        self._catching: asyncio.Task[None] | None = None
        self._stopped = False

    async def run(self) -> None:
        """Take refused events until cancelled."""
        while not self._stopped:
            await self._spool.wait_beyond(self._reader.position)
            try:
                await self.catch_up()
            except OSError as error:
                log.error("The spool cannot be read for dead letters, trying again.", error=str(error))
                await asyncio.sleep(RETRY_SECS)
            await asyncio.sleep(PAUSE_SECS)

    @property
    def lost(self) -> int:
        """Refused events of which nothing is left, since they were in damaged records."""
        return self._cursor.damaged

    async def catch_up(self) -> None:
        """Take what is in the spool now."""
        end = self._spool.end
        while True:
            # Not to be cancelled between reading and keeping: the next read would be behind what was not kept.
            self._catching = self._catching or asyncio.create_task(self._catch_up())
            try:
                await asyncio.shield(self._catching)
            finally:
                if self._catching is not None and self._catching.done():
                    self._catching = None
            if self._reader.position >= end:  # else it had looked for the end before
                return

    async def stop(self) -> None:
        """Give up what is under way; it is read from the spool again at the next start."""
        self._stopped = True
        if self._catching is not None:
            self._catching.cancel()
            await asyncio.gather(self._catching, return_exceptions=True)

    async def _catch_up(self) -> None:
        while items := await asyncio.to_thread(self._reader.read, self._spool.end, READ_BYTES):
            letters = [letter for item in items for letter in self._letters(item)]
            settled = [origin for item in items for origin in item.record.settled()]
            cursor = self._cursor
            for item in items:
                cursor = _behind(cursor, item)
            while True:
                try:
                    without = await self._keep(cursor, letters, settled)
                    break
                except sqlite3.Error as error:
                    log.error("Dead letters cannot be written, trying again.", error=str(error))
                    await asyncio.sleep(RETRY_SECS)
            if without:
                log.error(
                    "The dead letters are full (dead_letters.max_bytes): refused events are kept without their bytes.",
                    events=without,
                )
            self._cursor = cursor
            self._spool.release(self.name, cursor.position)

    async def _keep(self, cursor: Cursor, letters: list[Letter], settled: list[str]) -> int:
        return await self._state.run(
            lambda: self._state.commit(self.name, self._spool.name, cursor, letters, settled=settled)
        )

    def _letters(self, item: Item) -> list[Letter]:
        record = item.record
        if not record.header.dead_letters:
            return []
        origin = f"{self._spool.name}/{record.header.sequence}"
        return [Letter(f"{origin}/{at}", letter) for at, letter in enumerate(record.dead_letters())]


def _behind(cursor: Cursor, item: Item) -> Cursor:
    """Return the cursor behind a record: ``dead_letters`` are the refused events up to there, ``damaged`` those lost.

    Without a ``base`` it is not known yet how many there were.
    """
    record = item.record
    refused = total(record.counts()).refused
    lost = 0 if cursor.base is None else max(0, refused - record.header.dead_letters - cursor.dead_letters)
    return Cursor(
        item.after,
        record.header.sequence,
        record.header.accepted,
        base=0,
        dead_letters=refused,
        damaged=cursor.damaged + lost,
    )
