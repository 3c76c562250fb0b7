"""uvicorn in our event loop, with bounds on a request's head and on silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.settings import Http
from gateway.sources.listening import listen, tls_context

STOP_SECS = 5
LINGER_SECS = 30  # for the rest of a request that was answered before its end


class HttpServer:
    """Serves an ASGI application."""

    def __init__(self, settings: Http, application: Any) -> None:
        """Open the port; raise `GatewayError` when it cannot be had."""
        context = None if settings.tls is None else tls_context(settings.tls, "http.tls")
        self._socket = listen(settings.host, settings.port, "http.port")
        config = uvicorn.Config(
            application,
            http=_bounded(settings),
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
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        self._socket.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # the gateway handles them, for all its parts


def _bounded(settings: Http) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol with a bounded head, size and time, and with an end that lets answers arrive."""

    class BoundedProtocol(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _in_head = False
        _in_body = False
        _head_bytes = 0
        _chunk_bytes = 0
        _ending = False  # what still comes is thrown away

        # Called by the event loop.

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(cast(asyncio.Transport, _Patient(transport, self)))
            self._begin_head()

        def data_received(self, data: bytes) -> None:
            if self._ending:
                return
            if not self._in_head and not self._in_body:
                self._begin_head()
            self._chunk_bytes = len(data)
            super().data_received(data)
            if self._in_head and not self._ending:
                self._head_bytes += len(data)
                if self._head_bytes > settings.max_header_bytes:
                    self._refuse_size()

        def connection_lost(self, exc: Exception | None) -> None:
            self._ending = True
            self._set_timer(None)
            super().connection_lost(exc)

        def shutdown(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self._in_body = False  # it was answered: nothing more to wait for
            super().shutdown()

        # Called by the parser.

        def on_message_begin(self) -> None:
            if not self._in_head:  # behind another request in the same chunk, which is not counted
                self._begin_head()
                self._head_bytes = -self._chunk_bytes
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            if self._ending:
                return
            self._in_head, self._in_body = False, True
            self._set_timer(None)
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > settings.max_header_bytes:
                self._refuse_size()
                return
            super().on_headers_complete()
            if self.expect_100_continue:
                # An answer that comes unasked leaves open whether the body follows: nothing can be read behind it.
                self.cycle.keep_alive = False

        def on_body(self, body: bytes) -> None:
            if not self._ending:
                super().on_body(body)

        def on_message_complete(self) -> None:
            if self._ending:
                return
            self._in_body = False
            super().on_message_complete()
            if self.cycle.response_complete:  # it was answered early
                self._set_timer(settings.idle_timeout_secs, self.timeout_keep_alive_handler)

        # Called by the request that was answered.

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self._in_body and not self._ending and not self.pipeline and self.cycle.response_complete:
                self._set_timer(LINGER_SECS, self.end)

        def end(self) -> None:
            """Close; when body is still coming, first wait a while for the sender to read its answer.

            Closed at once, the unread bytes would make the system reset the connection, answer and all.
            """
            if not self._ending and self._in_body:
                self._ending = True
                self.flow.resume_reading()
                self._set_timer(LINGER_SECS, self.end)
                if self.transport.can_write_eof():
                    self.transport.write_eof()
                return
            self._ending = True
            self._set_timer(None)
            cast(_Patient, self.transport).close_now()

        # Within.

        def _begin_head(self) -> None:
            self._in_head, self._head_bytes = True, 0
            self._set_timer(settings.header_timeout_secs, self._late)

        def _set_timer(self, secs: float | None, callback: Callable[[], None] | None = None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(secs, callback) if secs is not None and callback is not None else None

        def _late(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._begin_head()  # it is we who are late, with the request before
                return
            self._refuse(
                408, "Request Timeout", f"The head was not complete within {settings.header_timeout_secs:g} s."
            )

        def _refuse_size(self) -> None:
            self._in_body = True  # the rest of it is still coming
            text = f"The head is larger than {settings.max_header_bytes} bytes (http.max_header_bytes)."
            self._refuse(431, "Request Header Fields Too Large", text)

        def _refuse(self, status: int, reason: str, text: str) -> None:
            if self.cycle is None or self.cycle.response_complete:
                head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain\r\nconnection: close\r\n"
                self.transport.write(f"{head}content-length: {len(text)}\r\n\r\n{text}".encode())
            self.end()

    return BoundedProtocol


class _Patient:
    """A transport as uvicorn uses it, whose `close` is left to the protocol."""

    def __init__(self, transport: asyncio.Transport, protocol: Any) -> None:
        self._transport = transport
        self._protocol = protocol
        self.close_now = transport.close
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        self._protocol.end()

    def is_closing(self) -> bool:
        return self._protocol._ending or self._transport.is_closing()
