"""The overflow file: events that have no room in memory, on disk until the gateway has them.

`PATH` is appended to. When its turn comes it is renamed to `PATH.sending-N`, read, and deleted when all of it is
acknowledged; a next process goes on with what it finds. Each process has a file of its own: it holds a lock on
`PATH.lock`, and where another process does, it takes `PATH.1`, then `PATH.2`, and so on. What lies in such a file
without a process is taken over at the start.
"""

from __future__ import annotations

import errno
import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import time_ns


class Overflow:
    """Not thread-safe: called with the outbox's lock held."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Take the first free file of this path; raise OSError when none can be had."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock: int | None
        self.path, self._lock = next(_free(path))
        self.bytes = 0
        """On disk and not acknowledged."""
        self.torn = 0
        """Lines that were not whole, and passed over; set to 0 by who counts them."""
        self._max_bytes = max_bytes
        self._end: int | None = None  # the file descriptor of the file that is appended to
        self._appended = 0  # bytes
        self._to_send: deque[_File] = deque()
        self._reading: _File | None = None
        self._adopt(self.path)
        for own, lock in _free(path, new=False):
            self._adopt(own)
            os.close(lock)

    def append(self, lines: bytes) -> bool:
        """Write whole lines; return False when there is no room. OSError: nothing was written."""
        if self.bytes + len(lines) > self._max_bytes:
            return False
        if self._end is None:
            self._end = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.write(self._end, lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError:
            os.ftruncate(self._end, self._appended)
            raise
        self._appended += len(lines)
        self.bytes += len(lines)
        return True

    def take(self, max_bytes: int) -> list[bytes]:
        """Return the next lines to send, of one file at a time; none while its end is not acknowledged.

        OSError when the file cannot be read; when somebody took it away it is not counted any more.
        """
        while True:
            if self._reading is None:
                if not self._to_send and not self._turn():
                    return []
                self._reading = self._to_send.popleft()
            try:
                lines = self._reading.read(max_bytes)
            except FileNotFoundError:
                self.bytes -= self._reading.size - self._reading.settled
                self._reading = None
                raise
            if lines and not lines[-1].endswith(b"\n"):
                torn = lines.pop()
                self._reading.size -= len(torn)
                self.bytes -= len(torn)
                self.torn += 1
            if lines or not self._finished():
                return lines

    def settle(self, size: int) -> bool:
        """Take note that the next line is acknowledged; return whether it was an earlier process's."""
        assert self._reading is not None  # noqa: S101 - a line that was taken
        old = self._reading.old
        self._reading.settled += size
        self.bytes -= size
        self._finished()
        return old

    def rewind(self) -> None:
        """Give again what was taken and is not acknowledged."""
        if self._reading is not None:
            self._reading.close()

    def close(self) -> None:
        """Let go of the files, also in a child process, whose parent keeps them."""
        if self._end is not None:
            os.close(self._end)
            self._end = None
        self.rewind()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _finished(self) -> bool:
        """Delete the file that is read when all of it is settled; return whether it was."""
        reading = self._reading
        if reading is None or reading.settled < reading.size:
            return False
        reading.close()
        reading.path.unlink(missing_ok=True)
        self._reading = None
        return True

    def _turn(self) -> bool:
        """Have what was appended sent; return whether there is anything."""
        if self._end is None or not self._appended:
            return False
        os.close(self._end)
        self._end = None
        size, self._appended = self._appended, 0
        try:
            self._send(self.path, old=False)
        except FileNotFoundError:
            self.bytes -= size
            raise
        return True

    def _adopt(self, own: Path) -> None:
        """Have sent what earlier processes left under a name, oldest first."""
        beginning = f"{own.name}.sending-"
        for left in sorted(each for each in own.parent.iterdir() if each.name.startswith(beginning)):
            self._send(left, old=True)
        if own.exists():
            self._send(own, old=True)

    def _send(self, path: Path, *, old: bool) -> None:
        number = time_ns()
        while (target := self.path.with_name(f"{self.path.name}.sending-{number}")).exists():
            number += 1
        path.rename(target)
        file = _File(target, target.stat().st_size, old)
        self._to_send.append(file)
        if old:
            self.bytes += file.size


@dataclass
class _File:
    """A file to be sent: its whole lines, and how many bytes of them are acknowledged."""

    path: Path
    size: int
    old: bool
    settled: int = 0
    _at: int = 0
    _open: int | None = None  # no file object: a child process could not close one that the parent's thread uses

    def read(self, max_bytes: int) -> list[bytes]:
        """Return the next whole lines, one at least; at the end of the file also what is left without a line end."""
        if self._open is None:
            self._open, self._at = os.open(self.path, os.O_RDONLY), self.settled
        data = b""
        while b"\n" not in data and (at := self._at + len(data)) < self.size:  # what is torn is not read again
            if not (more := os.pread(self._open, min(max_bytes, self.size - at), at)):
                break
            data += more
        lines: list[bytes] = re.findall(rb"[^\n]*\n|[^\n]+", data)
        if len(lines) > 1 and not lines[-1].endswith(b"\n"):
            lines.pop()  # read again with the next ones
        self._at += sum(map(len, lines))
        return lines

    def close(self) -> None:
        """Begin anew with the next read."""
        if self._open is not None:
            os.close(self._open)
            self._open = None


def _free(path: Path, *, new: bool = True) -> Iterator[tuple[Path, int]]:
    """Give the files that no process has, with their locks: without end, or those that were there before."""
    import fcntl  # not on Windows; the rest works there

    for number in count():
        own = path.with_name(f"{path.name}.{number}") if number else path
        name = own.with_name(f"{own.name}.lock")
        if not new and not name.exists():
            return
        lock = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            yield own, lock
