"""The small facts beside the records, in SQLite: cursors, dead letters, parked documents.

Written by the owner alone, in one thread, each change in one transaction with the cursor
that it belongs to, so that a crash repeats it or not at all. Keeps promises 2 and 4.

Table ``letters`` holds refused events, with their bytes as far as `dead_letters.max_bytes`
allows; ``parked`` holds documents of an index that alone is in trouble, to be tried again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gateway.errors import FormatVersionError, GatewayError
from gateway.spool.books import Cursor
from gateway.spool.record import DeadLetter
from gateway.spool.segment import Position
from gateway.versions import migrate, refuse_newer

T = TypeVar("T")
_SQLITE, _USER_VERSION = b"SQLite format 3\0", slice(60, 64)  # where SQLite's file format has them

# The script at place n makes version n + 1, see `gateway.versions`: add one, never change one.
_MIGRATIONS = (
    # Some of it may be there: the first release did not make it in one transaction.
    """
CREATE TABLE IF NOT EXISTS cursors (
    reader TEXT NOT NULL, folder TEXT NOT NULL, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
    sequence INTEGER NOT NULL, accepted INTEGER NOT NULL, base INTEGER, indexed INTEGER NOT NULL,
    duplicates INTEGER NOT NULL, dead_letters INTEGER NOT NULL, skipped INTEGER NOT NULL,
    damaged INTEGER NOT NULL, parked INTEGER NOT NULL, PRIMARY KEY (reader, folder));
CREATE TABLE IF NOT EXISTS sinks (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL UNIQUE, at REAL NOT NULL, source TEXT NOT NULL,
    peer TEXT NOT NULL, tenant TEXT, reason TEXT NOT NULL, path TEXT NOT NULL, rule TEXT NOT NULL,
    message TEXT NOT NULL, data BLOB, data_bytes INTEGER NOT NULL, index_name TEXT);
CREATE INDEX IF NOT EXISTS letters_by_reason ON letters (reason, path);
CREATE TABLE IF NOT EXISTS parked (
    sink TEXT NOT NULL, origin TEXT NOT NULL, index_name TEXT NOT NULL, since REAL NOT NULL,
    action BLOB NOT NULL, document BLOB NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (sink, origin));
CREATE INDEX IF NOT EXISTS parked_by_index ON parked (sink, index_name, since)
""",
    # Refusals are told by what was wrong with them: how many, since when, until when.
    """
DROP INDEX letters_by_reason;
CREATE INDEX letters_by_rule ON letters (reason, path, rule, at)
""",
)
VERSION = len(_MIGRATIONS)


class Letter(NamedTuple):
    """A dead letter to keep. ``origin`` says where it came from, so that it is kept once."""

    origin: str
    letter: DeadLetter
    index: str | None = None  # type: ignore[assignment]  # hides a tuple's method


class Parked(NamedTuple):
    """A document that waits for its index."""

    origin: str
    index: str  # type: ignore[assignment]  # hides a tuple's method
    since: float
    action: bytes
    document: bytes
    reason: str


def version_of(path: Path) -> int:
    """Return the format version of a file without touching it or anything beside it; 0 when there is none.

    Raises OSError.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_USER_VERSION.stop)
    except FileNotFoundError:
        return 0
    return int.from_bytes(head[_USER_VERSION], "big") if head.startswith(_SQLITE) else 0


