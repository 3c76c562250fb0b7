"""Reads what lies behind a place in the spool, without a claim on it: what is gone meanwhile is counted."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.monitoring.matching import Document, Fits
from gateway.spool.reader import Item, Reader
from gateway.spool.segment import Damage, Position

_ID = re.compile(r"([0-9]{1,9}):([0-9]{1,19})\.([0-9]{1,19})\.([0-9]{1,19})", re.ASCII)


class Place(NamedTuple):
    """How far a folder was looked at."""

    position: Position
    """Where the next record begins, or the one of which the first documents were looked at."""
    accepted: int
    """Documents of the folder up to here, since its beginning."""


Places = tuple[Place, ...]
"""One for each folder."""


class Passed(NamedTuple):
    """Documents that were not looked at, and the places behind them."""

    documents: int
    places: Places


class Found:
    """What one look found for one listener."""

    def __init__(self, fits: Fits, room: int, places: Places) -> None:
        """Look for what ``fits``, until ``room`` bytes are full."""
        self.fits = fits
        self.places = places
        self.parts: list[bytes | Passed] = []
        """Events as they are sent, and between them what is gone."""
        self.room = room
        self.is_open = True


def written(names: Sequence[str], places: Places) -> str:
    """Return the id of an event: the places behind it."""
    return ",".join(
        f"{name}:{at.position.segment}.{at.position.offset}.{at.accepted}"
        for name, at in zip(names, places, strict=True)
    )


def read_id(text: str) -> dict[str, Place]:
    """Return the places of an id by folder; raise ValueError where it is none."""
    found = [_ID.fullmatch(each) for each in text.split(",", 1000)]
    if not all(found):
        raise ValueError(text)
    parts = [each.groups() for each in found if each]
    return {name: Place(Position(int(segment), int(offset)), int(seen)) for name, segment, offset, seen in parts}


def look(folders: Sequence[Path], places: Places, ends: Sequence[Position], wanted: list[Found], budget: int) -> None:
    """Look at what lies between places and ends, about ``budget`` bytes of it, for all who stand there. Blocks.

    Each one's ``places`` move to where its room, or the budget, came to an end.
    """
    names = [folder.name for folder in folders]
    now = list(places)
    readers = [Reader(folder, place.position, None, 0) for folder, place in zip(folders, places, strict=True)]
    try:
        for number, start, item in heapq.merge(
            *(_records(at, reader, ends[at], budget // len(readers)) for at, reader in enumerate(readers)),
            key=lambda each: each[2].record.header.written_us,
        ):
            header = item.record.header
            seen, at = now[number].accepted, header.accepted - header.documents
            if at > seen:
                now[number] = Place(start, at)
                gone = Passed(at - seen, tuple(now))
                for each in wanted:
                    if each.is_open:
                        each.parts.append(gone)
            for document in _documents(item):
                at += 1
                if at <= seen:
                    continue
                now[number] = Place(start, at)
                _offer(document, wanted, names, now)
                budget -= len(document.source)
                if budget <= 0 or not any(each.is_open for each in wanted):
                    return
            now[number] = Place(item.after, header.accepted)
        for number, reader in enumerate(readers):  # what cannot be read is passed over
            now[number] = max(now[number], Place(reader.position, now[number].accepted))
    finally:
        for each in wanted:
            if each.is_open:
                each.places = tuple(now)


def _offer(document: Document, wanted: list[Found], names: Sequence[str], now: Sequence[Place]) -> None:
    event = b""
    for each in wanted:
        if not each.is_open or not each.fits(document):
            continue
        places = tuple(now)
        event = event or b"event: document\nid: %b\ndata: %b\n\n" % (written(names, places).encode(), document.hit())
        each.parts.append(event)
        each.room -= len(event)
        if each.room <= 0:
            each.is_open, each.places = False, places


def _records(number: int, reader: Reader, end: Position, max_bytes: int) -> Iterator[tuple[int, Position, Item]]:
    """Give the next records of a folder with where each begins."""
    reader.on_damage = _pass_by
    start = reader.position
    for item in reader.read(end, max_bytes):
        yield number, start, item
        start = item.after


def _documents(item: Item) -> Iterator[Document]:
    for group in item.record.documents():
        lines = bytes(group.data).split(b"\n")
        for action, source in zip(lines[::2], lines[1::2], strict=False):
            yield Document(group.index, action, source)


def _pass_by(path: Path, damage: Damage, data: memoryview) -> None:
    """The sinks set it aside and tell of it."""
