"""A damaged state.sqlite3 is set aside, and what can still be read of it taken over. Keeps promises 2 and 9.

A sink whose place is lost, or has figures that do not add up, begins with the oldest record of the spool: what it had
taken is sent again, under the same identity; what was parked for it, and may not be in the spool any more, becomes
dead letters. A parked document that is lost counts as damaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_TABLES = ("cursors", "sinks", "letters", "parked")
_FILES = ("", "-wal", "-shm")
_PLACE = "reader || iif(folder = '0', '', '/' || folder)"  # as `gateway.spool.state.parked_under` has it
_ORPHANS = f"FROM parked WHERE sink NOT IN (SELECT {_PLACE} FROM cursors)"  # noqa: S608


class Damaged(sqlite3.DatabaseError):
    """The file can be opened, but not all of it can be read."""


def opened(path: Path, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """Open a file, made when missing, and ``prepare`` it; one that is damaged is replaced. Raises what they raise."""
    fresh = path.with_name(f"{path.name}.rescued")
    if fresh.exists() and not path.exists():  # a crash kept it from taking its place
        _replace(path, fresh)
    try:
        return _open(path, prepare)
    except sqlite3.DatabaseError as error:
        # Without a code it is a value that Python cannot read, or `Damaged`.
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _DAMAGE:
            raise
        for end in _FILES:  # of a rescue that a crash cut off
            fresh.with_name(fresh.name + end).unlink(missing_ok=True)
        with closing(_open(fresh, prepare)) as db:
            taken = _take_over(path, db)
        aside = _replace(path, fresh)
        text = f"{path} is damaged ({error}): it is set aside, what can be read of it is taken over."
        log.error(text, aside=str(aside), **taken)
        return _open(path, prepare)


def _open(path: Path, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise Damaged(" ".join(found.split()))
        prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _replace(path: Path, fresh: Path) -> Path:
    """Put a file in the place of the damaged one; return where that is now."""
    aside = f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    for end in _FILES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(path.with_name(aside + end))
    fresh.rename(path)
    return path.with_name(aside)


def _take_over(path: Path, db: sqlite3.Connection) -> dict[str, int]:
    """Copy the rows that can be read into a new file; return how many of each table."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        db.execute("BEGIN IMMEDIATE")
        for table in _TABLES:
            types = _columns(db, table)
            names = [name for name in _columns(old, table) if name in types]
            row = f"INSERT OR IGNORE INTO {table} ({','.join(names)}) VALUES ({','.join('?' * len(names))})"  # noqa: S608
            for order in ("", "DESC"):  # up to the damage, and from behind down to it
                for values in _rows(old, f"SELECT {','.join(names)} FROM {table} ORDER BY rowid {order}"):  # noqa: S608
                    db.execute(row, values)
            wrong = " OR ".join(f"typeof({name}) NOT IN ('{each.lower()}', 'null')" for name, each in types.items())
            db.execute(f"DELETE FROM {table} WHERE {wrong}")  # noqa: S608
        db.execute(
            f"DELETE FROM cursors WHERE parked < (SELECT count(*) FROM parked WHERE sink = {_PLACE})"  # noqa: S608
            # The dead letters' own place has other figures.
            " OR reader <> 'dead_letters' AND accepted - coalesce(base, accepted)"
            " <> indexed + duplicates + dead_letters + skipped + damaged + parked"
        )
        db.execute(
            "INSERT OR IGNORE INTO letters"
            " (origin, at, source, peer, reason, path, rule, message, data, data_bytes, index_name, document_id)"
            " SELECT origin, since, substr(sink, 1, instr(sink || '/', '/') - 1), '', 'sink', '$', 'sink', reason,"
            " document, length(document), index_name,"
            " CASE WHEN json_valid(CAST(action AS TEXT)) THEN json_extract(CAST(action AS TEXT), '$.create._id') END "
            + _ORPHANS
        )
        db.execute(f"DELETE {_ORPHANS}")
        db.execute(
            "WITH held(sink, documents) AS (SELECT sink, count(*) FROM parked GROUP BY sink)"  # noqa: S608
            " UPDATE cursors SET (damaged, parked) = (SELECT damaged + cursors.parked - n, n FROM"
            f" (SELECT coalesce((SELECT documents FROM held WHERE sink = {_PLACE}), 0) AS n))"
        )
        copied = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _TABLES}  # noqa: S608
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # to be moved as one file
    return copied


def _columns(db: sqlite3.Connection, table: str) -> dict[str, str]:
    """Return the columns of a table and their types."""
    return {str(row[1]): str(row[2]) for row in _rows(db, f"PRAGMA table_info({table})")}


def _rows(db: sqlite3.Connection, query: str) -> Iterator[tuple[object, ...]]:
    """Yield rows until the damage."""
    try:
        yield from db.execute(query)
    except sqlite3.DatabaseError:
        return
