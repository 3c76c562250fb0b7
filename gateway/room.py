"""Room in memory for what many senders have not finished yet, handed out in the order asked for, without I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType


class Room:
    """So much for all together, in bytes or whatever else costs memory."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def share(self) -> Share:
        """Return one request's share, as yet empty."""
        return Share(self)

    def has(self, size: int) -> bool:
        """Whether nobody would have to wait for ``size`` bytes."""
        return not self._waiting and self._taken + size <= self._max_bytes

    def take_now(self, size: int) -> bool:
        """Take ``size`` bytes unless that means to wait; return whether they are taken."""
        taken = self.has(size)
        if taken:
            self._taken += size
        return taken

    async def take(self, size: int) -> None:
        """Return when there is room for ``size`` bytes and they are taken."""
        if self.take_now(size):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # it was passed over meanwhile
                    self._waiting.remove((size, turn))
                size = 0
            self.give(size)
            raise

    def give(self, size: int) -> None:
        """Give bytes back, to whoever waits longest."""
        self._taken -= size
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.cancelled():
                if self._taken + wanted > self._max_bytes:
                    break
                self._taken += wanted
                turn.set_result(None)
            self._waiting.popleft()

    def at_most(self, size: int) -> int:
        """Return ``size``, or all there is: more than that nobody could ever get."""
        return min(size, self._max_bytes)


class Share:
    """What one request has taken; given back when it ends."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0

    async def reach(self, size: int) -> None:
        """Return when the share is at least ``size`` bytes."""
        size = self._room.at_most(size)
        if size > self._size:
            # All is given back first: two that hold a part and wait for the rest would wait for ever.
            self.shrink(0)
            await self._room.take(size)
            self._size = size

    def shrink(self, size: int) -> None:
        """Give back what is beyond ``size`` bytes."""
        if size < self._size:
            self._room.give(self._size - size)
            self._size = size

    def __bool__(self) -> bool:
        return self._size > 0

    async def __aenter__(self) -> Share:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shrink(0)
