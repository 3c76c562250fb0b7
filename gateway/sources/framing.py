"""Bytes to lines, without I/O."""

from __future__ import annotations

from gateway.pipeline.block import Broken

HEAD_BYTES = 4096  # kept of a line that is too long


class LineFramer:
    """Cuts one connection's bytes at line ends and holds back the unfinished line.

    A line over ``max_line_bytes`` is given as `Broken`, with an empty line in its place so
    that line numbers stay right; what follows its line end is read as usual.
    """

    __slots__ = ("_head", "_max", "_skipped", "_tail")

    def __init__(self, max_line_bytes: int) -> None:
        self._max = max_line_bytes
        self._tail = bytearray()
        self._skipped = 0  # bytes of an overlong line seen so far; 0: not in one
        self._head = b""

    @property
    def unfinished(self) -> int:
        """How many bytes of an unfinished line are held."""
        return len(self._tail)

    @property
    def skips(self) -> bool:
        """Whether it is within a line that is too long."""
        return self._skipped > 0

    def feed(self, data: bytes) -> tuple[list[bytes], list[Broken]]:
        """Return the lines that ``data`` completes, without their line ends."""
        broken: list[Broken] = []
        lines: list[bytes] = []
        if self._skipped:
            end = data.find(b"\n")
            if len(self._head) < HEAD_BYTES:
                self._head = (self._head + (data if end < 0 else data[:end]))[:HEAD_BYTES]
            if end < 0:
                self._skipped += len(data)
                return lines, broken
            broken.append(self._too_large(0, self._head, self._skipped + end))
            lines.append(b"")
            self._skipped = 0
            data = data[end + 1 :]
        parts = data.split(b"\n")
        rest = parts.pop()
        if parts:
            if self._tail:
                parts[0] = bytes(self._tail) + parts[0]
                self._tail = bytearray()
            lines += parts
            if len(data) > self._max or len(parts[0]) > self._max:
                for number, line in enumerate(lines):
                    if len(line) > self._max and not self._fits(line):
                        broken.append(self._too_large(number, line[:HEAD_BYTES], len(line)))
                        lines[number] = b""
        self._tail += rest
        if len(self._tail) > self._max and not self._fits(self._tail):
            self._head, self._skipped = bytes(self._tail[:HEAD_BYTES]), len(self._tail)
            self._tail = bytearray()
        return lines, broken

    def finish(self, *, orderly: bool, why: str | None = None) -> tuple[list[bytes], list[Broken]]:
        """Return what the end of the connection leaves.

        An unfinished line is a line when the sender closed in an ``orderly`` way; otherwise
        nobody knows whether it was whole, and it is broken: ``cut``, with ``why`` as message.
        """
        tail, self._tail = bytes(self._tail), bytearray()
        skipped, self._skipped = self._skipped, 0
        if skipped:
            return [b""], [self._too_large(0, self._head, skipped)]
        if not tail.strip():
            return [], []
        if orderly:
            return [tail], []
        message = why or "The connection ended within this line."
        return [b""], [Broken(0, "cut", message, tail, len(tail))]

    def _fits(self, line: bytes | bytearray) -> bool:
        """The carriage return of a line end is not part of the event."""
        return len(line) == self._max + 1 and line.endswith(b"\r")

    def _too_large(self, number: int, head: bytes, length: int) -> Broken:
        message = f"The line has {length} bytes, the limit is {self._max} (tcp.max_line_bytes)."
        return Broken(number, "too_large", message, head, length)
