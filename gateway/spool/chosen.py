"""Reads dead letters, those that are chosen, beside the thread that writes them.

Each call is one statement: what it sees is of one moment, and it holds up nobody who writes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
HEAD_BYTES = 256
_ROW = (
    "id, origin, at, source, peer, tenant, kind, reason, path, rule, message, index_name, document_id, events, last,"
    " bytes_kept, data_bytes, {data}"
)


class Held(NamedTuple):
    """A row of the table; times are seconds since 1970."""

    id: int
    origin: str
    at: float
    source: str
    peer: str
    tenant: str | None
    kind: str | None
    reason: str
    path: str
    rule: str
    message: str
    index: str | None  # type: ignore[assignment]  # hides a tuple's method
    document_id: str | None
    events: int
    last: float | None  # of several events
    bytes_kept: int
    data_bytes: int
    data: bytes | None


class Group(NamedTuple):
    """Letters with the same reason, path and rule."""

    reason: str
    path: str
    rule: str
    events: int
    first: float
    last: float
    without_bytes: int
    newest: int


class Groups(NamedTuple):
    """The largest groups, and how many there are in all."""

    groups: list[Group]
    all_groups: int
    events: int
    without_bytes: int


@dataclass(frozen=True)
class Choice:
    """Which letters: those that fit all that is not None; times are seconds since 1970, ``until`` is not included."""

    ids: tuple[int, ...] = ()
    reason: str | None = None
    path: str | None = None
    rule: str | None = None
    source: str | None = None
    index: str | None = None
    tenant: str | None = None
    since: float | None = None
    until: float | None = None

    def where(self) -> tuple[str, list[Any]]:
        """Return a condition of SQL and its values."""
        values = {
            "reason = ?": self.reason,
            "path = ?": self.path,
            "rule = ?": self.rule,
            "source = ?": self.source,
            "index_name = ?": self.index,
            "tenant = ?": self.tenant,
            "at >= ?": self.since,
            "at < ?": self.until,
        }
        parts = [part for part, value in values.items() if value is not None]
        if self.ids:
            parts.append(f"id IN ({','.join('?' * len(self.ids))})")
        return " AND ".join(parts) or "1", [*(each for each in values.values() if each is not None), *self.ids]


class Reading:
    """A connection to the state file that only reads, with a thread of its own."""

    def __init__(self, path: Path) -> None:
        """Name the file, which is there; it is opened when something is asked."""
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="letters")
        self._db: sqlite3.Connection | None = None

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return what a question finds; raise `sqlite3.Error`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: question(self._opened()))

    def close(self) -> None:
        """Close it when what is asked is answered. Blocks."""
        if self._db is not None:
            self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = sqlite3.connect(self._path, isolation_level=None)
            self._db.execute("PRAGMA query_only=ON")
        return self._db


def groups(db: sqlite3.Connection, choice: Choice, limit: int) -> Groups:
    """Return the largest groups of the letters chosen; without a source, index or tenant from an index alone."""
    where, values = choice.where()
    # What the index does not have is read from the rows in their own order: in that of the index it takes far longer.
    table = "letters" if choice.source is choice.index is choice.tenant is None else "letters NOT INDEXED"
    rows = db.execute(
        "SELECT reason, path, rule, sum(events) AS n, min(at), max(max(at), coalesce(max(last), 0)),"  # noqa: S608
        " sum(CASE bytes_kept WHEN 0 THEN events ELSE 0 END) AS without, max(id),"
        " count(*) OVER (), sum(sum(events)) OVER (), sum(sum(CASE bytes_kept WHEN 0 THEN events ELSE 0 END)) OVER ()"
        f" FROM {table} WHERE {where} GROUP BY reason, path, rule ORDER BY n DESC LIMIT ?",
        [*values, limit],
    ).fetchall()
    sums = rows[0][8:] if rows else (0, 0, 0)
    return Groups([Group(*row[:8]) for row in rows], *sums)


def heads(db: sqlite3.Connection, choice: Choice, limit: int, before: int | None = None) -> list[Held]:
    """Return letters, newest first, with the first `HEAD_BYTES` of their bytes."""
    where, values = choice.where()
    columns = _ROW.format(data=f"substr(data, 1, {HEAD_BYTES})")
    rows = db.execute(
        f"SELECT {columns} FROM letters NOT INDEXED WHERE id < ? AND {where} ORDER BY id DESC LIMIT ?",  # noqa: S608
        [before or 1 << 62, *values, limit],
    )
    return [Held(*row) for row in rows]


def newest(db: sqlite3.Connection) -> int:
    """Return the highest id, 0 when there is no letter."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM letters").fetchone()[0])


def batch(db: sqlite3.Connection, choice: Choice, after: int, upto: int, limit: int, max_bytes: int) -> list[Held]:
    """Return the next letters behind the id ``after``, oldest first: at most ``limit``, about ``max_bytes``."""
    where, values = choice.where()
    rows = db.execute(
        # By number: with an index on other columns each batch would sort all that is left.
        f"SELECT {_ROW.format(data='data')} FROM letters NOT INDEXED"  # noqa: S608
        f" WHERE id > ? AND id <= ? AND {where} ORDER BY id LIMIT ?",
        [after, upto, *values, limit],
    )
    found: list[Held] = []
    size = 0
    for row in rows:
        found.append(Held(*row))
        size += len(found[-1].data or b"")
        if size >= max_bytes:
            break
    rows.close()
    return found
