"""Passes an HTTP request that came to a receiver to the owner, who answers: a pair of sockets for each.

What goes over it are ASGI's own messages, so that answers stream, also without end, and each waits for its reader.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from gateway.access import Application, Receive, Scope, Send

log = structlog.get_logger(__name__)
_LENGTH = struct.Struct("<I")
_PASSED = ("http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers")
_ENCODE, _DECODE = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
_GONE = b"The gateway is stopping or its main process is not there: ask again in a moment."
BUFFER_BYTES = 256 * 1024


class Passing:
    """The receiver's end: an ASGI application."""

    def __init__(self, calls: socket.socket) -> None:
        """``calls`` takes one descriptor a message."""
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the owner answer."""
        try:
            stream = await self._call()
        except OSError:
            stream = None
        if stream is None or not await _passed(scope, receive, send, *stream):
            headers = [(b"content-type", b"text/plain"), (b"retry-after", b"1")]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": _GONE})

    async def _call(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        mine, other = socket.socketpair()
        with other:
            mine.setblocking(False)
            try:
                socket.send_fds(self._calls, [b"c"], [other.fileno()])
            except BaseException:
                mine.close()
                raise
        return await asyncio.open_unix_connection(sock=mine, limit=BUFFER_BYTES)


async def _passed(
    scope: Scope, receive: Receive, send: Send, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Pass a request on and its answer back; return false when there was none."""
    _write(
        writer, {**{name: scope.get(name) for name in _PASSED}, "client": scope["client"], "server": scope["server"]}
    )
    asking = asyncio.create_task(_ask(receive, writer))
    began = gone = False
    try:
        while (message := await _read(reader)) is not None:
            began = True
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                break
        else:
            # A begun answer without an end: the server closes the connection, so that nobody takes it for the whole.
            gone = asking.done() and await asking
    finally:
        asking.cancel()
        writer.close()
    return began or gone


async def _ask(receive: Receive, writer: asyncio.StreamWriter) -> bool:
    """Pass the body on; return true when the client has gone, which the end of the pair tells the owner."""
    try:
        while (message := await receive())["type"] == "http.request":
            _write(writer, message)
            await writer.drain()
    except ConnectionError:
        return False
    writer.close()
    return True


class Answering:
    """The owner's end: has the application answer what comes from one receiver."""

    def __init__(self, calls: socket.socket, application: Application) -> None:
        """Begin at once."""
        self._loop = asyncio.get_running_loop()
        self._calls = calls
        self._application = application
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop.add_reader(calls, self._called)

    def close(self) -> None:
        """Answer nothing more."""
        self._loop.remove_reader(self._calls)
        self._calls.close()
        for task in self._tasks:
            task.cancel()

    def _called(self) -> None:
        try:
            _, descriptors, _, _ = socket.recv_fds(self._calls, 16, 1)
        except BlockingIOError:
            return
        except OSError:
            descriptors = []
        if not descriptors:  # the receiver is no more
            self._loop.remove_reader(self._calls)
            return
        pair = socket.socket(fileno=descriptors[0])
        pair.setblocking(False)
        task = self._loop.create_task(self._answer(pair))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, pair: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=pair, limit=BUFFER_BYTES)
        try:
            head = await _read(reader)
            if head is None:
                return
            head["headers"] = [tuple(each) for each in head["headers"]]
            head["client"] = head["client"] and tuple(head["client"])
            head["server"] = head["server"] and tuple(head["server"])
            scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "extensions": {}, **head}

            async def receive() -> Any:
                return await _read(reader) or {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                with suppress(ConnectionError):  # the client has gone: `receive` tells
                    _write(writer, message)
                    await writer.drain()

            await self._application(scope, receive, send)
            if writer.is_closing():
                return  # the client has gone
            writer.write_eof()
            # Closed with something unread the pair would break, and the answer with it.
            while await reader.read(BUFFER_BYTES):
                pass
        except ConnectionError:
            pass
        except Exception:  # as uvicorn does it; the client gets a 500 or a broken answer
            log.exception("An answer failed.")
        finally:
            writer.close()


def _write(writer: asyncio.StreamWriter, message: Any) -> None:
    data = _ENCODE(message)
    writer.write(_LENGTH.pack(len(data)) + data)


async def _read(reader: asyncio.StreamReader) -> Any:
    """Return the next message, None at the end."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return _DECODE(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
