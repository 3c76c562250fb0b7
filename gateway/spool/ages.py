"""When what lies in the spool was written, without a look at each record."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from gateway.spool.record import HEADER_BYTES, decode_header
from gateway.spool.segment import Position

MARK_SECS = 0.5
MAX_MARKS = 4096


class Ages:
    """Positions, and when the oldest of what lies before them was written, in seconds since 1970."""

    def __init__(self) -> None:
        self._marks: deque[tuple[Position, float]] = deque()

    def mark(self, end: Position, now: float) -> None:
        """Remember that what lies before ``end``, as far as it is not marked yet, was written now."""
        marks = self._marks
        if marks and abs(now - marks[-1][1]) <= MARK_SECS:
            marks[-1] = (end, marks[-1][1])
            return
        if len(marks) >= MAX_MARKS:  # a sink that is behind for hours: half as exact will do
            pairs = list(marks)
            self._marks = marks = deque(
                (later[0], earlier[1]) for earlier, later in zip(pairs[::2], pairs[1::2], strict=True)
            )
        marks.append((end, now))

    def mark_first(self, end: Position, moment: float) -> None:
        """Remember that the oldest before ``end`` is from before this start."""
        if not self._marks or moment < self._marks[0][1]:
            self._marks.appendleft((end, moment))

    def forget(self, before: Position) -> None:
        """Nobody needs what lies before a position any more."""
        while self._marks and self._marks[0][0] <= before:
            self._marks.popleft()

    def oldest(self) -> float | None:
        """Return when the oldest was written that is needed, None when there is none."""
        return self._marks[0][1] if self._marks else None


def written_at(path: Path, offset: int) -> float | None:
    """Return when a record was written, now when it cannot be read; None when there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            header = decode_header(file.read(HEADER_BYTES))
    except FileNotFoundError:
        return None
    return time.time() if header is None else header.written_us / 1e6
