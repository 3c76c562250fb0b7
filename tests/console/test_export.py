"""`/v1/export/INDEX` on the wire: a caller that stops taking is given up, and the file goes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from fastapi import FastAPI

from gateway.console import export
from gateway.settings import Http
from gateway.sources.http.server import HttpServer

pytestmark = pytest.mark.anyio
FILE_BYTES = 64 << 20


class Exports:
    """Gives one file, as `gateway.operations.exports` does, and notes when it is no longer used."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.open = 0

    @asynccontextmanager
    async def export(self, index: str) -> AsyncIterator[BinaryIO]:
        """Give the file."""
        self.open += 1
        try:
            with self.file.open("rb") as opened:
                yield opened
        finally:
            self.open -= 1

    async def unused(self) -> None:
        """Wait until nobody uses it."""
        async with asyncio.timeout(10):
            while self.open:
                await asyncio.sleep(0.01)


@pytest.fixture
async def exports(tmp_path: Path) -> AsyncIterator[tuple[Exports, int]]:
    """The route on a real port, with a file that no socket holds."""
    file = tmp_path / "file"
    with file.open("wb") as made:
        made.truncate(FILE_BYTES)
    exports = Exports(file)
    application = FastAPI()
    application.include_router(export.router(exports.export))
    server = HttpServer(Http(port=0), application)
    await server.start()
    yield exports, server.port
    await server.stop()


def ask(port: int) -> socket.socket:
    """Ask for the file, and read nothing but the beginning of the answer."""
    caller = socket.create_connection(("127.0.0.1", port))
    caller.sendall(b"GET /v1/export/i HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert caller.recv(12) == b"HTTP/1.1 200"
    return caller


async def test_a_caller_that_stops_reading(exports: tuple[Exports, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while it is given up: what it reads later ends early, so that it cannot be taken for the whole."""
    monkeypatch.setattr(export, "STALLED_SECS", 0.3)
    made, port = exports
    with await asyncio.to_thread(ask, port) as caller:
        assert made.open == 1
        await made.unused()

        def rest() -> int:
            caller.settimeout(10)
            count = 0
            while piece := caller.recv(1 << 20):
                count += len(piece)
            return count

        assert await asyncio.to_thread(rest) < FILE_BYTES


async def test_a_caller_that_goes_away(exports: tuple[Exports, int]) -> None:
    """The file is let go at once."""
    made, port = exports
    caller = await asyncio.to_thread(ask, port)
    assert made.open == 1
    caller.close()
    await made.unused()
