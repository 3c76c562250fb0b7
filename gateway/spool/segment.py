"""A segment: a file of records that follow each other.

Layout: 16 bytes (magic ``MLGWSPOL``, format version as u32, CRC-32 of these 12 bytes), then
records. A damaged file header harms nothing: it only tells newer versions.
The file is named after the sequence number of its first record. That record holds no
documents, only the running counts, so that older segments can be deleted whole.
A record whose number is not below the next segment's name was never promised to anybody
(its sync failed and it was written again there) and is passed over.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.spool.record import CHECKSUM, HEADER_BYTES, MAGIC, Header, Record, decode_header, record_version
from gateway.spool.record import VERSION as RECORD_VERSION
from gateway.versions import refuse_newer

FILE_HEADER = struct.Struct("<8sII")
FILE_MAGIC = b"MLGWSPOL"
FILE_VERSION = 1
SUFFIX = ".segment"
PAGE_BYTES = 4096
_FIND_MAGIC = re.compile(re.escape(MAGIC))


class Position(NamedTuple):
    """A place in a folder: the segment's first sequence number, and a byte offset in its file."""

    segment: int = 0
    offset: int = FILE_HEADER.size


class Damage(NamedTuple):
    """Bytes of a segment that hold no whole record."""

    start: int
    end: int
    header: Header | None = None  # when that is sound, and only the body is not


def path_of(folder: Path, segment: int) -> Path:
    """Return the file of the segment that begins with this sequence number."""
    return folder / f"{segment:020d}{SUFFIX}"


def segments_in(folder: Path) -> list[int]:
    """Return the segments of a folder, oldest first; raise OSError where there is no folder."""
    with os.scandir(folder) as entries:  # a directory of such a name is as good as a deleted file
        files = [Path(each.name) for each in entries if each.name.endswith(SUFFIX) and each.is_file()]
    return sorted(int(path.stem) for path in files if path.stem.isdigit())


def file_header() -> bytes:
    """Return the first bytes of a new segment."""
    head = struct.pack("<8sI", FILE_MAGIC, FILE_VERSION)
    return head + CHECKSUM.pack(zlib.crc32(head))


def check_version(path: Path) -> None:
    """Raise `FormatVersionError` when a newer version wrote this file; all its records are of one version."""
    with path.open("rb", buffering=0) as file:
        head = read(file.fileno(), 0, FILE_HEADER.size + HEADER_BYTES)
    if len(head) >= FILE_HEADER.size:
        magic, version, checksum = FILE_HEADER.unpack_from(head)
        if magic == FILE_MAGIC and zlib.crc32(head[:12]) == checksum:
            refuse_newer(path, version, FILE_VERSION)
    found = record_version(head, FILE_HEADER.size)
    if found is not None:
        refuse_newer(path, found, RECORD_VERSION)


def read(file: int, offset: int, size: int) -> bytes:
    """Return up to ``size`` bytes from ``offset``; pages that the disk cannot give are zeros, and so damage."""
    data = b""
    while len(data) < size:
        at, rest = offset + len(data), size - len(data)
        try:
            piece = os.pread(file, rest, at)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            rest = min(rest, PAGE_BYTES - at % PAGE_BYTES)
            try:
                piece = os.pread(file, rest, at)
            except OSError:
                piece = bytes(rest)
        if not piece:
            break
        data = data + piece if data else piece
    return data


def set_aside(path: Path, start: int, data: bytes | memoryview) -> Path | None:
    """Keep bytes of a segment that cannot be used, for whoever looks into it; None when that was done before."""
    aside = path.parent.parent / "damaged" / f"{path.parent.name}-{path.stem}-{start}.bytes"
    aside.parent.mkdir(exist_ok=True)
    try:
        with aside.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return None
    except OSError:
        aside.unlink(missing_ok=True)  # half a copy would pass for the whole
        raise
    return aside


def parse(data: memoryview, base: int, *, whole: bool) -> Iterator[tuple[int, Record | Damage]]:
    """Yield what lies in ``data``, each with the file offset behind it.

    ``base`` is the file offset of ``data[0]``. An unfinished record at the end yields nothing
    unless ``whole`` says that nothing comes after ``data``; then it is a `Damage`.
    """
    at, length = 0, len(data)
    while at < length:
        header = decode_header(data, at)
        if header is not None:
            end = at + HEADER_BYTES + header.body_bytes
            if end <= length:
                body = data[at + HEADER_BYTES : end]
                sound = zlib.crc32(body) == header.checksum
                yield base + end, Record(header, body) if sound else Damage(base + at, base + end, header)
                at = end
                continue
            if whole:  # cut off; what is there belongs to this record
                yield base + length, Damage(base + at, base + length)
            return
        if not whole and length - at < HEADER_BYTES:
            return
        # Not a record: look for the next sound header, since a length cannot be trusted here.
        found = _next_header(data, at + 1)
        # Without one the next may begin in the last bytes, and go on behind them.
        end = found or (length if whole else length - HEADER_BYTES + 1)
        yield base + end, Damage(base + at, base + end)
        at = end


def needed(data: memoryview) -> int:
    """Return how many bytes the record at the beginning of ``data`` takes; 0 when it is not one."""
    header = decode_header(data)
    return 0 if header is None else HEADER_BYTES + header.body_bytes


def _next_header(data: memoryview, at: int) -> int | None:
    while found := _FIND_MAGIC.search(data, at):
        if decode_header(data, found.start()) is not None:
            return found.start()
        at = found.start() + 1
    return None