class State:
    """The SQLite file of a data directory."""

    def __init__(self, path: Path, max_letter_bytes: int) -> None:
        """Open the file, made when missing; raise `GatewayError` when it cannot be used."""
        self._max_letter_bytes = max_letter_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        try:
            self._db = self._thread.submit(self._open, path).result()
        except FormatVersionError:
            self._thread.shutdown()
            raise
        except sqlite3.Error as error:
            self._thread.shutdown()
            raise GatewayError(f"{path} cannot be used ({error}): is the disk full or read-only?") from None

    def _open(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        try:
            refuse_newer(path, version, VERSION)
            migrate(version, _MIGRATIONS, "PRAGMA user_version={}", db.executescript)
        except BaseException:
            db.close()
            raise
        if version < VERSION:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that `version_of` sees it
        self._letter_bytes: int = db.execute("SELECT coalesce(sum(length(data)), 0) FROM letters").fetchone()[0]
        self._letter_count: int = db.execute("SELECT count(*) FROM letters").fetchone()[0]
        self._parked: dict[str, int] = dict(db.execute("SELECT sink, count(*) FROM parked GROUP BY sink").fetchall())
        self._parked_bytes: int = db.execute("SELECT coalesce(sum(length(document)), 0) FROM parked").fetchone()[0]
        self._cursors = {(row[0], row[1]): _cursor(row[2:]) for row in db.execute("SELECT * FROM cursors")}
        return db

    async def run(self, call: Callable[[], T]) -> T:
        """Run a blocking call of this object in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def close(self) -> None:
        """Close the file."""
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    # What follows from memory: cheap, and of one moment after the last transaction.

    def cursor(self, reader: str, folder: str) -> Cursor | None:
        """Return a reader's cursor, None when it is new."""
        return self._cursors.get((reader, folder))

    def readers(self) -> dict[str, Cursor]:
        """Return all cursors by reader."""
        return {reader: cursor for (reader, _), cursor in self._cursors.items()}

    @property
    def letters(self) -> int:
        """Dead letters held."""
        return self._letter_count

    @property
    def letter_bytes(self) -> int:
        """Bytes of the events held as dead letters."""
        return self._letter_bytes

    @property
    def room(self) -> int:
        """Bytes that dead letters and parked documents may still take."""
        return self._max_letter_bytes - self._letter_bytes - self._parked_bytes

    def parked_count(self, sink: str) -> int:
        """Return how many documents of a sink are parked."""
        return self._parked.get(sink, 0)

    # What blocks: called through `run`.

    def commit(
        self,
        reader: str,
        folder: str,
        cursor: Cursor,
        letters: Iterable[Letter] = (),
        park: Iterable[Parked] = (),
    ) -> int:
        """Move a cursor, keep its dead letters and park documents, all or nothing.

        Return how many letters were kept without their bytes for want of room.
        """
        with self._transaction() as db:
            without = sum(self._keep(db, letter) for letter in letters)
            for each in park:
                row = (reader, *each)
                if db.execute("INSERT INTO parked VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING", row).rowcount:
                    self._parked[reader] = self._parked.get(reader, 0) + 1
                    self._parked_bytes += len(each.document)
            self._move(db, reader, folder, cursor)
        self._cursors[reader, folder] = cursor
        return without

    def keep(self, letters: Iterable[Letter]) -> int:
        """Keep dead letters that come with no cursor of this file; return how many without their bytes."""
        with self._transaction() as db:
            return sum(self._keep(db, letter) for letter in letters)

    def sinks(self) -> set[str]:
        """Return the sinks of the last start."""
        return {name for (name,) in self._db.execute("SELECT name FROM sinks")}

    def remember(self, sinks: set[str]) -> None:
        """Note the sinks of this start."""
        with self._transaction() as db:
            db.execute("DELETE FROM sinks")
            db.executemany("INSERT INTO sinks VALUES (?)", [(name,) for name in sinks])

    def parked(self, sink: str, index: str, limit: int) -> list[Parked]:
        """Return the oldest parked documents of an index."""
        rows = self._db.execute(
            "SELECT origin, index_name, since, action, document, reason FROM parked"
            " WHERE sink = ? AND index_name = ? ORDER BY since, rowid LIMIT ?",
            (sink, index, limit),
        )
        return [Parked(*row) for row in rows]

    def parked_indices(self, sink: str) -> dict[str, float]:
        """Return the indices that documents are parked for, and since when."""
        rows = self._db.execute("SELECT index_name, min(since) FROM parked WHERE sink = ? GROUP BY index_name", (sink,))
        return dict(rows.fetchall())

    def unpark(
        self,
        sink: str,
        folder: str,
        settled: Iterable[Parked],
        cursor: Cursor,
        letters: Iterable[Letter] = (),
    ) -> None:
        """Remove parked documents that got their verdict, with the cursor that counts them."""
        with self._transaction() as db:
            for each in settled:
                if db.execute("DELETE FROM parked WHERE sink = ? AND origin = ?", (sink, each.origin)).rowcount:
                    self._parked[sink] -= 1
                    self._parked_bytes -= len(each.document)
            for letter in letters:  # into the room that became free
                self._keep(db, letter)
            self._move(db, sink, folder, cursor)
        self._cursors[sink, folder] = cursor

    def forget(self, reader: str) -> None:
        """Drop a reader that is no longer there, and what is parked for it."""
        with self._transaction() as db:
            db.execute("DELETE FROM cursors WHERE reader = ?", (reader,))
            db.execute("DELETE FROM parked WHERE sink = ?", (reader,))
        self._cursors = {key: cursor for key, cursor in self._cursors.items() if key[0] != reader}
        self._parked.pop(reader, None)
        self._parked_bytes = self._db.execute("SELECT coalesce(sum(length(document)), 0) FROM parked").fetchone()[0]

    def list_letters(self, limit: int, before: int | None = None) -> list[dict[str, Any]]:
        """Return dead letters, newest first."""
        cursor = self._db.execute(
            "SELECT * FROM letters WHERE id < ? ORDER BY id DESC LIMIT ?", (before or 1 << 62, limit)
        )
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def _keep(self, db: sqlite3.Connection, item: Letter) -> int:
        letter = item.letter
        data: bytes | None = letter.data
        if data and len(data) > self.room and item.index is None:
            data = None  # a sink's letters are acknowledged events: it makes sure of room beforehand
        row = (
            None, item.origin, letter.at, letter.source, letter.peer, letter.tenant, letter.reason, letter.path,
            letter.rule, letter.message, data, letter.data_bytes, item.index,
        )  # fmt: skip
        values = ",".join("?" * len(row))
        # Not OR IGNORE, which would also drop a row for a value that is missing.
        if not db.execute(f"INSERT INTO letters VALUES ({values}) ON CONFLICT DO NOTHING", row).rowcount:  # noqa: S608
            return 0
        self._letter_count += 1
        self._letter_bytes += len(data or b"")
        return int(data is None and letter.data_bytes > 0)

    @staticmethod
    def _move(db: sqlite3.Connection, reader: str, folder: str, cursor: Cursor) -> None:
        position, *rest = (getattr(cursor, each.name) for each in fields(cursor))
        row = (reader, folder, *position, *rest)
        db.execute("INSERT OR REPLACE INTO cursors VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", row)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        sums = self._letter_count, self._letter_bytes, dict(self._parked), self._parked_bytes
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._letter_count, self._letter_bytes, self._parked, self._parked_bytes = sums
            raise


def _cursor(row: tuple[Any, ...]) -> Cursor:
    segment, offset, *rest = row
    return Cursor(Position(segment, offset), *rest)
