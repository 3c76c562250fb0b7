"""Reads a folder of the spool for one sink, of which the cursor may be moved on meanwhile. Keeps promise 10."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.spool.books import Cursor
from gateway.spool.folder import Folder
from gateway.spool.reader import Item, Reader
from gateway.spool.segment import Position


class Reading:
    """Records in their order, none of them from before the sink's cursor."""

    def __init__(self, folder: Folder, reader: Reader, cursor: Callable[[], Cursor]) -> None:
        """Begin where ``reader`` stands; ``cursor`` gives how far the sink is, which is never ahead of it by itself."""
        self._folder = folder
        self._reader = reader
        self._cursor = cursor

    @property
    def position(self) -> Position:
        """Up to where was read."""
        return self._reader.position

    async def read(self, max_bytes: int) -> list[Item]:
        """Return the next records that are synced, about so many bytes of them; raise `OSError`."""
        while True:
            if self.position < self._cursor().position:
                self.go_back()
            began = self.position
            items = await asyncio.to_thread(self._reader.read, self._folder.end, max_bytes)
            if began >= self._cursor().position:
                return items
            self.go_back()  # skipped meanwhile: its segment may be gone, and what was read lie behind the place

    def go_back(self) -> None:
        """Read from the sink's cursor on."""
        cursor = self._cursor()
        self._reader = Reader(self._folder.folder, cursor.position, cursor.accepted, cursor.sequence)
