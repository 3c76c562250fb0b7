"""Room for an unfinished line that is long, given in turn and for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.room import Room

FREE_BYTES = 16 * 1024  # of an unfinished line: the part that waits for nobody
LINE_SECS = 60  # for the sender to finish a line that has room


class LongLine:
    """A line's room for ``size`` bytes: had at once, or waited for."""

    def __init__(self, room: Room, size: int, when_there: Callable[[], None]) -> None:
        self._room = room
        self._size = size
        self.has_room = room.take_now(size)
        self._waiting = None if self.has_room else asyncio.create_task(self._wait(when_there))
        self.restart()

    def restart(self) -> None:
        """Give the sender its whole time from now on."""
        self._until = asyncio.get_running_loop().time() + LINE_SECS

    @property
    def secs_left(self) -> float:
        """How long the sender still has."""
        return self._until - asyncio.get_running_loop().time()

    def leave(self) -> None:
        """Give the room back, or wait for it no longer."""
        if self._waiting is not None:
            self._waiting.cancel()
        elif self.has_room:
            self._room.give(self._size)
        self._waiting, self.has_room = None, False

    async def _wait(self, when_there: Callable[[], None]) -> None:
        await self._room.take(self._size)
        self._waiting, self.has_room = None, True
        self.restart()
        when_there()
