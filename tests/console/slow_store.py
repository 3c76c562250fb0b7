"""A store that tests of questions ask."""

import asyncio

from gateway.store.aggregation import Aggregation, Question
from gateway.store.query import Hits, Query
from gateway.store.store import Index

SLOW_SECS = 0.2
NEVER_SECS = 3600.0


class SlowStore:
    """Answers after a while; knows how many it answers at a time, and what it finished."""

    def __init__(self, secs: float = SLOW_SECS) -> None:
        self.secs = secs
        self.begun = self.ended = self.now = self.most = 0

    async def search(self, query: Query) -> Hits:
        """Find nothing."""
        await self._wait()
        return Hits(0)

    async def aggregate(self, question: Question) -> Aggregation:
        """Count nothing."""
        await self._wait()
        return Aggregation(0)

    async def indices(self) -> list[Index]:
        """Have none."""
        return []

    async def export(self, *_: object) -> None:
        """Do nothing."""

    async def _wait(self) -> None:
        self.begun += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.secs)
        finally:
            self.now -= 1
        self.ended += 1
