"""One record: all that a block of events became, under one checksum.

Layout, little endian (format version 1)::

    header, 52 bytes
      0   4  magic  D5 'R' 'E' 'C'
      4   1  format version
      5   1  zero
      6   2  number of sections
      8   8  sequence number in the folder, rising; never used twice, see `gateway.spool.appender`
      16  8  accepted: events accepted in this folder so far, this record included
      24  8  time of writing, microseconds since 1970
      32  4  length of the body in bytes
      36  4  documents in this record
      40  4  dead letters in this record
      44  4  CRC-32 of the body
      48  4  CRC-32 of header bytes 0-47
    body: sections one after the other
      0   1  type (see `SectionType`)
      1   1  encoding of the data: 0 = as it is, 1 = base64
      2   2  length of the name
      4   4  length of the data
      8   4  items in it
      12     name, data

Sections: `DOCUMENTS`, one for each index, named after it: two lines a document, as
Elasticsearch's bulk API takes them (``{"create":{"_index":…,"_id":…}}`` and the document).
`DEAD_LETTERS`: a MessagePack list of `DeadLetter`. `COUNTS`: a MessagePack map of source
name to cumulative `Counts`. `SETTLED`: a MessagePack list of the origins of dead letters that became
documents of this record. `SUMMARY`: figures of its documents, as `gateway.summary` writes them; records of
earlier versions have none. Readers pass over section types and encodings they do not know.

Inside a body the magic never occurs, so that nobody can send bytes that a search for the
next record behind damage would take for one: documents are UTF-8, which has no D5 'R', and
other sections that hold the magic are kept as base64.

The header's running count tells how many documents a damaged record held, once the next
good one is read.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec

VERSION = 1
MAGIC = b"\xd5REC"
HEADER = struct.Struct("<4sBxHQQQIIII")
CHECKSUM = struct.Struct("<I")
HEADER_BYTES = HEADER.size + CHECKSUM.size
SECTION = struct.Struct("<BBHII")
MAX_BODY_BYTES = 1 << 30
PLAIN, BASE64 = 0, 1


class SectionType(IntEnum):
    """What a section holds."""

    DOCUMENTS = 1
    DEAD_LETTERS = 2
    COUNTS = 3
    POSITIONS = 4  # source positions, such as offsets of tailed files; none written yet
    SUMMARY = 5  # mergeable figures for monitoring
    SETTLED = 6


class Counts(NamedTuple):
    """Events of one source: received = accepted + refused + filtered."""

    received: int = 0
    accepted: int = 0
    refused: int = 0
    filtered: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sums."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class DeadLetter(msgspec.Struct, array_like=True, frozen=True):
    """A refused event with its original bytes; ``at`` is seconds since 1970."""

    at: float
    source: str
    peer: str
    tenant: str | None
    reason: str
    path: str
    rule: str
    message: str
    data: bytes
    data_bytes: int  # length of the whole event, of which data may be the beginning
    kind: str | None = None  # what all events of its request were, whatever they said


class Documents(NamedTuple):
    """Documents of one index, ready to send: two lines each."""

    index: str  # type: ignore[assignment]  # hides a tuple's method
    count: int  # type: ignore[assignment]  # hides a tuple's method
    data: bytes | memoryview


@dataclass(slots=True)
class Draft:
    """What the pipeline made of a block; the spool adds sequence and running counts."""

    source: str
    counts: Counts
    documents: list[Documents] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)  # origins of dead letters that are documents of it now
    summary: bytes = b""  # what `gateway.summary` tells of it

    @property
    def size(self) -> int:
        """About how many bytes it takes on disk."""
        documents = sum(len(each.data) for each in self.documents) + len(self.summary)
        return documents + sum(len(each.data) for each in self.dead_letters)


class Header(NamedTuple):
    """The fixed part of a record."""

    sections: int
    sequence: int
    accepted: int
    written_us: int
    body_bytes: int
    documents: int
    dead_letters: int
    checksum: int


class Record(NamedTuple):
    """A whole record as read; sections are decoded when asked for."""

    header: Header
    body: memoryview

    def _sections(self) -> Iterator[tuple[int, str, int, memoryview]]:
        at = 0
        for _ in range(self.header.sections):
            kind, encoding, name_bytes, data_bytes, count = SECTION.unpack_from(self.body, at)
            at += SECTION.size
            name = str(self.body[at : at + name_bytes], "utf-8")
            at += name_bytes
            data = self.body[at : at + data_bytes]
            at += data_bytes
            if encoding == PLAIN:
                yield kind, name, count, data
            elif encoding == BASE64:
                yield kind, name, count, memoryview(base64.b64decode(data))

    def documents(self) -> list[Documents]:
        """Return the documents, a group for each index."""
        return [
            Documents(name, count, data)
            for kind, name, count, data in self._sections()
            if kind == SectionType.DOCUMENTS
        ]

    def dead_letters(self) -> list[DeadLetter]:
        """Return the refused events."""
        return [
            letter
            for kind, _, _, data in self._sections()
            if kind == SectionType.DEAD_LETTERS
            for letter in _LETTERS.decode(data)
        ]

    def settled(self) -> list[str]:
        """Return the origins of dead letters that are no more, since they became documents of this record."""
        return [
            origin
            for kind, _, _, data in self._sections()
            if kind == SectionType.SETTLED
            for origin in _ORIGINS.decode(data)
        ]

    def summary(self) -> memoryview | None:
        """Return its figures as they were handed in, if there are any."""
        return next((data for kind, _, _, data in self._sections() if kind == SectionType.SUMMARY), None)

    def counts(self) -> dict[str, Counts]:
        """Return each source's cumulative counts."""
        for kind, _, _, data in self._sections():
            if kind == SectionType.COUNTS:
                found = msgspec.msgpack.decode(data)
                # A later version may count more.
                return {source: Counts(*counts[: len(Counts._fields)]) for source, counts in found.items()}
        return {}


