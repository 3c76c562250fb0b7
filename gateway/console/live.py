"""`/console/live`: what changes from second to second, as server-sent events, made once for all who listen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson
from fastapi import APIRouter, Response
from starlette.types import Receive, Scope, Send

from gateway.console.filters import disconnected

EVERY_SECS = 1.0
MAX_LISTENERS = 200
STALLED_SECS = 30.0  # a browser that takes nothing for so long opens the stream again


class Live:
    """Tells all listeners the same, once a second, while there are any."""

    def __init__(self, now: Callable[[], dict[str, Any]]) -> None:
        """``now`` gives what is told, without waiting."""
        self._now = now
        self._next: asyncio.Future[bytes | None] | None = None
        self._listeners = 0
        self._message, self._made = b"", float("-inf")
        self._closed = False

    def router(self) -> APIRouter:
        """Return the route."""
        routes = APIRouter(include_in_schema=False)

        @routes.get("/console/live")
        async def live() -> Response:
            if self._closed or self._listeners >= MAX_LISTENERS:
                why = "The gateway is stopping." if self._closed else f"{MAX_LISTENERS} pages are open already."
                return Response(why, 503 if self._closed else 429, {"retry-after": "10"})
            return _Stream(self)

        return routes

    def close(self) -> None:
        """End all streams, so that a stop does not wait for them."""
        self._closed = True
        if self._next is not None and not self._next.done():
            self._next.set_result(None)

    async def next(self) -> bytes | None:
        """Return what is told in the next second; None at the end."""
        if self._closed:
            return None
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(EVERY_SECS, self._tell, self._next)
        return await asyncio.shield(self._next)

    def _tell(self, waiting: asyncio.Future[bytes | None]) -> None:
        self._next = None
        if not waiting.done():
            waiting.set_result(self._make())

    def message(self) -> bytes:
        """Return what was told last: rates are of the time since then, and none who comes between may change that."""
        return self._message if time.monotonic() - self._made < 2 * EVERY_SECS else self._make()

    def _make(self) -> bytes:
        self._message = b"event: now\ndata: " + orjson.dumps(self._now()) + b"\n\n"
        self._made = time.monotonic()
        return self._message


class _Stream(Response):
    def __init__(self, live: Live) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._live = live
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        live = self._live
        live._listeners += 1
        gone = asyncio.create_task(disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            message: bytes | None = live.message()
            while message is not None and not gone.done():
                async with asyncio.timeout(STALLED_SECS):
                    await send({"type": "http.response.body", "body": message, "more_body": True})
                following = asyncio.create_task(live.next())
                await asyncio.wait([following, gone], return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    break
                message = following.result()
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            pass  # without an end: the server closes the connection
        finally:
            live._listeners -= 1
            gone.cancel()
