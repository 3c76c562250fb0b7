"""The small facts beside the records, in SQLite: cursors, dead letters, parked documents.

Written by the owner alone, in one thread, each change in one transaction with the cursor
that it belongs to, so that a crash repeats it or not at all. Keeps promises 2 and 4.

Table ``letters`` holds refused events, see `gateway.spool.shelf`; ``parked`` holds documents of an index
that alone is in trouble, to be tried again.
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
from gateway.spool import rescue
from gateway.spool.books import Cursor
from gateway.spool.segment import Position
from gateway.spool.shelf import NO_ROOM, ROW_BYTES, Letter, NoRoom, Shelf
from gateway.spool.tables import MIGRATIONS, Blobs, write_figures
from gateway.versions import migrate, refuse_newer

T = TypeVar("T")
_NONE: Blobs = {}
_SQLITE, _USER_VERSION = b"SQLite format 3\0", slice(60, 64)  # where SQLite's file format has them

VERSION = len(MIGRATIONS)
_PARKED_BYTES = f"SELECT coalesce(sum(length(document) + {ROW_BYTES}), 0) FROM parked"  # noqa: S608


def parked_under(sink: str, folder: str) -> str:
    """Return what column ``sink`` says of documents of a folder: those of the first version were all of folder 0."""
    return sink if folder == "0" else f"{sink}/{folder}"


class Parked(NamedTuple):
    """A document that waits for its index."""

    origin: str
    index: str  # type: ignore[assignment]  # hides a tuple's method
    since: float
    action: bytes
    document: bytes
    reason: str

    @property
    def cost(self) -> int:
        """Bytes that it takes of `dead_letters.max_bytes`."""
        return ROW_BYTES + len(self.document)


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
            self._db = self._thread.submit(rescue.opened, path, lambda db: self._prepare(db, path)).result()
        except FormatVersionError:
            self._thread.shutdown()
            raise
        except sqlite3.Error as error:
            self._thread.shutdown()
            raise GatewayError(f"{path} cannot be used ({error}): make room, make it readable and writable.") from None

    def _prepare(self, db: sqlite3.Connection, path: Path) -> None:
        """Bring the file up to date and read what is kept in memory."""
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        refuse_newer(path, version, VERSION)
        migrate(version, MIGRATIONS, "PRAGMA user_version={}", db.executescript)
        if version < VERSION:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that `version_of` sees it
        self._shelf = Shelf(db)
        self._parked: dict[str, int] = dict(db.execute("SELECT sink, count(*) FROM parked GROUP BY sink").fetchall())
        self._parked_bytes: int = db.execute(_PARKED_BYTES).fetchone()[0]
        self._cursors = {(row[0], row[1]): _cursor(row[2:]) for row in db.execute("SELECT * FROM cursors")}

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
        return self._shelf.events

    @property
    def letter_bytes(self) -> int:
        """Bytes that dead letters take of `dead_letters.max_bytes`."""
        return self._shelf.bytes

    @property
    def room(self) -> int:
        """Bytes that dead letters and parked documents may still take."""
        return self._max_letter_bytes - self._shelf.bytes - self._parked_bytes

    def parked_count(self, sink: str, folder: str = "0") -> int:
        """Return how many documents of a sink are parked that came from a folder."""
        return self._parked.get(parked_under(sink, folder), 0)

    # What blocks: called through `run`.

    def commit(
        self,
        reader: str,
        folder: str,
        cursor: Cursor,
        letters: Iterable[Letter] = (),
        park: Iterable[Parked] = (),
        settled: Iterable[str] = (),
        figures: Blobs = _NONE,
    ) -> int:
        """Move a cursor, keep its dead letters and park documents, all or nothing.

        ``settled``: origins of letters to remove. ``figures``: what they are now. Return how many events were kept
        without their bytes for want of room.
        """
        with self._transaction() as db:
            without = self._keep(letters)
            self._shelf.remove("origin", settled)  # behind those that are kept: they may be the same
            for each in park:
                row = (place := parked_under(reader, folder), *each)
                if db.execute("INSERT INTO parked VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING", row).rowcount:
                    self._parked[place] = self._parked.get(place, 0) + 1
                    self._parked_bytes += each.cost
            self._move(db, reader, folder, cursor)
            write_figures(db, figures)
        self._cursors[reader, folder] = cursor
        return without

    def keep(self, letters: Iterable[Letter]) -> int:
        """Keep dead letters that come with no cursor of this file; return how many without their bytes.

        Raises `NoRoom` when a sink's do not fit: then none is kept.
        """
        letters, before = list(letters), self.room
        with self._transaction():
            without = self._keep(letters)
            if self.room < min(0, before) and any(each.index is not None for each in letters):
                raise NoRoom(NO_ROOM)
        return without

    def drop(self, ids: Iterable[int]) -> int:
        """Delete dead letters; return how many events that were."""
        with self._transaction():
            return self._shelf.remove("id", ids)

    def sinks(self) -> set[str]:
        """Return the sinks of the last start."""
        return {name for (name,) in self._db.execute("SELECT name FROM sinks")}

    def remember(self, sinks: set[str]) -> None:
        """Note the sinks of this start."""
        with self._transaction() as db:
            db.execute("DELETE FROM sinks")
            db.executemany("INSERT INTO sinks VALUES (?)", [(name,) for name in sinks])

    def parked(self, sink: str, index: str, limit: int, folder: str = "0") -> list[Parked]:
        """Return the oldest parked documents of an index that came from a folder."""
        rows = self._db.execute(
            "SELECT origin, index_name, since, action, document, reason FROM parked"
            " WHERE sink = ? AND index_name = ? ORDER BY since, rowid LIMIT ?",
            (parked_under(sink, folder), index, limit),
        )
        return [Parked(*row) for row in rows]

    def parked_indices(self, sink: str, folder: str = "0") -> dict[str, float]:
        """Return the indices that documents of a folder are parked for, and since when."""
        # From name to name: grouping would go through every row, twice a second, of what may be millions.
        rows = self._db.execute(
            "WITH RECURSIVE names(name) AS (SELECT min(index_name) FROM parked WHERE sink = :sink UNION ALL"
            " SELECT (SELECT min(index_name) FROM parked WHERE sink = :sink AND index_name > name)"
            " FROM names WHERE name IS NOT NULL)"
            " SELECT name, (SELECT min(since) FROM parked WHERE sink = :sink AND index_name = name)"
            " FROM names WHERE name IS NOT NULL",
            {"sink": parked_under(sink, folder)},
        )
        return dict(rows.fetchall())

    def unpark(
        self,
        sink: str,
        folder: str,
        settled: Iterable[Parked],
        cursor: Cursor,
        letters: Iterable[Letter] = (),
        figures: Blobs = _NONE,
    ) -> None:
        """Remove parked documents that got their verdict, with the cursor and the figures that count them."""
        place = parked_under(sink, folder)
        with self._transaction() as db:
            for each in settled:
                if db.execute("DELETE FROM parked WHERE sink = ? AND origin = ?", (place, each.origin)).rowcount:
                    self._parked[place] -= 1
                    self._parked_bytes -= each.cost
            self._keep(letters)  # into the room that became free
            self._move(db, sink, folder, cursor)
            write_figures(db, figures)
        self._cursors[sink, folder] = cursor

    def forget(self, reader: str) -> None:
        """Drop a reader that is no longer there, and what is parked for it."""
        with self._transaction() as db:
            db.execute("DELETE FROM cursors WHERE reader = ?", (reader,))
            db.execute("DELETE FROM parked WHERE sink = ?1 OR sink LIKE ?1 || '/%'", (reader,))
        self._cursors = {key: cursor for key, cursor in self._cursors.items() if key[0] != reader}
        self._parked = {key: count for key, count in self._parked.items() if key.partition("/")[0] != reader}
        self._parked_bytes = self._db.execute(_PARKED_BYTES).fetchone()[0]

    def figures(self) -> list[tuple[str, int, bytes]]:
        """Return the figures of each folder and minute that are kept here."""
        return self._db.execute("SELECT folder, minute, data FROM figures").fetchall()

    def drop_figures(self) -> None:
        """Forget the figures: they are kept elsewhere from now on."""
        with self._transaction() as db:
            db.execute("DELETE FROM figures")

    def _keep(self, letters: Iterable[Letter]) -> int:
        return sum(self._shelf.keep(letter, self.room) for letter in letters)

    @staticmethod
    def _move(db: sqlite3.Connection, reader: str, folder: str, cursor: Cursor) -> None:
        position, *rest = (getattr(cursor, each.name) for each in fields(cursor))
        row = (reader, folder, *position, *rest)
        db.execute("INSERT OR REPLACE INTO cursors VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", row)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        sums = self._shelf.sums, dict(self._parked), self._parked_bytes
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._shelf.sums, self._parked, self._parked_bytes = sums
            raise


def _cursor(row: tuple[Any, ...]) -> Cursor:
    segment, offset, *rest = row
    return Cursor(Position(segment, offset), *rest)
