"""One folder of segments as its readers see it: where it ends, who still needs which part, what may be deleted.

Several folders share one bound, each the end of one process: `gateway.spool.folders`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from operator import itemgetter
from pathlib import Path

from gateway.settings import Spool as SpoolSettings
from gateway.spool.ages import Ages, written_at
from gateway.spool.appender import Appender
from gateway.spool.books import Cursor, total
from gateway.spool.reader import Reader
from gateway.spool.record import Counts
from gateway.spool.segment import Position, path_of, segments_in
from gateway.spool.skipping import first_place

FREE_CHECK_SECS = 1.0
UNKNOWN = "sinks that are being opened"


class Folder:
    """A folder that somebody writes: this process (`Spool`), a receiver, or nobody any more."""

    def __init__(self, folder: Path, settings: SpoolSettings, appender: Appender, segment_bytes: int) -> None:
        """Look at a folder that was opened; raise OSError. Blocks."""
        self._settings = settings
        self._segment_bytes = segment_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._waiting_bytes = 0  # of drafts that are not on disk yet
        self._changed = asyncio.Event()
        # Until all readers are known nothing is deleted: the first name stands for the others.
        self._needs: dict[str, Position] = {UNKNOWN: Position()}
        # Closed segments and their sizes.
        self._closed = {each: path_of(folder, each).stat().st_size for each in segments_in(folder)}
        self._ages = Ages()
        self._free_bytes = free_bytes(folder)
        self._free_checked = time.monotonic()
        self._stopped = False
        self.folder = folder
        self.end = appender.end
        # What is written from now on goes into segments of these numbers.
        self._opened = self.end, Position(appender.sequence + 1, 0)
        self.counts: dict[str, Counts] = appender.counts
        self.failure: str | None = None
        self.together: list[Folder] = [self]  # those that share the bounds

    @property
    def name(self) -> str:
        """The folder's name, under which cursors are kept."""
        return self.folder.name

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        last = self.end.offset if self.end.segment and self.end.segment not in self._closed else 0
        return sum(self._closed.values()) + last

    @property
    def segments(self) -> int:
        """Number of files."""
        return len({*self._closed, self.end.segment})

    @property
    def closed_segments(self) -> Mapping[int, int]:
        """Segments that nobody writes any more, and their sizes in bytes."""
        return self._closed

    def full(self) -> str | None:
        """Return why nothing can be taken now, naming limit and setting; None when there is room."""
        return self.why_no_more() if self._left() <= 0 else self._full_disk()

    def room(self) -> int:
        """Return how many bytes all folders together may still take."""
        return max(0, min(self._left(), self._left_on_disk()))

    def why_no_more(self) -> str:
        """Return what a sender is told once there is no room."""
        held = sum(each.bytes + each._waiting_bytes for each in self.together)
        if self._left_on_disk() < self._left():
            return self._full_disk() or f"The disk of {self.folder} is nearly full (spool.min_free_bytes)."
        return (
            f"The spool holds {held} bytes, its limit is {self._settings.max_bytes} (spool.max_bytes); "
            f"it waits for {self.slowest() or 'its sinks'}. "
            "See the sink's last_error on /status, or raise spool.max_bytes."
        )

    def _left(self) -> int:
        """Return what `spool.max_bytes` leaves."""
        waiting = sum(each._waiting_bytes for each in self.together)
        held = waiting + sum(each.bytes for each in self.together)
        if held >= self._settings.max_bytes and self._needs and self.slowest() is None:
            # When nobody needs anything any more the last file may be as large as it is: the next write closes it.
            held = waiting
        return self._settings.max_bytes - held

    def _left_on_disk(self) -> int:
        first = self.together[0]
        return first._free_bytes - first._waiting_bytes - self._settings.min_free_bytes

    def _full_disk(self) -> str | None:
        left = self._left_on_disk()
        if left >= 0:
            return None
        if time.monotonic() - self._free_checked > FREE_CHECK_SECS:
            self.look_at_disk()
        return (
            f"The disk of {self.folder} has {max(0, left + self._settings.min_free_bytes)} bytes free, fewer than "
            f"{self._settings.min_free_bytes} (spool.min_free_bytes)."
        )

    def look_at_disk(self) -> None:
        """Ask the disk what is free, soon."""
        self._free_checked = time.monotonic()
        if not self._stopped:
            self._thread.submit(self._check_free)

    def _check_free(self) -> None:
        with suppress(OSError):  # what is on disk stays there
            self._free_bytes = free_bytes(self.folder)

    def reader(self, name: str, cursor: Cursor | None) -> Reader:
        """Return a reader that begins at a cursor, or at the oldest record; its place is kept from now on. Blocks."""
        if cursor is None:
            reader = Reader(self.folder, Position(), None, 0)
        else:
            known = None if cursor.base is None else cursor.accepted
            reader = Reader(self.folder, cursor.position, known, cursor.sequence)
        self._needs[name] = reader.position
        if reader.position < self.end:
            self._mark_oldest(reader.position)
        return reader

    def new_cursor(self) -> Cursor:
        """Return a cursor before the oldest record, so that what waits is counted from the start. Blocks."""
        begin = self.at(Position()).accepted
        return Cursor(accepted=begin, base=begin)

    def at(self, position: Position) -> Cursor:
        """Return a cursor that says only where, and how many events had been accepted up to there. Blocks."""
        accepted = total(self.counts).accepted  # read first: senders may be at work already
        for item in Reader(self.folder, position, None, 0).read(self.end, 1)[:1]:
            header = item.record.header
            return Cursor(position, header.sequence - 1, header.accepted - header.documents)
        return Cursor(position, 0, accepted)

    def place_to_skip(self, name: str) -> Position | None:
        """Return up to where a reader has to skip, a segment before any sender would wait; None when it need not.

        Of several folders the one with the oldest segment is the first to give up something.
        """
        if self._stopped:
            return None
        first = self.together[0]
        waiting = sum(each._waiting_bytes for each in self.together)
        excess = waiting + sum(each.bytes for each in self.together) - self._settings.max_bytes
        lack = waiting + self._settings.min_free_bytes - first._free_bytes
        ahead = self._segment_bytes * len(self.together)
        for each in sorted(self.together, key=Folder._oldest):
            sizes = {**each._closed, each.end.segment: each.end.offset}
            if name in each._needs and (
                place := first_place(name, dict(each._needs), sizes, excess, lack, ahead=ahead)
            ):
                return place if each is self else None
        return None

    def _oldest(self) -> int:
        return min(self._closed, default=self.end.segment)

    def moved(self, closed: dict[int, int], end: Position, counts: dict[str, Counts]) -> None:
        """Take note of what another process wrote: what it closed with sizes, the new end, all counts."""
        self._closed.update(closed)
        self._moved(end, counts)

    def _moved(self, end: Position, counts: dict[str, Counts]) -> None:
        self.end, self.counts = end, counts
        self._ages.mark(end, time.time())
        self._changed.set()
        self._changed = asyncio.Event()

    def attached(self) -> None:
        """Say that all readers are known: from now on what none of them needs is deleted."""
        self._needs.pop(UNKNOWN, None)
        if self._needs:
            name, position = next(iter(self._needs.items()))
            self.release(name, position)

    def outlives(self, cursor: Cursor) -> bool:
        """Whether a cursor points behind the end: then the folder was replaced since."""
        before, since = self._opened
        return cursor.position > self.end or before < cursor.position < since

    async def wait_beyond(self, position: Position) -> None:
        """Return when there is something behind ``position``."""
        while self.end <= position:
            await self._changed.wait()

    def release(self, name: str, position: Position) -> None:
        """Say that a reader needs nothing before ``position`` any more; delete what nobody needs."""
        self._needs[name] = position
        oldest = min(self._needs.values())
        if oldest == Position():
            return
        self._ages.forget(oldest)
        if self._stopped:
            return  # the thread is ending; the next start deletes
        for segment in sorted(self._closed):
            if segment == self.end.segment or oldest < Position(segment, self._closed[segment]):
                break
            self.together[0]._free_bytes += self._closed.pop(segment)  # until it is asked for again
            # A crash before the file is gone does no harm: the next release deletes it.
            self._thread.submit(path_of(self.folder, segment).unlink, missing_ok=True)

    def slowest(self) -> str | None:
        """Return the reader that has most still to read, in bytes over all folders; None when all are at the end."""
        left: Counter[str] = Counter()
        for each in self.together:
            for name, position in dict(each._needs).items():
                left[name] += each.bytes_behind(position)
        name, most = max(left.items(), key=itemgetter(1), default=("", 0))
        return name if most else None

    def bytes_behind(self, position: Position) -> int:
        """Return about how many bytes lie between a position and the end."""
        if position >= self.end:
            return 0
        sizes = {**self._closed, self.end.segment: self.end.offset}
        behind = sum(size for segment, size in sizes.items() if segment >= position.segment)
        return max(1, behind - position.offset)

    def oldest_secs(self) -> float:
        """Return how long ago the oldest record that is still needed was written, within half a second.

        Less exactly when much waits, and the age of the oldest found at start until all of that is taken.
        """
        oldest = self._ages.oldest()
        if oldest is None or min(self._needs.values(), default=self.end) >= self.end:
            return 0.0
        return max(0.0, time.time() - oldest)

    async def stop(self) -> None:
        """Delete nothing more."""
        self._stopped = True
        self._thread.shutdown()

    def _mark_oldest(self, position: Position) -> None:
        """Remember when the record at ``position`` was written: it is from before this start."""
        segment = max((each for each in self._closed if each <= position.segment), default=min(self._closed, default=0))
        offset = position.offset if segment == position.segment else Position().offset
        if (moment := written_at(path_of(self.folder, segment), offset)) is not None:
            self._ages.mark_first(self.end, moment)


def free_bytes(folder: Path) -> int:
    """Return what the disk of a folder has left; raise OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def segment_bytes(settings: SpoolSettings, folders: int) -> int:
    """Return the size at which a segment is closed: the last ones of all folders take an eighth of the spool."""
    return min(settings.segment_bytes, max(1, settings.max_bytes // (8 * folders)))
