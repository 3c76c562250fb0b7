"""Writes one folder of the spool. Keeps promises 1, 2, 6 and 9.

1. What `write` returned from is on disk: records, file and, for a new file, the folder.
2. A failed write or sync is never repeated on that file: it is cut back to what was
   synced, closed, and the records go into a new segment; when that fails too the caller
   gets the error and nothing of the group counts.
3. What a crash left unfinished at the end was told to nobody: a copy is set aside, and the
   next record goes into a new segment. What was whole is synced before a reader sees it.
4. A number never means two records: each start goes on with the time in microseconds, so
   that it does not repeat those of a folder or file that was deleted or cut short; where the
   clock was set back, numbers that unreadable bytes at the end may have held are left out.
   Cursors and dead letters rely on it.

All calls block and belong in one thread.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.spool.books import total
from gateway.spool.record import HEADER_BYTES, Counts, Draft, Record, encode
from gateway.spool.segment import (
    FILE_HEADER,
    Position,
    check_version,
    file_header,
    parse,
    path_of,
    read,
    segments_in,
    set_aside,
)

IOV_MAX = 1024
LOST = "damaged"  # the source of events whose record tells only how many they were


class Appender:
    """The end of one folder."""

    def __init__(self, folder: Path, segment_bytes: int, warn: Callable[[str], None]) -> None:
        """Open ``folder``, made when missing; raise `FormatVersionError` or OSError."""
        self.folder = folder
        self.counts: dict[str, Counts] = {}
        self._segment_bytes = segment_bytes
        self._warn = warn
        self._file = -1
        made = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for each in made:
            _sync_folder(each.parent)
        self.end = Position()
        self.sequence = self._recover()  # the last one used

    def write(self, drafts: list[Draft]) -> Position:
        """Put the drafts on disk, each as one record, with one sync; return the new end.

        Raises OSError, and then none of them counts.
        """
        try:
            return self._write(drafts)
        except OSError as first:
            if drafts:
                self._warn(f"Writing to {self.folder} failed ({first.strerror}): trying again in a new segment.")
            return self._write(drafts)

    def close(self) -> None:
        """Close the segment, cut back to what was synced."""
        if self._file < 0:
            return
        with suppress(OSError):
            os.ftruncate(self._file, self.end.offset)
        with suppress(OSError):
            os.close(self._file)
        self._file = -1

    def _write(self, drafts: list[Draft]) -> Position:
        counts, sequence, end = self.counts, self.sequence, self.end
        buffers: list[bytes | memoryview] = []
        now_us = time.time_ns() // 1000
        opening = self._file < 0 or end.offset >= self._segment_bytes
        if opening:
            sequence += 1
            end = Position(sequence, 0)
            buffers = [file_header(), *encode(None, sequence, counts, now_us)]
        for draft in drafts:
            sequence += 1
            counts = {**counts, draft.source: counts.get(draft.source, Counts()).plus(draft.counts)}
            buffers += encode(draft, sequence, counts, now_us)
        if opening:
            self.close()
            self._file = _create(path_of(self.folder, end.segment))
        try:
            written = _write_all(self._file, buffers, end.offset)
            os.fdatasync(self._file)
            if not os.fstat(self._file).st_nlink:  # what is in it nobody will find again
                raise FileNotFoundError(errno.ENOENT, "somebody deleted the file")
            if opening:
                _sync_folder(self.folder)
        except BaseException:
            if opening:
                self._discard(end.segment)
            else:
                self.close()
            raise
        self.counts, self.sequence = counts, sequence
        self.end = Position(end.segment, end.offset + written)
        return self.end

    def _discard(self, segment: int) -> None:
        """Close and delete a new segment that could not be written: none of it was promised."""
        with suppress(OSError):
            os.close(self._file)
        self._file = -1
        with suppress(OSError):
            path_of(self.folder, segment).unlink()

    def _recover(self) -> int:
        """Read the newest counts, set an unfinished end aside, return the highest number that may have been used."""
        segments = segments_in(self.folder)
        for segment in segments:
            check_version(path_of(self.folder, segment))
        highest = time.time_ns() // 1000
        if not segments:
            return highest
        following = 0
        sound = damaged = None
        for segment in reversed(segments):
            path = path_of(self.folder, segment)
            data = _read_synced(path)
            end, last, broken = FILE_HEADER.size, segment, None
            for after, item in parse(data[end:], end, whole=True):
                header = item.header
                if header is None or (following and header.sequence >= following):
                    continue
                end, last = after, header.sequence
                if isinstance(item, Record):
                    sound, broken = item, None
                else:  # only its body cannot be read: it was written whole, and may have been acknowledged
                    broken = Record(header, data[after - header.body_bytes : after])
            damaged = damaged or broken
            highest = max(highest, last)
            if not following:
                self.end = Position(segment, max(len(data), FILE_HEADER.size))
                highest += max(0, len(data) - end) // HEADER_BYTES
                if end < len(data):
                    self._set_aside(path, end, data[end:])
            if sound is not None:
                break
            following = segment
        counts = {} if sound is None else sound.counts()
        self.counts = counts if damaged is None else _counts_of_damaged(damaged, counts)
        _sync_folder(self.folder)
        return highest

    def _set_aside(self, path: Path, end: int, data: memoryview) -> None:
        what = f"The last {len(data)} bytes of {path} are an unfinished write, which no sender was told of, or damaged"
        try:
            aside = set_aside(path, end, data)
        except OSError as error:  # such as a full disk, which is no reason not to start
            self._warn(f"{what}: they cannot be copied aside ({error.strerror}).")
            return
        if aside is not None:
            self._warn(f"{what}: a copy is in {aside}.")


def _counts_of_damaged(record: Record, before: dict[str, Counts]) -> dict[str, Counts]:
    """Return the counts of a record with a sound header and a damaged body, as far as they can be told."""
    with suppress(Exception):  # its bytes may be anything
        counts = record.counts()
        balanced = all(each.received == each.accepted + each.refused + each.filtered for each in counts.values())
        if balanced and counts.keys() >= before.keys() and total(counts).accepted == record.header.accepted:
            return counts
    lost = record.header.accepted - total(before).accepted
    return {**before, LOST: before.get(LOST, Counts()).plus(Counts(received=lost, accepted=lost))}


def _read_synced(path: Path) -> memoryview:
    """Return a segment's bytes, as they will be found again after a power cut."""
    with path.open("rb", buffering=0) as file:
        os.fdatasync(file.fileno())
        return memoryview(read(file.fileno(), 0, os.fstat(file.fileno()).st_size))


def _create(path: Path) -> int:
    path.unlink(missing_ok=True)  # left by a failed attempt: a file whose sync failed is not used again
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)


def _write_all(file: int, buffers: list[bytes | memoryview], offset: int) -> int:
    """Write all buffers at ``offset``; return how many bytes that was."""
    start = offset
    for first in range(0, len(buffers), IOV_MAX):
        group = buffers[first : first + IOV_MAX]
        wanted = sum(map(len, group))
        done = os.pwritev(file, group, offset)
        if done < wanted:  # rare: a signal, or a disk that fills up
            rest = memoryview(b"".join(group))[done:]
            while rest:
                count = os.pwrite(file, rest, offset + done)
                done, rest = done + count, rest[count:]
        offset += wanted
    return offset - start


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
