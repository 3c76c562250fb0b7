"""Takes refused events from the records into the dead letters. Keeps promises 2 and 7."""

from __future__ import annotations

import asyncio
import sqlite3

import structlog

from gateway.spool.books import Cursor
from gateway.spool.reader import Item
from gateway.spool.spool import Spool
from gateway.spool.state import Letter, State

log = structlog.get_logger(__name__)
READ_BYTES = 4 * 1024 * 1024
RETRY_SECS = 1.0
PAUSE_SECS = 0.2  # one sync for the letters of many records


class LetterBox:
    """Reads the spool like a sink and keeps what was refused."""

    name = "dead_letters"

    def __init__(self, spool: Spool, state: State) -> None:
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

    async def catch_up(self) -> None:
        """Take what is in the spool now."""
        # Not to be cancelled between reading and keeping: the next read would be behind what was not kept.
        self._catching = self._catching or asyncio.create_task(self._catch_up())
        try:
            await asyncio.shield(self._catching)
        finally:
            if self._catching is not None and self._catching.done():
                self._catching = None

    async def stop(self) -> None:
        """Give up what is under way; it is read from the spool again at the next start."""
        self._stopped = True
        if self._catching is not None:
            self._catching.cancel()
            await asyncio.gather(self._catching, return_exceptions=True)

    async def _catch_up(self) -> None:
        while items := await asyncio.to_thread(self._reader.read, self._spool.end, READ_BYTES):
            letters = [letter for item in items for letter in self._letters(item)]
            header = items[-1].record.header
            cursor = Cursor(items[-1].after, header.sequence, header.accepted)
            while True:
                try:
                    without = await self._keep(cursor, letters)
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

    async def _keep(self, cursor: Cursor, letters: list[Letter]) -> int:
        return await self._state.run(lambda: self._state.commit(self.name, self._spool.name, cursor, letters))

    def _letters(self, item: Item) -> list[Letter]:
        record = item.record
        if not record.header.dead_letters:
            return []
        origin = f"{self._spool.name}/{record.header.sequence}"
        return [Letter(f"{origin}/{at}", letter) for at, letter in enumerate(record.dead_letters())]
