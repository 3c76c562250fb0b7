"""Room on disk for documents that Elasticsearch did not take: waited for, never overrun.

An acknowledged event is never dropped, so at `dead_letters.max_bytes` the sink stops. Keeps promise 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.spool.shelf import NO_ROOM
from gateway.spool.state import State
from gateway.telemetry import Telemetry

CHECK_SECS = 1.0


class Room:
    """Bytes are reserved when a document is put aside, and given back when it is on disk."""

    def __init__(self, name: str, state: State, telemetry: Telemetry) -> None:
        self._name = name
        self._state = state
        self._telemetry = telemetry
        self._wanting: set[object] = set()
        self.reserved = 0
        self.counting = 0  # bytes of figures that wait in memory for the records before them

    @property
    def lacking(self) -> bool:
        """Whether somebody waits for room."""
        return bool(self._wanting)

    def take(self, size: int, who: object) -> bool:
        """Reserve ``size`` bytes; when there is no room for them, note that ``who`` waits."""
        if self._state.room - self.reserved >= size:
            self.reserved += size
            self._wanting.discard(who)
            return True
        if not self._wanting:
            self._telemetry.sink_stopped(self._name, NO_ROOM)
        self._wanting.add(who)
        return False

    async def wait(self, size: int, who: object, given_up: Callable[[], bool]) -> bool:
        """Reserve ``size`` bytes as soon as there is room for them; false when they are not wanted any more."""
        while not self.take(size, who):
            await asyncio.sleep(CHECK_SECS)
            if given_up():
                return False
        return True

    def forget(self, who: object) -> None:
        """Note that ``who`` waits no more."""
        self._wanting.discard(who)

    def release(self, size: int) -> None:
        """Give back what is on disk now, and counted there."""
        self.reserved -= size
