"""What a client holds until the gateway has acknowledged it, and the books of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway_client.errors import CLOSED, ClientClosed, ClientFull
from gateway_client.overflow import Overflow
from gateway_client.stats import Stats

Rejection = Mapping[str, Any]
_SAVED_LINES = 1000


class ProtocolError(Exception):
    """The gateway said what makes no sense."""


class Outbox:
    """Thread-safe. Bounded: by ``max_bytes`` of lines in memory, beyond that by its overflow file."""

    def __init__(self, max_bytes: int, overflow: Path | None, overflow_max_bytes: int) -> None:
        """Raise OSError when the overflow file cannot be had."""
        self._max_bytes = max_bytes
        self._overflow = None if overflow is None else Overflow(overflow, overflow_max_bytes)
        self._overflow_error: str | None = None
        self._changed = threading.Condition()  # with a lock that a signal handler may take again
        self._waiting: deque[bytes] = deque()
        self._on_the_way: deque[tuple[bytes, bool]] = deque()  # and whether it is in the overflow file
        self._way_bytes = 0
        self._bytes = 0  # in memory, on the way included
        self._acked = 0  # lines of this connection
        self._telling = False  # somebody is told of refusals, and may send again
        self._closed = False
        self._idle = False
        self._sent = self._recovered = self._acknowledged = self._rejected = self._overflowed = self._lost = 0
        self.torn = 0
        """Lines of the overflow file that were not whole; set to 0 by who tells of them."""
        self.wake: Callable[[], None] = lambda: None
        """Called when there is something to send again."""

    @property
    def on_the_way(self) -> int:
        """Bytes of lines that were sent and are not acknowledged yet."""
        return self._way_bytes

    def put(self, line: bytes, wait_secs: float) -> None:
        """Take a line; raise `ClientFull` when there is no room after ``wait_secs``, `ClientClosed`."""
        if len(line) > self._max_bytes:
            raise ValueError(f"The event has {len(line):,} bytes, more than max_bytes, {self._max_bytes:,}.")
        deadline = time.monotonic() + wait_secs
        with self._changed:
            while not self._take_in(line):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ClientFull(self._why_full())
                self._changed.wait(left)
            self._sent += 1
            idle, self._idle = self._idle, False
        if idle:
            self.wake()

    def take(self, max_bytes: int) -> list[bytes]:
        """Return the next lines to send; with none, `wake` is called for the next one. OSError: the overflow file."""
        with self._changed:
            lines: list[bytes] = []
            if self._closed:
                return lines
            while self._waiting and max_bytes > 0:
                line = self._waiting.popleft()
                max_bytes -= len(line)
                lines.append(line)
            from_file = not lines and self._overflow is not None
            if from_file:
                lines = self._from_overflow(max_bytes)
            self._on_the_way.extend((line, from_file) for line in lines)
            self._way_bytes += sum(map(len, lines))
            self._idle = not lines
            return lines

    def acknowledge(self, message: Rejection) -> list[tuple[bytes, Rejection]]:
        """Forget what the gateway has; return the lines that it refused, each with why, to be `told`."""
        with self._changed:
            acked, rejections = message.get("acked"), message.get("rejected", ())
            if not isinstance(acked, int) or not isinstance(rejections, (list, tuple)):
                raise ProtocolError("it said something else than what it acknowledges")
            count = acked - self._acked
            if not 0 <= count <= len(self._on_the_way):
                raise ProtocolError(f"it acknowledged {acked} lines and was sent {self._acked + len(self._on_the_way)}")
            refused = []
            for each in rejections:
                at = each["line"] - self._acked - 1
                if 0 <= at < count:
                    refused.append((self._on_the_way[at][0], each))
            for line, from_file in [self._on_the_way.popleft() for _ in range(count)]:
                self._way_bytes -= len(line)
                if not from_file:
                    self._bytes -= len(line)
                elif self._overflow is not None and self._overflow.settle(len(line)):
                    self._recovered += 1
                else:
                    self._overflowed -= 1
            rejected = len(rejections) + message.get("omitted", 0)
            self._acked = acked
            self._rejected += rejected
            self._acknowledged += count - rejected
            self._telling = bool(refused)
            self._changed.notify_all()
            return refused

    def told(self) -> None:
        """Take note that nothing follows any more from what was refused."""
        with self._changed:
            self._telling = False
            self._changed.notify_all()

    def again(self) -> None:
        """Begin anew, on a new connection, with all that is not acknowledged."""
        with self._changed:
            self._waiting.extendleft(line for line, from_file in reversed(self._on_the_way) if not from_file)
            self._on_the_way.clear()
            self._way_bytes = 0
            self._acked = 0
            self._idle = False
            if self._overflow is not None:
                self._overflow.rewind()

    def wait_empty(self, timeout_secs: float) -> bool:
        """Return whether all is acknowledged, as soon as it is."""
        with self._changed:
            return self._changed.wait_for(self._is_empty, timeout_secs)

    def lose(self) -> None:
        """Count an event that there was no room for, and that nobody tries again."""
        with self._changed:
            self._sent += 1
            self._lost += 1

    def close(self) -> int:
        """Keep what is left in the overflow file; return how many events are lost because they are not there."""
        with self._changed:
            if self._closed:
                return 0
            self.again()
            self._closed = True
            self._changed.notify_all()
            before = self._lost
            while self._waiting:
                lines = [self._waiting.popleft() for _ in range(min(_SAVED_LINES, len(self._waiting)))]
                if self._to_overflow(lines):
                    continue
                for line in lines:
                    if not self._to_overflow([line]):
                        self._lost += 1
            self._bytes = 0
            if self._overflow is not None:
                self._overflow.close()
            return self._lost - before

    def forget(self) -> None:
        """Let go of the overflow file, in a child process: what is here is the parent's."""
        self._closed = True
        if self._overflow is not None:
            self._overflow.close()

    def stats(self, *, connected: bool, last_error: str | None) -> Stats:
        """Return the books, all of one moment."""
        with self._changed:
            own = sum(not from_file for _, from_file in self._on_the_way)
            return Stats(
                sent=self._sent,
                recovered=self._recovered,
                acknowledged=self._acknowledged,
                rejected=self._rejected,
                waiting=len(self._waiting) + own,
                overflowed=self._overflowed,
                lost=self._lost,
                overflow_bytes=0 if self._overflow is None else self._overflow.bytes,
                connected=connected,
                last_error=last_error,
            )

    # Called with the lock held.

    def _take_in(self, line: bytes) -> bool:
        if self._closed:
            raise ClientClosed(CLOSED)
        if self._bytes + len(line) <= self._max_bytes:
            self._waiting.append(line)
            self._bytes += len(line)
            return True
        return self._to_overflow([line])

    def _to_overflow(self, lines: list[bytes]) -> bool:
        if self._overflow is None:
            return False
        try:
            kept = self._overflow.append(b"".join(lines))
        except OSError as error:
            self._overflow_error = f"{self._overflow.path} cannot be written: {error.strerror}"
            return False
        self._overflow_error = None
        if kept:
            self._overflowed += len(lines)
        return kept

    def _from_overflow(self, max_bytes: int) -> list[bytes]:
        overflow = self._overflow
        assert overflow is not None  # noqa: S101 - asked before
        try:
            lines = overflow.take(max_bytes)
        except FileNotFoundError:
            if not overflow.bytes:
                self._lost += self._overflowed
                self._overflowed = 0
                self._changed.notify_all()
            raise
        # Only an earlier process can have left one: it belongs to neither sent nor recovered until now.
        self.torn += overflow.torn
        self._recovered += overflow.torn
        self._lost += overflow.torn
        overflow.torn = 0
        if not lines and self._is_empty():
            self._changed.notify_all()
        return lines

    def _is_empty(self) -> bool:
        on_disk = 0 if self._overflow is None else self._overflow.bytes
        return not (self._waiting or self._on_the_way or self._telling or on_disk)

    def _why_full(self) -> str:
        room = f"{self._max_bytes:,} bytes of events wait for the gateway (max_bytes)"
        if self._overflow_error is not None:
            return f"{room}, and {self._overflow_error}."
        if self._overflow is None:
            return f"{room}: see stats.last_error, or give the client an overflow file."
        return f"{room}, and the overflow file {self._overflow.path} is full (overflow_max_bytes)."
