"""JSON lines over TCP, plain and TLS. Keeps promises 1, 5, 7 and 8.

A connection has at most one block at the intake; while it waits there the next lines are
collected, and beyond `AHEAD_BYTES` the connection is not read from. The same holds for
all connections together beyond `HELD_BYTES`. Of an unfinished line `FREE_BYTES` wait for
nobody; what is longer shares `UNFINISHED_BYTES`, given in turn and for a time. Whoever does
not read its acknowledgements is not read from. An idle connection holds no buffer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gateway.access import Keys
from gateway.errors import GatewayError
from gateway.pipeline.intake import Intake
from gateway.settings import Tcp
from gateway.sources.listening import Serve, Server, listen, serve, tls_context
from gateway.sources.tcp.connection import NAME, Connection
from gateway.sources.tcp.shared import Shared
from gateway.telemetry import Telemetry

STOP_SECS = 5  # for senders to read their last acknowledgements
POLL_SECS = 0.01


class TcpSource:
    """The listener and its connections."""

    name = NAME

    def __init__(
        self,
        settings: Tcp,
        intake: Intake,
        telemetry: Telemetry,
        keys: Keys | None = None,
        listeners: Sequence[socket.socket] = (),
        parts: int = 1,
    ) -> None:
        """Open the ports, or take the ``listeners`` of `listen_tcp`; raise `GatewayError` when one cannot be had.

        ``parts``: so many processes share the bounds in bytes.
        """
        self.settings = settings
        self._shared = Shared(settings, intake, telemetry, keys or Keys(), parts)
        self._servers: list[Server] = []
        self._context = None if settings.tls is None else tls_context(settings.tls, "tcp.tls")
        self._plain, *secure = listeners or listen_tcp(settings)
        self._secure = secure[0] if secure else None

    @property
    def port(self) -> int:
        """The port of the plain listener."""
        return int(self._plain.getsockname()[1])

    @property
    def held(self) -> int:
        """Bytes that were read and are not on disk yet."""
        return self._shared.held

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._shared.connections)

    def count_elsewhere(self, connections: int) -> None:
        """Take note of connections to other processes: `tcp.max_connections` holds for all of them together."""
        self._shared.elsewhere = connections

    async def start(self, serve: Serve = serve) -> None:
        """Begin to accept."""
        self._servers.append(await serve(self._plain, lambda: Connection(self._shared), None))
        if self._secure is not None:
            self._servers.append(await serve(self._secure, lambda: Connection(self._shared), self._context))

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


def listen_tcp(settings: Tcp) -> list[socket.socket]:
    """Return the plain listener, and that for TLS where there is one; raise `GatewayError` when one cannot be had."""
    plain = listen(settings.host, settings.port, "tcp.port")
    try:
        return [plain] if settings.tls is None else [plain, listen(settings.host, settings.tls_port, "tcp.tls_port")]
    except GatewayError:
        plain.close()
        raise
