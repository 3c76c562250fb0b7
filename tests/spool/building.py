"""What the tests of the spool build and look at: drafts with named documents, folders, damage."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.settings import Spool as SpoolSettings
from gateway.spool.appender import Appender
from gateway.spool.reader import Item, Reader
from gateway.spool.record import Counts, DeadLetter, Documents, Draft, Record
from gateway.spool.segment import FILE_HEADER, Position, parse, path_of, segments_in
from gateway.spool.spool import Spool
from gateway.spool.state import State

MIB = 1 << 20
START = Position()
_NAME = re.compile(rb'"_id":"([^"]*)"')


def draft(*names: str, source: str = "tcp", refused: tuple[bytes, ...] = (), pad: int = 0) -> Draft:
    """Return a draft with a document for each name, and dead letters."""
    text = "".join(f'{{"create":{{"_id":"{name}"}}}}\n{{"pad":"{"x" * pad}"}}\n' for name in names)
    return Draft(
        source,
        Counts(len(names) + len(refused), len(names), len(refused)),
        [Documents("ml-metrics-2024.01.15", len(names), text.encode())] if names else [],
        [letter(data) for data in refused],
    )


def letter(data: bytes, **changes: Any) -> DeadLetter:
    """Return a dead letter."""
    values = {
        "at": 1.5,
        "source": "tcp",
        "peer": "127.0.0.1:4",
        "tenant": None,
        "reason": "json",
        "path": "$",
        "rule": "json_invalid",
        "message": "Not valid JSON.",
        "data": data,
        "data_bytes": len(data),
    }
    return DeadLetter(**{**values, **changes})


async def letters_in(state: State) -> list[dict[str, Any]]:
    """Return all rows of dead letters, oldest first."""

    def rows() -> list[dict[str, Any]]:
        found = state._db.execute("SELECT * FROM letters ORDER BY id")
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]

    return await state.run(rows)


def names_of(record: Record) -> list[str]:
    """Return the names of a record's documents."""
    return [name.decode() for group in record.documents() for name in _NAME.findall(bytes(group.data))]


def names(items: list[Item]) -> list[str]:
    """Return the names of all documents."""
    return [name for item in items for name in names_of(item.record)]


def appender(folder: Path, segment_bytes: int = MIB) -> Appender:
    """Open a folder for writing."""
    return Appender(folder, segment_bytes, lambda text: None)


def rest(reader: Reader, end: Position, max_bytes: int = MIB) -> list[Item]:
    """Read to the end; fail when that takes no end."""
    items: list[Item] = []
    for _ in range(10_000):
        found = reader.read(end, max_bytes)
        if not found:
            assert reader.position >= end, "there is more, but the reader gives nothing"
            return items
        items += found
    raise AssertionError("The reader does not come to an end.")


def everything(folder: Path, end: Position, max_bytes: int = MIB) -> list[Item]:
    """Read all of a folder as one who knows that it began with no events."""
    return rest(Reader(folder, START, 0, 0), end, max_bytes)


def files(folder: Path) -> list[Path]:
    """Return the segment files, oldest first."""
    return [path_of(folder, segment) for segment in segments_in(folder)]


def flip(path: Path, offset: int, mask: int = 0xFF) -> None:
    """Change a byte of a file in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        value = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([value ^ mask]))


def damaged_files(folder: Path) -> list[Path]:
    """Return what was set aside."""
    return sorted((folder.parent / "damaged").glob("*"))


def settings(**changes: Any) -> SpoolSettings:
    """Return settings for small tests."""
    return SpoolSettings(**{"min_free_bytes": 0, "segment_bytes": 64 * 1024, "max_bytes": 4 * MIB, **changes})


def unobserved(*, records: int, seconds: float) -> None:
    """Look away."""


@asynccontextmanager
async def spool_in(folder: Path, **changes: Any) -> AsyncIterator[Spool]:
    """Open a spool for a test and stop it."""
    spool = Spool(folder, settings(**changes), unobserved)
    try:
        yield spool
    finally:
        await spool.stop()


def offsets_of_records(path: Path) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each record of a sound segment."""
    at = FILE_HEADER.size
    for after, _ in parse(memoryview(path.read_bytes())[at:], at, whole=True):
        yield at, after
        at = after
