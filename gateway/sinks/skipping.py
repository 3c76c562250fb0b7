"""Lets a sink that is not required skip the oldest events where the spool has no more room. Keeps promises 6 and 10."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from gateway.spool.books import Cursor
from gateway.spool.folder import Folder

log = structlog.get_logger(__name__)
LOOK_SECS = 0.1
RETRY_SECS = 1.0

Skip = Callable[[Cursor], Awaitable[int]]
"""Moves a sink's cursor to a place for good, lets go of the spool before it, returns how many it has ever skipped."""


class Skipping:
    """Looks after the spool for one sink."""

    def __init__(self, name: str, spool: Folder, skip: Skip, *, required: bool) -> None:
        self._name = name
        self._spool = spool
        self._skip = skip
        self._required = required
        self._last: datetime | None = None

    def status(self) -> dict[str, Any]:
        """Return whether senders wait for the sink, and when it last skipped."""
        return {"required": self._required, "last_skip": None if self._last is None else self._last.isoformat()}

    async def run(self) -> None:
        """Skip what senders would have to wait for, until cancelled; nothing where the sink is required."""
        while not self._required:
            place = self._spool.place_to_skip(self._name)
            if place is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECS):
                        await self._spool.wait_beyond(self._spool.end)
                continue
            try:
                skipped = await self._skip(await asyncio.to_thread(self._spool.at, place))
            except (OSError, sqlite3.Error) as error:
                text = "A sink cannot skip events to make room in the spool, trying again."
                log.error(text, sink=self._name, error=str(error))
                await asyncio.sleep(RETRY_SECS)
                continue
            self._last = datetime.now(UTC)
            text = "The spool is full because of a sink that is not required: it skips events."
            log.error(text, sink=self._name, skipped=skipped)
