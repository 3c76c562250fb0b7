"""What tests of HTTP share: a server with the ingestion routes, and a client that sees every byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from gateway.access import Access
from gateway.pipeline.intake import Intake
from gateway.settings import Http, Limits
from gateway.sources.http.limits import RateLimit
from gateway.sources.http.routes import Ingestion
from gateway.sources.http.server import HttpServer
from gateway.telemetry import Telemetry


@asynccontextmanager
async def serving(
    intake: Intake, *, limits: dict[str, Any] | None = None, telemetry: Telemetry | None = None, **http: Any
) -> AsyncIterator[HttpServer]:
    """Serve the ingestion routes on a free port."""
    settings = Http(port=0, **http)
    ingestion = Ingestion(settings, RateLimit(Limits(**(limits or {}))), intake, telemetry or Telemetry())
    application = FastAPI()
    application.include_router(ingestion.router())
    server = HttpServer(settings, Access(ingestion.before(application), settings.api_keys, loopback=True))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@dataclass
class Answer:
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, has_body: bool = True) -> Answer:
        """Read the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {}
        for line in head[1:-2]:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        size = int(headers.get("content-length", 0)) if has_body else 0
        return Answer(int(head[0].split()[1]), headers, await self.reader.readexactly(size))

    async def post(self, body: bytes = b"{}", path: str = "/v1/events", method: str = "POST", **headers: str) -> Answer:
        """Send a request and read its answer; underscores in header names become hyphens."""
        await self.send(request(body, path, method, **headers))
        return await self.answer(has_body=method != "HEAD")

    async def is_closed(self) -> bool:
        """Read to the end; return whether nothing more came."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


def request(body: bytes = b"{}", path: str = "/v1/events", method: str = "POST", **headers: str) -> bytes:
    """Return a request's bytes, with its length unless headers say otherwise."""
    given = {"host": "127.0.0.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if "content-length" not in given and "transfer-encoding" not in given:
        given["content-length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """Connect; close in the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def post(server: HttpServer, body: bytes = b"{}", path: str = "/v1/events", **headers: str) -> Answer:
    """Send one request over a connection of its own."""
    async with connected(server.port) as client:
        return await client.post(body, path, **headers)
