"""Long work on the event loop, in steps, so that it harms nobody else. Keeps promise 7."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")
SMALL_SECS = 0.002  # work that is done in less is small
SWITCH_SECS = 0.001  # for which a thread waits before it asks for the interpreter's lock (`sys.setswitchinterval`)
# Of one turn. In turns shorter than that the loop would give the lock away and take it back at once, again and again,
# and a thread that waits for it, such as the spool's, would wait anew each time and never ask.
TURN_SECS = 1.5 * SWITCH_SECS
NEAR_SECS = 1.0
PAUSES = 2


class Turns:
    """Shares the event loop between those who ask for much and those who ask for little.

    While somebody else asks for little, each turn of a long work is followed by a pause twice as long: most small
    requests find the loop free. Where nobody does, nothing waits.
    """

    def __init__(self) -> None:
        # When somebody last asked for little, and when somebody else before that.
        self._latest = self._other = ("", float("-inf"))

    async def take(self, work: Generator[object, None, Result], sender: str) -> Result:
        """Return what a generator returns; others have their turn wherever it pauses."""
        first = True
        while True:
            started = time.perf_counter()
            try:
                while time.perf_counter() - started < TURN_SECS:
                    next(work)
            except StopIteration as end:
                took = time.perf_counter() - started
                if first and took < SMALL_SECS:
                    self._note(sender, started)
                elif self._is_near(sender, started):
                    await asyncio.sleep(PAUSES * took)
                result: Result = end.value
                return result
            first = False
            near = self._is_near(sender, started)
            await asyncio.sleep(PAUSES * (time.perf_counter() - started) if near else 0)

    def _note(self, sender: str, now: float) -> None:
        if sender != self._latest[0]:
            self._other = self._latest
        self._latest = sender, now

    def _is_near(self, sender: str, now: float) -> bool:
        """Whether somebody else asked for little not long ago."""
        _, at = self._other if self._latest[0] == sender else self._latest
        return now - at < NEAR_SECS


TURNS = Turns()  # of the one event loop of this process
