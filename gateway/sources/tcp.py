"""JSON lines over TCP, plain and TLS. Keeps promises 1, 5, 7 and 8.

A connection has at most one block at the intake; while it waits there the next lines are
collected, and beyond `AHEAD_BYTES` the connection is not read from. The same holds for
all connections together beyond `HELD_BYTES`. An idle connection holds no buffer.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import structlog

from gateway.errors import GatewayError, SpoolFull, SpoolUnavailable, Stopping
from gateway.pipeline.block import Block, Broken
from gateway.pipeline.intake import Intake
from gateway.settings import Tcp
from gateway.sources.framing import LineFramer
from gateway.sources.listening import listen, tls_context
from gateway.telemetry import Telemetry

log = structlog.get_logger(__name__)
AHEAD_BYTES = 512 * 1024
HELD_BYTES = 32 * 1024 * 1024
FULL_RETRY_SECS = 0.2
HANDSHAKE_SECS = 10


class TcpSource:
    """The listener and its connections."""

    name = "tcp"

    def __init__(self, settings: Tcp, intake: Intake, telemetry: Telemetry) -> None:
        """Open the ports; raise `GatewayError` when one cannot be had."""
        self.settings = settings
        self.intake = intake
        self.telemetry = telemetry
        self.connections: set[_Connection] = set()
        self.held = 0
        self._servers: list[asyncio.Server] = []
        self._context = None if settings.tls is None else tls_context(settings.tls, "tcp.tls")
        self._plain = listen(settings.host, settings.port, "tcp.port")
        try:
            self._secure = None if self._context is None else listen(settings.host, settings.tls_port, "tcp.tls_port")
        except GatewayError:
            self._plain.close()
            raise
        self.stopping = False

    @property
    def port(self) -> int:
        """The port of the plain listener."""
        return int(self._plain.getsockname()[1])

    async def start(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(lambda: _Connection(self), sock=self._plain))
        if self._secure is not None:
            server = await loop.create_server(
                lambda: _Connection(self),
                sock=self._secure,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECS,
            )
            self._servers.append(server)

    async def stop(self) -> None:
        """Close the listeners, finish what was read, close the connections."""
        self.stopping = True
        for server in self._servers:
            server.close()
        self._plain.close()
        if self._secure is not None:
            self._secure.close()
        for connection in list(self.connections):
            connection.cut()
        tasks = [each.task for each in list(self.connections) if each.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    def hold(self, count: int) -> None:
        """Count bytes that were read and are not on disk yet; stop or resume reading at the bounds."""
        before, self.held = self.held, self.held + count
        if before <= HELD_BYTES < self.held or self.held <= HELD_BYTES // 2 < before:
            for connection in self.connections:
                connection.adjust()

    def status(self) -> dict[str, Any]:
        """Return what an operator asks."""
        return {"connections": len(self.connections), "held_bytes": self.held}


class _Connection(asyncio.Protocol):
    def __init__(self, source: TcpSource) -> None:
        self._source = source
        self._framer = LineFramer(source.settings.max_line_bytes)
        self._transport: asyncio.Transport
        self._peer = ""
        self._lines: list[bytes] = []
        self._broken: list[Broken] = []
        self._ahead = 0
        self._reading = True
        self._ended = False
        self.task: asyncio.Task[None] | None = None

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # what a stream server gives; uvloop's has another base
        self._transport = transport
        source = self._source
        full = len(source.connections) >= source.settings.max_connections
        if full or source.stopping:
            if full:
                log.warning(
                    "A connection was closed: tcp.max_connections are open.",
                    limit=source.settings.max_connections,
                )
            self._ended = True
            transport.abort()
            return
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if peer else "unknown"
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        source.connections.add(self)
        source.telemetry.connected(source.name)
        # Not at once: uvloop begins to read after this call, whatever was said in it.
        asyncio.get_running_loop().call_soon(self.adjust)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._take(*self._framer.feed(data), len(data))

    def eof_received(self) -> bool:
        self._take(*self._framer.finish(orderly=True), 0)
        self._ended = True
        if self.task is None:
            self._transport.close()
        return self._transport.get_extra_info("sslcontext") is None  # TLS cannot be closed on one side alone

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended:
            self._take(*self._framer.finish(orderly=False), 0)
            self._ended = True
        if self.task is None:
            self._source.connections.discard(self)

    # Called by the source.

    def adjust(self) -> None:
        """Read, or not, as the bounds say."""
        wanted = not self._ended and self._ahead <= AHEAD_BYTES and self._source.held <= HELD_BYTES
        if wanted is self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def cut(self) -> None:
        """End the connection from this side: an unfinished line is broken."""
        if not self._ended:
            self._take(*self._framer.finish(orderly=False), 0)
            self._ended = True
        if self.task is None:
            self._transport.close()

    # Within.

    def _take(self, lines: list[bytes], broken: list[Broken], size: int) -> None:
        if not lines:
            return
        size = max(size, sum(map(len, lines)))  # a line's beginning came before
        base = len(self._lines)
        self._lines += lines
        self._broken += [each._replace(line=base + each.line) for each in broken] if base else broken
        self._ahead += size
        self._source.hold(size)
        if self.task is None:
            self.task = asyncio.create_task(self._deliver())
        self.adjust()

    async def _deliver(self) -> None:
        try:
            while self._lines:
                block = Block(self._source.name, self._peer, self._lines, broken=self._broken)
                size, self._ahead = self._ahead, 0
                self._lines, self._broken = [], []
                self.adjust()
                try:
                    await self._accept(block)
                finally:
                    self._source.hold(-size)
        except BaseException:
            self._ended = True  # a mistake of ours: the sender must see that it is not heard any more
            raise
        finally:
            self.task = None
            if self._ended:
                self._transport.close()
                self._source.connections.discard(self)

    async def _accept(self, block: Block) -> None:
        """Hand a block in, waiting as long as there is no room for it."""
        intake = self._source.intake
        while True:
            try:
                if intake.full() is None:
                    await intake.accept(block)
                    return
            except (SpoolFull, SpoolUnavailable):
                pass
            except Stopping:
                self._lose(block)
                return
            if self._source.stopping:
                self._lose(block)
                return
            await asyncio.sleep(FULL_RETRY_SECS)

    def _lose(self, block: Block) -> None:
        log.error(
            "Lines that were read could not be stored before the stop: their sender was not told that they were safe.",
            peer=block.peer,
            lines=len(block.lines),
        )
