"""One connection: reads lines, hands them in block by block, and acknowledges them where that is asked for."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import structlog

from gateway.pipeline.block import Block, Broken, Receipt
from gateway.sources.framing import LineFramer
from gateway.sources.tcp import long_line
from gateway.sources.tcp import shared as bounds
from gateway.sources.tcp.acknowledgement import Answer, acknowledged, greet, refuse
from gateway.sources.tcp.long_line import FREE_BYTES, LongLine
from gateway.sources.tcp.shared import Shared

log = structlog.get_logger(__name__)
NAME = "tcp"
AHEAD_BYTES = 512 * 1024
LINE_BYTES = 64  # that a line costs in memory beyond its own
HELLO_SECS = 10  # for the first line, where a key is required
UNREAD_BYTES = 16 * 1024  # of acknowledgements: whoever leaves more unread is not read from
SEND_BYTES = 64 * 1024  # what the system holds of them besides
LINGER_SECS = 30  # for the sender to read what it was told last
REST_SECS = 0.01  # between two reads of what is thrown away: whoever sends that must not keep the machine busy


class Connection(asyncio.BufferedProtocol):
    """Called by the event loop, and by the source for `adjust` and `cut`."""

    __slots__ = (
        "_acked", "_ahead", "_broken", "_choked", "_cut", "_ended", "_eof", "_first", "_framer", "_lines", "_long",
        "_lost", "_peer", "_reading", "_rests", "_shared", "_tenant", "_timer", "_transport", "speaks", "task",
    )  # fmt: skip

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._framer = LineFramer(shared.settings.max_line_bytes)
        self._transport: asyncio.Transport
        self._peer = ""
        self._tenant: str | None = None
        self._first = True  # the first line is still to come
        self.speaks = False  # it said hello, and is answered
        self._acked: int | None = None  # lines since the hello that are on disk; None: no more is to be told
        self._lines: list[bytes] = []
        self._broken: list[Broken] = []
        self._cut = 0  # how many of the lines, at their end, are not to be acknowledged
        self._ahead = 0
        self._long: LongLine | None = None
        self._reading = True
        self._choked = self._rests = False  # the sender does not read what it is told; nothing is read for a moment
        self._eof = False
        self._ended = False  # nothing more is taken
        self._lost = False
        self._timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # what a stream server gives; uvloop's has another base
        self._transport = transport
        shared = self._shared
        full = len(shared.connections) + shared.elsewhere >= shared.settings.max_connections
        if full or shared.stopping:
            if full:
                log.warning(
                    "A connection was closed: tcp.max_connections are open.", limit=shared.settings.max_connections
                )
            self._ended = True
            transport.abort()
            return
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if peer else "unknown"
        self._set_option(socket.SO_KEEPALIVE, 1)
        shared.connections.add(self)
        shared.telemetry.connected(NAME)
        if shared.settings.key_required:
            self._set_timer(HELLO_SECS)
        # Not at once: uvloop begins to read after this call, whatever was said in it.
        asyncio.get_running_loop().call_soon(self.adjust)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to; while room is short, for no more than what waits for nobody."""
        shared = self._shared
        if self._ended or not shared.is_short_of_room:
            return shared.buffer
        return shared.buffer[: FREE_BYTES if self._long else max(1, FREE_BYTES - self._framer.unfinished)]

    def buffer_updated(self, nbytes: int) -> None:
        if self._ended:
            return
        lines, broken = self._framer.feed(bytes(self._shared.buffer[:nbytes]))
        self._take(lines, broken, nbytes)
        if self._long is not None and (lines or self._framer.unfinished < FREE_BYTES):
            self._leave_room()
        if self._long is None and self._framer.unfinished >= FREE_BYTES and not self._ended:
            self._seek_room()
        if self._framer.skips and not self._rests:
            self._rests = True
            asyncio.get_running_loop().call_later(REST_SECS, self._rested)
            self.adjust()

    def eof_received(self) -> bool:
        self._eof = True
        if self._ended and self.task is None:
            self._close()
        self._end(orderly=True)
        return self._transport.get_extra_info("sslcontext") is None  # TLS cannot be closed on one side alone

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._end(orderly=False)
        self._set_timer(None)
        if self.task is None:
            self._shared.connections.discard(self)

    def pause_writing(self) -> None:
        self._choked = True
        self.adjust()

    def resume_writing(self) -> None:
        self._choked = False
        self.adjust()

    # Called by the source.

    def adjust(self) -> None:
        """Read, or not, as the bounds say; after the end what comes is thrown away."""
        has_room = self._long is None or self._long.has_room
        wanted = has_room and not self._choked and not self._rests and not self._held_up()
        if self._ended:
            wanted = self.task is None
        if wanted is self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            if self._long is not None:
                self._long.restart()
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def cut(self) -> None:
        """End the connection from this side: an unfinished line is broken."""
        self._end(orderly=False)

    # Within.

    def _held_up(self) -> bool:
        """Whether what is not on disk yet must get there before more is read."""
        return self._ahead > AHEAD_BYTES or self._shared.held > bounds.HELD_BYTES // self._shared.parts

    def _take(self, lines: list[bytes], broken: list[Broken], size: int) -> None:
        if self._first and lines:
            self._first = False
            answer = greet(lines[0], self._shared.keys, key_required=self._shared.settings.key_required)
            if answer is not None:
                self._answer(answer)
                lines = lines[1:] if answer.accepted else []
                broken = [each._replace(line=each.line - 1) for each in broken]
        if not lines:
            return
        size = max(size, sum(map(len, lines))) + LINE_BYTES * len(lines)  # a line's beginning came before
        base = len(self._lines)
        self._lines += lines
        self._broken += [each._replace(line=base + each.line) for each in broken] if base else broken
        self._ahead += size
        self._shared.hold(size)
        if self.task is None:
            self.task = asyncio.create_task(self._deliver())
        self.adjust()

    def _answer(self, answer: Answer) -> None:
        """Tell a connection what became of its hello; close it when it is refused."""
        self.speaks, self._tenant = True, answer.tenant
        if answer.accepted:
            self._acked = 0
            self._transport.set_write_buffer_limits(UNREAD_BYTES)
            self._set_option(socket.SO_SNDBUF, SEND_BYTES)
        self._tell(answer.message)
        if not answer.accepted:
            log.warning("A TCP connection was closed: it did not begin with a valid key.", peer=self._peer)
            self._ended = True
            self._leave_room()
            self._close()

    def _tell(self, message: bytes) -> None:
        if not self._lost and not self._transport.is_closing():
            self._transport.write(message)

    def _end(self, *, orderly: bool, why: str | None = None) -> None:
        """Take what is left, and nothing after it."""
        if self._ended:
            return
        lines, broken = self._framer.finish(orderly=orderly, why=why)
        self._cut = 0 if orderly else len(lines)
        self._take(lines, broken, 0)
        if self._ended:  # refused, meanwhile
            return
        self._ended = True
        self._leave_room()
        self._set_timer(None)
        if self.task is None:
            self._close()
        else:
            self.adjust()

    def _close(self) -> None:
        """Close, and give the sender some time to read what it was told.

        Closed at once, bytes that it still sends would make the system reset the connection, answer and all.
        """
        if self.speaks and not self._lost:
            self._set_timer(LINGER_SECS)
            if not self._eof and self._transport.can_write_eof():
                self._transport.write_eof()
                self.adjust()
                return
        self._transport.close()

    async def _deliver(self) -> None:
        try:
            while self._lines:
                block = Block(NAME, self._peer, self._lines, self._tenant, self._broken)
                size, self._ahead = self._ahead, 0
                count = len(self._lines) - self._cut
                self._lines, self._broken, self._cut = [], [], 0
                self.adjust()
                try:
                    receipt = await self._shared.accept(block)
                finally:
                    self._shared.hold(-size)
                self._acknowledge(count, receipt)
        except BaseException:
            self._ended = True  # a mistake of ours: the sender must see that it is not heard any more
            self._leave_room()
            self._shared.hold(-self._ahead)
            raise
        finally:
            self.task = None
            if self._ended:
                self._close()
            if self._lost:
                self._shared.connections.discard(self)

    def _acknowledge(self, count: int, receipt: Receipt | None) -> None:
        """Tell the sender of a block's first lines, if it asked for that."""
        if receipt is None:
            self._acked = None  # what comes behind a gap is not told either
        elif self._acked is not None and count:
            self._tell(acknowledged(self._acked, count, [each for each in receipt.refusals if each.line < count]))
            self._acked += count

    def _seek_room(self) -> None:
        """Get room for the rest of a long line, at once or in turn."""
        shared = self._shared
        if self._first and shared.settings.key_required:
            self._answer(refuse("This is no hello."))
            return
        self._long = LongLine(shared.room, shared.line_bytes, self.adjust)
        if self._timer is None:
            self._set_timer(self._long.secs_left)
        self.adjust()

    def _rested(self) -> None:
        self._rests = False
        self.adjust()

    def _leave_room(self) -> None:
        if self._long is not None:
            self._long.leave()
            self._long = None

    def _late(self) -> None:
        """Time is up: for the first line, for a long one, or for reading what was told last."""
        self._timer = None
        if self._ended:
            self._transport.abort()
        elif self._first and self._shared.settings.key_required:
            self._answer(refuse(f"No line came within {HELLO_SECS} s."))
        elif self._long is not None:
            if self._held_up() or not self._long.has_room:
                self._long.restart()  # it is not the sender who is late
            if self._long.secs_left > 0:
                self._set_timer(self._long.secs_left)
            else:
                self._end(orderly=False, why=f"The line was not complete within {long_line.LINE_SECS} s.")

    def _set_timer(self, secs: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if secs is None else asyncio.get_running_loop().call_later(secs, self._late)

    def _set_option(self, option: int, value: int) -> None:
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, option, value)
