"""Tells the documents that the embedded store cannot take from trouble of its own."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import orjson

from gateway.spool.reader import Item
from gateway.spool.record import DeadLetter, Documents
from gateway.spool.shelf import Letter
from gateway.store import tables
from gateway.store.rows import DocumentError, Rows, rows
from schemas import Registry

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def refused(db: DuckDBPyConnection, registry: Registry, groups: Sequence[Documents]) -> dict[tuple[int, int], str]:
    """Return which documents fail, by number of the group and position in it, and why; changes nothing."""
    found: dict[tuple[int, int], str] = {}
    for number, group in enumerate(groups):
        ids, documents = rows(group)
        pending = [range(len(ids))]
        while pending:
            part = pending.pop()
            one = Rows(ids[part.start : part.stop], documents[part.start : part.stop])
            why = _failure(db, registry, group.index, one)
            if why is None:
                continue
            if len(part) == 1:
                found[number, part.start] = why
            else:
                middle = len(part) // 2
                pending += (part[:middle], part[middle:])
    return found


def insert(db: DuckDBPyConnection, registry: Registry, index: str, new: Rows) -> list[bytes]:
    """Add rows whose id is not there yet, return the ids that were; raise `DocumentError` for what lies in them."""
    import duckdb

    try:
        return [identity for chunk in new.chunks() for identity in tables.insert(db, registry, index, chunk)]
    except (
        duckdb.DataError,
        duckdb.NotSupportedError,
        duckdb.InvalidInputException,
        UnicodeDecodeError,
    ) as error:
        raise DocumentError(one_line(error)) from None


def one_line(error: Exception) -> str:
    """Return what an error says, without line breaks and not too long."""
    return " ".join(str(error).split())[:500]


def _failure(db: DuckDBPyConnection, registry: Registry, index: str, part: Rows) -> str | None:
    """Try to insert without keeping it."""
    db.execute("BEGIN")
    try:
        tables.prepare(db, registry, index)
        insert(db, registry, index, part)
    except DocumentError as error:
        return str(error)
    finally:
        db.execute("ROLLBACK")
    return None


def letters(sink: str, folder: str, items: list[Item], refused: dict[tuple[int, int], str]) -> list[Letter]:
    """Return the dead letters of refused documents; ``items`` are what the groups came from."""
    found = []
    number = 0
    for item in items:
        header = item.record.header
        position = 0
        for group in item.record.documents():
            for place, (identity, document) in enumerate(zip(*rows(group), strict=True)):
                if (number, place) in refused:
                    letter = DeadLetter(
                        header.written_us / 1e6, sink, "", _tenant(document), "mapping", "$", "embedded_store",
                        refused[number, place], document, len(document),
                    )  # fmt: skip
                    origin = f"{sink}/{folder}/{header.sequence}/{position + place}"
                    found.append(Letter(origin, letter, group.index, identity.decode()))
            position += group.count
            number += 1
    return found


def trial_groups(documents: Sequence[tuple[str, bytes]], max_bytes: int) -> Iterator[tuple[list[int], Documents]]:
    """Yield index names and documents as `refused` takes them, each group with the places of its documents.

    Their ids are new: a document whose id is there already would not be tried.
    """
    by_index = defaultdict(list)
    for at, (index, _) in enumerate(documents):
        by_index[index].append(at)
    for index, places in by_index.items():
        start = size = 0
        for end, at in enumerate(places, 1):
            size += len(documents[at][1])
            if size >= max_bytes or end == len(places):
                part = places[start:end]
                ids = (secrets.token_hex(16).encode() for _ in part)
                lines = (
                    b'{"create":{"_id":"%s"}}\n%s\n' % (new, documents[each][1])
                    for new, each in zip(ids, part, strict=True)
                )
                yield part, Documents(index, len(part), b"".join(lines))
                start, size = end, 0


def _tenant(document: bytes) -> str | None:
    try:
        tenant = orjson.loads(document).get("tenant")
    except orjson.JSONDecodeError:
        return None
    return tenant if isinstance(tenant, str) else None
