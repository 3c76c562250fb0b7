"""One sink over several folders of the spool: a lane for each, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from gateway.sinks.sink import Sink
from gateway.spool.books import sink_books, total
from gateway.spool.folder import Folder

_WORST = ("stopped", "retrying", "ok")


class Lanes:
    """A sink's parts, each of which reads one folder; the first looks after what they share."""

    def __init__(self, lanes: Sequence[tuple[Folder, Sink]]) -> None:
        """Take the lanes, all of one name."""
        self._lanes = lanes
        self._first = lanes[0][1]
        self.name = self._first.name

    async def start(self) -> None:
        """Start them, the first before the others; raise `GatewayError` when one cannot."""
        for _, sink in self._lanes:
            await sink.start()

    async def run(self) -> None:
        """Take events until cancelled; raise the first mistake of ours that ends a lane."""
        await asyncio.gather(*(sink.run() for _, sink in self._lanes))

    async def drain(self, secs: float) -> None:
        """Take what is in the spool, for at most ``secs``."""
        await asyncio.gather(*(sink.drain(secs) for _, sink in self._lanes))

    async def stop(self) -> None:
        """Stop and close, last what they share."""
        await asyncio.gather(*(sink.stop() for _, sink in self._lanes[1:]))
        await self._first.stop()

    async def trial(self, documents: list[tuple[str, bytes]]) -> list[str | None]:
        """Return for each document None, or why it would not be taken now; raise `GatewayError`."""
        return await self._first.trial(documents)

    def books(self) -> tuple[dict[str, int], int]:
        """Return the books of all folders, and the difference."""
        parts = [sink_books(sink.cursor, total(folder.counts).accepted) for folder, sink in self._lanes]
        books = {name: sum(each[name] for each, _ in parts) for name in parts[0][0]}
        # The first that is off: two that are must not hide each other.
        return books, next((difference for _, difference in parts if difference), 0)

    def status(self) -> dict[str, Any]:
        """Return how the worst of them stands, with the sums of all."""
        statuses = [sink.status() for _, sink in self._lanes]
        first = statuses[0]
        if len(statuses) == 1:
            return first
        worst = min(statuses, key=lambda each: _WORST.index(each["state"]))
        merged = {**first, "state": worst["state"]}
        merged["last_error"] = worst["last_error"] or next((e["last_error"] for e in statuses if e["last_error"]), None)
        merged["last_skip"] = max((e["last_skip"] for e in statuses if e["last_skip"]), default=None)
        for name in ("in_flight", "parked"):
            if name in first:
                merged[name] = sum(each[name] for each in statuses)
        if "troubled_indices" in first:
            merged["troubled_indices"] = sorted({index for each in statuses for index in each["troubled_indices"]})
        return merged
