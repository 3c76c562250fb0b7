"""Reads a folder of the spool in order, from a position to what is synced. Keeps promise 9."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import structlog

from gateway.spool.record import Record
from gateway.spool.segment import (
    FILE_HEADER,
    Damage,
    Position,
    needed,
    parse,
    path_of,
    read,
    segments_in,
    set_aside,
)

log = structlog.get_logger(__name__)


class Item(NamedTuple):
    """A record and where the next begins.

    ``damaged`` counts the documents that lay between the record before and this one in bytes
    that could not be read.
    """

    record: Record
    after: Position
    damaged: int


class Reader:
    """A place in a folder that moves forward. Calls block: use a thread, one at a time.

    ``on_damage`` is told of bytes that cannot be read: the file, what was found, the bytes. Whichever
    reader finds them first sets them aside.
    """

    def __init__(self, folder: Path, position: Position, accepted: int | None, sequence: int) -> None:
        """Begin at ``position``, where ``accepted`` events had been counted; None: begin at the oldest record."""
        self.folder = folder
        self.position = position
        self.accepted = accepted
        self.sequence = sequence
        self.on_damage: Callable[[Path, Damage, memoryview], None] = report
        self._told = False  # of damage since the last record

    def read(self, end: Position, max_bytes: int) -> list[Item]:
        """Return the next records before ``end``, about ``max_bytes`` of them; empty when there are none.

        Raises OSError when the folder or a file cannot be read: try again.
        """
        while self.position < end:
            items, passed = self._read_segment(end, max_bytes)
            if items:
                return items
            if not passed and not self._next_segment(end):
                self.position = end  # the files are shorter than they were: what is not there is damage, too
        return []

    def _read_segment(self, end: Position, max_bytes: int) -> tuple[list[Item], bool]:
        """Return what the present segment gives, and whether the position moved."""
        segment, offset = self.position
        path = path_of(self.folder, segment)
        try:
            with path.open("rb", buffering=0) as file:
                limit = os.fstat(file.fileno()).st_size
                if segment == end.segment:
                    limit = min(limit, end.offset)
                if offset >= limit:
                    return [], False
                size = max_bytes
                while True:
                    data = memoryview(read(file.fileno(), offset, min(size, limit - offset)))
                    found = list(parse(data, offset, whole=offset + len(data) >= limit))
                    if found or offset + len(data) >= limit or not data:
                        break
                    size = max(2 * size, needed(data))
        except (FileNotFoundError, IsADirectoryError):
            return [], False
        items = []
        following = self._following(segment)
        for after, item in found:
            position = Position(segment, after)
            header = item.header
            if header is not None and (
                header.sequence <= self.sequence or (following and header.sequence >= following)
            ):
                self.position = position
                continue
            if isinstance(item, Damage):
                self.on_damage(path, item, data[item.start - offset : item.end - offset])
                self.position, self._told = position, True
                continue
            header = item.header
            before = header.accepted - header.documents
            damaged = 0 if self.accepted is None else max(0, before - self.accepted)
            if damaged and not self._told:
                log.error(
                    "Documents are missing in the spool: a file of it was deleted or cut short, or a sink's place is "
                    "older than the spool.",
                    before=str(path), documents=damaged,
                )  # fmt: skip
            self._told = False
            self.accepted, self.sequence, self.position = header.accepted, header.sequence, position
            items.append(Item(item, position, damaged))
        return items, bool(found)

    def _following(self, segment: int) -> int:
        return min((each for each in segments_in(self.folder) if each > segment), default=0)

    def _next_segment(self, end: Position) -> bool:
        following = self._following(self.position.segment)
        if not following or following > end.segment:
            return False
        self.position = Position(following, FILE_HEADER.size)
        return True


def report(path: Path, damage: Damage, data: memoryview) -> None:
    """Set bytes that cannot be read aside, and say so once; the sinks count the documents that were in them."""
    try:
        aside = set_aside(path, damage.start, data)
    except OSError as error:
        log.error("Damaged bytes of the spool cannot be set aside.", file=str(path), error=str(error))
        return
    if aside is not None:
        log.error(
            "Bytes of the spool are damaged: they are set aside, the gateway goes on behind them.",
            file=str(path),
            at=damage.start,
            bytes=len(data),
            aside=str(aside),
            documents="unknown" if damage.header is None else damage.header.documents,
            dead_letters="unknown" if damage.header is None else damage.header.dead_letters,
        )
