"""uvicorn in our event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from gateway.settings import Http
from gateway.sources.http.connection import bounded
from gateway.sources.listening import Serve, Server, listen, serve, tls_context

STOP_SECS = 5
ANSWER_SECS = 1


class HttpServer:
    """Serves an ASGI application."""

    def __init__(self, settings: Http, application: Any, listener: socket.socket | None = None) -> None:
        """Open the port, or take that of ``listener``; raise `GatewayError` when it cannot be had."""
        self._context = None if settings.tls is None else tls_context(settings.tls, "http.tls")
        self._socket = listener or listen(settings.host, settings.port, "http.port")
        self._settings = settings
        self._config = config = uvicorn.Config(
            application,
            http=bounded(settings),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a peer is who it is, whatever a header says
            limit_concurrency=settings.max_connections + 1,
            timeout_keep_alive=settings.idle_timeout_secs,
            timeout_graceful_shutdown=STOP_SECS,
        )
        config.load()
        self._server = _Server(config)
        self._listening: Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._socket.getsockname()[1])

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._server.server_state.connections)

    def status(self) -> dict[str, Any]:
        """Return what an operator asks."""
        return {"connections": self.connections}

    def count_elsewhere(self, connections: int) -> None:
        """Take note of connections to other processes: `http.max_connections` holds for all of them together."""
        self._config.limit_concurrency = max(1, self._settings.max_connections + 1 - connections)

    async def start(self, serve: Serve = serve) -> None:
        """Begin to accept."""
        self._task = asyncio.create_task(self._server.serve(sockets=[]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.001)
        if self._task.done():
            self._task.result()
        self._listening = await serve(self._socket, self._protocol, self._context)

    async def stop(self) -> None:
        """Close the listener and let running requests end."""
        if self._listening is not None:
            self._listening.close()
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        if late := self._server.server_state.tasks:  # broken off: they say so
            await asyncio.wait(late, timeout=ANSWER_SECS)
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        self._socket.close()

    def _protocol(self) -> Any:
        state = self._server.server_state
        return self._config.http_protocol_class(config=self._config, server_state=state, app_state={})  # type: ignore[call-arg]


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # the gateway handles them, for all its parts
