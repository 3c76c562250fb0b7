"""JSON lines over TCP, plain and TLS. Keeps promises 1, 5, 7 and 8.

A connection has at most one block at the intake; while it waits there the next lines are
collected, and beyond `AHEAD_BYTES` the connection is not read from. The same holds for
all connections together beyond `HELD_BYTES`. Of an unfinished line `FREE_BYTES` wait for
nobody; what is longer shares `UNFINISHED_BYTES`, given in turn and for a time. Whoever does
not read its acknowledgements is not read from. An idle connection holds no buffer.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from gateway.access import Keys
from gateway.errors import GatewayError
from gateway.pipeline.intake import Intake
from gateway.settings import Tcp
from gateway.sources.listening import BACKLOG, listen, tls_context
from gateway.sources.tcp.connection import NAME, Connection
from gateway.sources.tcp.shared import Shared
from gateway.telemetry import Telemetry

HANDSHAKE_SECS = 10
STOP_SECS = 5  # for senders to read their last acknowledgements
POLL_SECS = 0.01


class TcpSource:
    """The listener and its connections."""

    name = NAME

    def __init__(self, settings: Tcp, intake: Intake, telemetry: Telemetry, keys: Keys | None = None) -> None:
        """Open the ports; raise `GatewayError` when one cannot be had."""
        self.settings = settings
        self._shared = Shared(settings, intake, telemetry, keys or Keys())
        self._servers: list[asyncio.Server] = []
        self._context = None if settings.tls is None else tls_context(settings.tls, "tcp.tls")
        self._plain = listen(settings.host, settings.port, "tcp.port")
        try:
            self._secure = None if self._context is None else listen(settings.host, settings.tls_port, "tcp.tls_port")
        except GatewayError:
            self._plain.close()
            raise

    @property
    def port(self) -> int:
        """The port of the plain listener."""
        return int(self._plain.getsockname()[1])

    @property
    def held(self) -> int:
        """Bytes that were read and are not on disk yet."""
        return self._shared.held

    async def start(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self._shared), sock=self._plain, backlog=BACKLOG)
        self._servers.append(server)
        if self._secure is not None:
            server = await loop.create_server(
                lambda: Connection(self._shared),
                sock=self._secure,
                backlog=BACKLOG,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECS,
            )
            self._servers.append(server)

    async def stop(self) -> None:
        """Close the listeners, finish what was read, acknowledge it, close the connections."""
        shared = self._shared
        shared.stopping = True
        for server in self._servers:
            server.close()
        self._plain.close()
        if self._secure is not None:
            self._secure.close()
        for connection in list(shared.connections):
            connection.cut()
        tasks = [each.task for each in list(shared.connections) if each.task is not None]
        if tasks:
            await asyncio.wait(tasks)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECS):
                while any(each.speaks for each in shared.connections):
                    await asyncio.sleep(POLL_SECS)

    def status(self) -> dict[str, Any]:
        """Return what an operator asks."""
        shared = self._shared
        acknowledging = sum(each.speaks for each in shared.connections)
        return {"connections": len(shared.connections), "acknowledging": acknowledging, "held_bytes": shared.held}
