"""uvicorn in our event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from gateway.settings import Http
from gateway.sources.http.connection import bounded
from gateway.sources.listening import listen, tls_context

STOP_SECS = 5
ANSWER_SECS = 1


class HttpServer:
    """Serves an ASGI application."""

    def __init__(self, settings: Http, application: Any) -> None:
        """Open the port; raise `GatewayError` when it cannot be had."""
        context = None if settings.tls is None else tls_context(settings.tls, "http.tls")
        self._socket = listen(settings.host, settings.port, "http.port")
        config = uvicorn.Config(
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
        config.ssl = context
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._socket.getsockname()[1])

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._server.server_state.connections)

    async def start(self) -> None:
        """Begin to accept."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.001)
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Close the listener and let running requests end."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        if late := self._server.server_state.tasks:  # broken off: they say so
            await asyncio.wait(late, timeout=ANSWER_SECS)
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        self._socket.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # the gateway handles them, for all its parts