_LETTERS = msgspec.msgpack.Decoder(list[DeadLetter])
_ORIGINS = msgspec.msgpack.Decoder(list[str])
_ENCODE = msgspec.msgpack.Encoder().encode


def encode(draft: Draft | None, sequence: int, counts: dict[str, Counts], written_us: int) -> list[bytes | memoryview]:
    """Return a record as buffers to be written one after the other.

    ``counts`` are cumulative and include the draft. Without a draft the record opens a segment.
    ``written_us`` is the time in microseconds since 1970.
    """
    sections: list[tuple[SectionType, int, str, int, Any]] = []
    documents = letters = 0
    if draft:
        for group in draft.documents:
            sections.append((SectionType.DOCUMENTS, PLAIN, group.index, group.count, group.data))
            documents += group.count
        letters = len(draft.dead_letters)
        for kind, items in ((SectionType.DEAD_LETTERS, draft.dead_letters), (SectionType.SETTLED, draft.settled)):
            if items:
                sections.append((kind, *_without_magic(_ENCODE(items), len(items))))
        if draft.summary:
            sections.append((SectionType.SUMMARY, *_without_magic(draft.summary, 1)))
    sections.append((SectionType.COUNTS, PLAIN, "", len(counts), _ENCODE(counts)))

    buffers: list[bytes | memoryview] = [b""]
    checksum = length = 0
    for kind, encoding, name, count, data in sections:
        encoded = name.encode()
        head = SECTION.pack(kind, encoding, len(encoded), len(data), count) + encoded
        checksum = zlib.crc32(data, zlib.crc32(head, checksum))
        length += len(head) + len(data)
        buffers += (head, data)
    if length > MAX_BODY_BYTES:
        raise ValueError(f"A record of {length} bytes is longer than {MAX_BODY_BYTES}.")
    accepted = sum(each.accepted for each in counts.values())
    header = HEADER.pack(
        MAGIC, VERSION, len(sections), sequence, accepted, written_us, length, documents, letters, checksum
    )
    buffers[0] = header + CHECKSUM.pack(zlib.crc32(header))
    return buffers


def _without_magic(data: bytes, items: int) -> tuple[int, str, int, bytes]:
    """Return encoding, name, number of items and bytes of a section."""
    return (BASE64, "", items, base64.b64encode(data)) if MAGIC in data else (PLAIN, "", items, data)


def decode_header(data: bytes | memoryview, at: int = 0) -> Header | None:
    """Return the header at ``at``, or None when there is no sound one."""
    if record_version(data, at) != VERSION:
        return None
    return Header(*HEADER.unpack_from(data, at)[2:])


def record_version(data: bytes | memoryview, at: int = 0) -> int | None:
    """Return the format version of the record at ``at``, or None when there is no sound header.

    A version with a header of another length comes in a segment of another version.
    """
    if len(data) - at < HEADER_BYTES:
        return None
    head = data[at : at + HEADER.size]
    if zlib.crc32(head) != CHECKSUM.unpack_from(data, at + HEADER.size)[0]:
        return None
    magic, version = HEADER.unpack(head)[:2]
    return int(version) if magic == MAGIC else None
