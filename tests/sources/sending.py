"""What tests of TCP share: a source on free ports, and senders."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from gateway.access import Keys
from gateway.pipeline.intake import Intake
from gateway.settings import ApiKey, Tcp
from gateway.sources.tcp.source import TcpSource
from gateway.telemetry import Telemetry
from tests.sources.intake import FakeIntake


@asynccontextmanager
async def listening(intake: Intake, *, keys: tuple[str, ...] = (), **tcp: Any) -> AsyncIterator[TcpSource]:
    """Listen on a free port, and on `tls_port` when there is a certificate."""
    given = Keys(tuple(ApiKey.model_validate(key) for key in keys))
    source = TcpSource(Tcp(**{"port": 0, **tcp}), intake, Telemetry(), given)
    await source.start()
    try:
        yield source
    finally:
        if isinstance(intake, FakeIntake):
            intake.open.set()  # a test that failed must not wait for it
        await source.stop()


@asynccontextmanager
async def sender(
    port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect; close in the end."""
    name = None if context is None else "localhost"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def send(port: int, *packets: bytes, context: ssl.SSLContext | None = None) -> None:
    """Send packets over a connection of their own and close it in an orderly way."""
    async with sender(port, context) as (_, writer):
        for packet in packets:
            writer.write(packet)
            await writer.drain()
            await asyncio.sleep(0.005 if len(packets) > 1 else 0)


async def until(condition: Callable[[], bool], secs: float = 10) -> None:
    """Return when a condition holds; fail when it does not in time."""
    async with asyncio.timeout(secs):
        while not condition():
            await asyncio.sleep(0.005)


async def is_closed(reader: asyncio.StreamReader, secs: float = 5) -> bool:
    """Whether the other side closes the connection, without a word."""
    try:
        return await asyncio.wait_for(reader.read(), secs) == b""
    except ConnectionResetError:
        return True
