"""Asks one Elasticsearch until it answers in order.

While it is in trouble one request at a time tries whether it is over; the others wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TypeVar

from gateway.sinks.elasticsearch.backoff import Backoff
from gateway.sinks.elasticsearch.client import RequestFailed
from gateway.telemetry import Telemetry

T = TypeVar("T")


class Patience:
    """What is known of the server's trouble, and when it may be asked again."""

    def __init__(self, name: str, telemetry: Telemetry, failed: Callable[[RequestFailed], None]) -> None:
        """``name`` is the sink's; ``failed`` is told of each request that no body is to blame for."""
        self._name = name
        self._telemetry = telemetry
        self._failed = failed
        self._backoff = Backoff()
        self._turn = asyncio.Lock()
        self._trouble_since: float | None = None
        self._not_before = 0.0  # until then the server asked to be left alone

    @property
    def in_trouble(self) -> bool:
        """Whether whole requests fail."""
        return self._trouble_since is not None

    @property
    def holds_off(self) -> bool:
        """Whether nothing should be asked that can wait."""
        return self.in_trouble or time.monotonic() < self._not_before

    async def ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an orderly answer; raise `RequestFailed` when the body is to blame."""
        while True:
            async with self._turn if self.in_trouble else nullcontext():
                while (left := self._not_before - time.monotonic()) > 0:
                    await asyncio.sleep(left)
                try:
                    answer = await request()
                except RequestFailed as error:
                    if error.blames_body:
                        raise
                    await self.pause(error)
                    continue
                self._works()
                return answer

    async def pause(self, error: RequestFailed) -> None:
        """Note that the server is in trouble, and wait."""
        first = self._trouble_since is None
        if first:
            self._trouble_since = time.monotonic()
        self._failed(error)
        self._telemetry.sink_failed(self._name, error.reason, str(error), first=first)
        await self.wait(self._backoff, error.retry_after)

    async def wait(self, backoff: Backoff, retry_after: float) -> None:
        """Wait before the next try; what the server asks for holds for everybody."""
        secs, now = backoff.next(retry_after), time.monotonic()
        self._not_before = max(self._not_before, now + retry_after)
        try:
            await asyncio.sleep(secs)
        except asyncio.CancelledError:
            if backoff is self._backoff:  # a bulk that is given up: whoever is next waits instead
                self._not_before = max(self._not_before, now + secs)
            raise

    def _works(self) -> None:
        if self._trouble_since is not None:
            self._telemetry.sink_recovered(self._name, time.monotonic() - self._trouble_since)
            self._trouble_since = None
            self._backoff.reset()
