"""One HTTP connection: uvicorn's protocol, bounded in size and time. Keeps promise 5."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.settings import Http
from gateway.sources.http.transport import Flow, Patient

LINGER_SECS = 30  # for the rest of a request that was answered before its end
UNREAD_SECS = 30  # a client that reads nothing of its answer for so long is gone
MAX_HEADERS = 200  # the fields of a head cost memory beyond their bytes
MAX_PIPELINED = 16  # requests sent ahead of their answers, likewise
AHEAD_SECS = 0.002  # between them, so that others have their turn


def bounded(settings: Http) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol with a bounded head, size and time, and with an end that lets answers arrive."""

    class BoundedProtocol(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _in_head = False
        _in_body = False
        _idle_bytes = 0  # since the head began, or since the last of the body
        _chunk = b""  # what is being parsed
        _is_next = False  # the request that is begun was sent ahead
        _again = False  # the head was parsed before
        _deaf = False  # what still comes is thrown away, what came is answered
        _ending = False  # nothing more is answered
        _reader_timer: asyncio.TimerHandle | None = None
        _running: RequestResponseCycle

        # Called by the event loop.

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(cast(asyncio.Transport, Patient(transport, self, self.loop)))
            self.flow = Flow(transport, self)
            self._begin_head()

        def data_received(self, data: bytes) -> None:
            if self._deaf:
                return
            if not self._in_head and not self._in_body:
                self._begin_head()
            self._chunk = data
            super().data_received(data)
            self._chunk = b""
            if (self._in_head or self._in_body) and not self._deaf:
                self._idle_bytes += len(data)
                if self._idle_bytes > settings.max_header_bytes:
                    self._refuse_size()

        def connection_lost(self, exc: Exception | None) -> None:
            self._deaf = self._ending = True
            super().connection_lost(exc)  # it closes once more
            self._set_timer(None)
            self._mind_reader(None)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._mind_reader(self.transport.get_write_buffer_size())

        def resume_writing(self) -> None:
            super().resume_writing()
            if not self._ending:
                self._mind_reader(None)

        def shutdown(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self._in_body = False  # it was answered: nothing more to wait for
            super().shutdown()

        # Called by the parser.

        def on_message_begin(self) -> None:
            if self._again:
                return
            if self._deaf:
                raise ConnectionError("Nothing more is read.")  # or the parser went on with all that came
            if not self._in_head:  # behind another request in the same chunk, which is not counted
                self._begin_head()
                self._idle_bytes = -len(self._chunk)
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            if not self._again:
                super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            # What comes behind a chunked body must not change the head, which was read and judged.
            if self._in_head and not self._deaf and len(self.headers) <= MAX_HEADERS:
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            if self._deaf or self._again:
                self._again = False
                return
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > settings.max_header_bytes or len(self.headers) > MAX_HEADERS:
                self._refuse_size()
                return
            if len(self.pipeline) >= MAX_PIPELINED:
                self._refuse(429, "Too Many Requests", f"More than {MAX_PIPELINED} requests were sent ahead.")
                return
            super().on_headers_complete()
            self._in_head, self._in_body = False, True
            self._idle_bytes = -len(self._chunk)
            self._set_timer(None)
            if self.expect_100_continue:
                # An answer that comes unasked leaves open whether the body follows: nothing can be read behind it.
                self.cycle.keep_alive = False

        def on_body(self, body: bytes) -> None:
            if not self._deaf:
                self._idle_bytes = -len(self._chunk)
                super().on_body(body)

        def on_message_complete(self) -> None:
            if self._deaf or self.parser.should_upgrade():
                return
            self._in_body = False
            super().on_message_complete()
            if self.cycle.response_complete:  # it was answered early
                self._set_timer(settings.idle_timeout_secs, self.timeout_keep_alive_handler)

        # Called by uvicorn.

        def send_400_response(self, msg: str) -> None:
            if not self._deaf:
                self._refuse(400, "Bad Request", msg)

        def _unsupported_upgrade_warning(self) -> None:
            """Go on with a request that asks for another protocol, such as HTTP/2 from Java, as if it did not.

            The parser took it for one without a body and ended there: another one reads what follows.
            """
            rest = self._chunk[cast(BaseException, sys.exc_info()[1]).args[0] :]
            lengths = (each for each in self.headers if each[0] in (b"content-length", b"transfer-encoding"))
            self.parser = httptools.HttpRequestParser(self)
            self._again = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(b"%s: %s\r\n" % each for each in lengths))
            self._chunk = rest
            super().data_received(rest)

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
            self._running = cycle
            if self._is_next:
                self.loop.call_later(AHEAD_SECS, super()._start_asgi_task, cycle, app)
            else:
                super()._start_asgi_task(cycle, app)

        # Called by the request that was answered.

        def on_response_complete(self) -> None:
            self._is_next = True
            super().on_response_complete()
            self._is_next = False
            if self._in_body and not self._ending and not self.pipeline and self.cycle.response_complete:
                self._set_timer(LINGER_SECS, self.end)

        def end(self) -> None:
            """Close; when body is still coming, first wait a while for the sender to read its answer.

            Closed at once, the unread bytes would make the system reset the connection, answer and all.
            """
            if not self._ending and self._in_body:
                self._deaf = self._ending = True
                self.flow.resume_reading()
                self._set_timer(LINGER_SECS, self.end)
                cast(Patient, self.transport).flush()
                if self.transport.can_write_eof():
                    self.transport.write_eof()
                return
            self._deaf = self._ending = True
            self._set_timer(None)
            cast(Patient, self.transport).flush()
            self._mind_reader(self.transport.get_write_buffer_size())
            cast(Patient, self.transport).close_now()

        # Within.

        def _begin_head(self) -> None:
            self._in_head, self._idle_bytes = True, 0
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
            text = (
                f"The head is larger than {settings.max_header_bytes} bytes (http.max_header_bytes)"
                f" or has more than {MAX_HEADERS} fields."
            )
            self._refuse(431, "Request Header Fields Too Large", text)

        def _refuse(self, status: int, reason: str, text: str) -> None:
            """Answer what cannot be read and close; behind requests that are still to be answered only close."""
            broken = self._in_body and not self.cycle.response_complete  # the body of the last request
            self._deaf, self._in_body = True, True  # the rest of it is still coming
            self._set_timer(None)
            if broken:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
                if self.pipeline:
                    self.pipeline.popleft()
            if self.cycle is None or self._running.response_complete or self._running.disconnected:
                head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain\r\nconnection: close\r\n"
                self.transport.write(f"{head}content-length: {len(text)}\r\n\r\n{text}".encode())
                self.end()
            else:
                last = self.pipeline[0][0] if self.pipeline else self._running
                last.keep_alive = False
                self.flow.pause_reading()

        def _mind_reader(self, unread: int | None) -> None:
            """Watch that the client goes on reading what it was sent, of which this much is left."""
            if self._reader_timer is not None:
                self._reader_timer.cancel()
            self._reader_timer = None if unread is None else self.loop.call_later(UNREAD_SECS, self._look, unread)

        def _look(self, unread: int) -> None:
            left = self.transport.get_write_buffer_size()
            if left and left >= unread:
                self.transport.abort()
            else:
                self._mind_reader(left or None)

    return BoundedProtocol
