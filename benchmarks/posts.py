"""Single events, each a request, on connections that are kept: the part of the sender that has an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from benchmarks.load import HOST, request

_OK = b"HTTP/1.1 200"


class _Connection(asyncio.Protocol):
    """Sends a request when it has the answer to the one before; small answers come in one piece, or are waited for."""

    def __init__(self, requests: list[bytes], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            return
        if not head.startswith(_OK):
            self._fail(f"the answer was {self._received[:500]!r}")
            return
        self._received = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection was lost: {error}")

    def _next(self) -> None:
        if self._requests:
            self._transport.write(self._requests.pop())
        elif not self._done.done():
            self._done.set_result(None)
            self._transport.close()

    def _fail(self, text: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(text))


def posts(port: int, made: list[bytes], connections: int, secs: float) -> Callable[[], None]:
    """Return what sends each line as a request of its own, over so many connections at once."""
    import uvloop

    requests = [request("/v1/events", "application/json", line[:-1]) for line in made]

    async def send() -> None:
        loop = asyncio.get_running_loop()
        waiting = [loop.create_future() for _ in range(min(connections, len(requests)))]
        for number, done in enumerate(waiting):
            share = requests[number::connections]
            await loop.create_connection(lambda share=share, done=done: _Connection(share, done), HOST, port)  # type: ignore[misc]
        async with asyncio.timeout(secs):
            await asyncio.gather(*waiting)

    def work() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(send())

    return work
