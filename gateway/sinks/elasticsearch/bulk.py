"""Bulk bodies, without I/O: records to bodies of bounded size, and positions back to records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from gateway.spool.books import Cursor
from gateway.spool.record import Header, Record
from gateway.spool.segment import Position
from gateway.spool.shelf import Letter
from gateway.spool.state import Parked


@dataclass(slots=True)
class Taken:
    """A record on its way, without its body: how many documents are open, and what became of the others."""

    header: Header
    after: Position
    open: int
    indexed: int = 0
    duplicates: int = 0
    letters: list[Letter] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    summary: bytes | None = None  # figures of all its documents, where they are counted
    left_out: list[tuple[str, bytes]] = field(default_factory=list)  # those that are not to be, by index
    in_doubt: bool = False  # it may have been sent before this start
    passed: bool = False  # by the cursor: what still becomes of it counts no more

    def leave_out(self, index: str, source: bytes) -> int:
        """Note that a document is not counted with the others; return how many bytes that takes."""
        if self.summary is None:
            return 0
        self.left_out.append((index, source))
        return len(source)

    @property
    def counting(self) -> int:
        """Bytes that wait here to be counted."""
        return len(self.summary or b"") + sum(len(source) for _, source in self.left_out)

    @property
    def held(self) -> int:
        """Bytes of letters and documents that wait here to be written to disk."""
        return sum(each.cost for each in self.letters) + sum(each.cost for each in self.parked)

    def settle(self, cursor: Cursor) -> Cursor:
        """Return the cursor behind this record, with what is still open skipped."""
        header = self.header
        before = header.accepted - header.documents
        base, damaged = cursor.base, max(0, before - cursor.accepted)
        if base is None:
            base, damaged = before, 0
        return cursor.advanced(
            position=self.after,
            sequence=header.sequence,
            accepted=header.accepted,
            base=base,
            indexed=cursor.indexed + self.indexed,
            duplicates=cursor.duplicates + self.duplicates,
            dead_letters=cursor.dead_letters + len(self.letters),
            skipped=cursor.skipped + self.open,
            damaged=cursor.damaged + damaged,
            parked=cursor.parked + len(self.parked),
        )


class Part(NamedTuple):
    """Documents of one record that follow each other."""

    taken: Taken
    index: str  # type: ignore[assignment]  # hides a tuple's method
    first: int  # position of the first in its record
    count: int  # type: ignore[assignment]  # hides a tuple's method
    data: bytes | memoryview


class Document(NamedTuple):
    """One document of a bulk."""

    taken: Taken
    index: str  # type: ignore[assignment]  # hides a tuple's method
    position: int
    action: bytes
    source: bytes


@dataclass(slots=True)
class Bulk:
    """What one request carries."""

    parts: list[Part] = field(default_factory=list)
    size: int = 0  # in bytes
    count: int = 0

    def add(self, part: Part) -> None:
        """Append a part."""
        self.parts.append(part)
        self.size += len(part.data)
        self.count += part.count

    def body(self) -> bytes:
        """Return the request's body."""
        return b"".join(part.data for part in self.parts)

    def documents(self) -> list[Document]:
        """Return the documents one by one, as positions in the answer count them."""
        return [
            Document(part.taken, part.index, part.first + at, action, source)
            for part in self.parts
            for at, (action, source) in enumerate(_pairs(part.data))
        ]

    def halves(self) -> list[Bulk]:
        """Return two bulks of half the documents each; of a single document there is but one."""
        documents = self.documents()
        middle = len(documents) // 2
        return [of_documents(half) for half in (documents[:middle], documents[middle:]) if half]


def id_in(action: bytes) -> str:
    """Return the `_id` that an action line gives its document."""
    identity: str = orjson.loads(action)["create"]["_id"]
    return identity


def of_documents(documents: list[Document]) -> Bulk:
    """Return a bulk of single documents."""
    bulk = Bulk()
    for each in documents:
        data = each.action + b"\n" + each.source + b"\n"
        bulk.add(Part(each.taken, each.index, each.position, 1, data))
    return bulk


class Batcher:
    """Collects records into bulks of at most ``max_bytes`` and ``max_events``, where a document allows it."""

    def __init__(self, max_bytes: int, max_events: int) -> None:
        self.max_bytes = max_bytes  # may be lowered at any time
        self._max_events = max_events
        self._bulk = Bulk()

    def __len__(self) -> int:
        return self._bulk.count

    def add(self, taken: Taken, record: Record) -> Iterator[Bulk]:
        """Add a record's documents; yield the bulks that are full."""
        position = 0
        for group in record.documents():
            whole = Part(taken, group.index, position, group.count, group.data)
            position += group.count
            for part in self._split(whole):
                if self._bulk.count and not self._fits(part):
                    yield self.flush()
                self._bulk.add(part)
        if self._bulk.size >= self.max_bytes or self._bulk.count >= self._max_events:
            yield self.flush()

    def flush(self) -> Bulk:
        """Return what has been collected and begin anew."""
        bulk, self._bulk = self._bulk, Bulk()
        return bulk

    def _fits(self, part: Part) -> bool:
        return self._bulk.size + len(part.data) <= self.max_bytes and self._bulk.count + part.count <= self._max_events

    def _split(self, whole: Part) -> Iterator[Part]:
        if len(whole.data) <= self.max_bytes and whole.count <= self._max_events:
            yield whole
            return
        pieces: list[bytes] = []
        size, first, count = 0, whole.first, 0
        for action, source in _pairs(whole.data):
            length = len(action) + len(source) + 2
            if count and (size + length > self.max_bytes or count >= self._max_events):
                yield Part(whole.taken, whole.index, first, count, b"".join(pieces))
                pieces, size, first, count = [], 0, first + count, 0
            pieces += (action, b"\n", source, b"\n")
            size += length
            count += 1
        yield Part(whole.taken, whole.index, first, count, b"".join(pieces))


def _pairs(data: bytes | memoryview) -> Iterator[tuple[bytes, bytes]]:
    lines = bytes(data).split(b"\n")
    return zip(lines[0::2], lines[1::2], strict=False)  # the last line end leaves one empty line
