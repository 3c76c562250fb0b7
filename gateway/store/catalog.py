"""What the embedded store keeps beside the documents.

Schema ``gateway`` of the file: the format version, the sink's cursor for each spool folder, the figures
of what it took, and when each index was last written. Schema ``main`` holds the indices and nothing else.
"""

# ruff: noqa: S608 - names are quoted, values are bound

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gateway.spool.books import Cursor
from gateway.spool.segment import Position
from gateway.store.store import Index
from gateway.store.tables import literal, quoted
from gateway.versions import migrate, refuse_newer

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The script at place n makes version n + 1, see `gateway.versions`: add one, never change one.
_MIGRATIONS = (
    # Some of it may be there: the first release did not make it in one transaction.
    """
CREATE SCHEMA IF NOT EXISTS gateway;
CREATE TABLE IF NOT EXISTS gateway.format (version INTEGER);
INSERT INTO gateway.format SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM gateway.format);
CREATE TABLE IF NOT EXISTS gateway.indices (name VARCHAR, written DOUBLE);
CREATE TABLE IF NOT EXISTS gateway.cursors (
    folder VARCHAR, segment BIGINT, "offset" BIGINT, sequence BIGINT, accepted BIGINT, base BIGINT,
    indexed BIGINT, duplicates BIGINT, dead_letters BIGINT, skipped BIGINT, damaged BIGINT, parked BIGINT)
""",
    # Figures of the documents, see `gateway.monitoring.figures`.
    """
CREATE TABLE gateway.figures (folder VARCHAR, minute BIGINT, data BLOB)
""",
)
VERSION = len(_MIGRATIONS)


class Change(Protocol):
    """Figures to be written, by folder and minute; `put` is called when they are on disk."""

    @property
    def blobs(self) -> Mapping[tuple[str, int], bytes | None]: ...
    @property
    def put(self) -> Callable[[], None]: ...


Count = Callable[[Mapping[str, Collection[bytes]], int], Change]
"""Given the ids that were there already, by index, and the number of all duplicates, returns what is new in figures."""


def prepare(db: DuckDBPyConnection, path: Path) -> None:
    """Make what is missing, bring an older file up to date; raise `FormatVersionError` for a newer one."""
    found = _version(db)
    refuse_newer(path, found, VERSION)
    migrate(found, _MIGRATIONS, "UPDATE gateway.format SET version = {}", db.execute)
    if found < VERSION:
        db.execute("CHECKPOINT")


def version_of(path: Path) -> int:
    """Return the format version of a file without changing it; 0 when there is none or it cannot be opened."""
    import duckdb

    if not path.exists():
        return 0
    try:
        with duckdb.connect(path, read_only=True) as db:
            return _version(db)
    except duckdb.Error:
        return 0  # what is wrong with it is told when it is opened for use


def _version(db: DuckDBPyConnection) -> int:
    known = "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'gateway' AND table_name = 'format'"
    found = db.execute("FROM gateway.format").fetchall() if db.execute(known).fetchall() else []
    return int(found[0][0]) if found else 0


def cursor(db: DuckDBPyConnection, folder: str) -> Cursor | None:
    """Return a folder's cursor, None when there is none."""
    query = "SELECT * EXCLUDE folder FROM gateway.cursors WHERE folder = $1"
    for segment, offset, *rest in db.execute(query, [folder]).fetchall():
        return Cursor(Position(segment, offset), *rest)
    return None


def move(db: DuckDBPyConnection, folder: str, cursor: Cursor) -> None:
    """Put a folder's cursor in its place."""
    position, *rest = (getattr(cursor, each.name) for each in fields(cursor))
    row = [*position, *rest, folder]
    names = ["segment", '"offset"', *(each.name for each in fields(cursor) if each.name != "position")]
    changes = ", ".join(f"{name} = ${number}" for number, name in enumerate(names, 1))
    db.execute(f"UPDATE gateway.cursors SET {changes} WHERE folder = ${len(row)}", row)
    if not db.fetchall()[0][0]:
        values = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        db.execute(f"INSERT INTO gateway.cursors ({', '.join(names)}, folder) VALUES ({values})", row)


def figures(db: DuckDBPyConnection) -> list[tuple[str, int, bytes]]:
    """Return the figures of each folder and minute."""
    return db.execute("FROM gateway.figures").fetchall()


def write_figures(db: DuckDBPyConnection, blobs: Mapping[tuple[str, int], bytes | None]) -> None:
    """Put figures in their place, by folder and minute; None deletes them."""
    for place, data in blobs.items():
        if data is None:
            db.execute("DELETE FROM gateway.figures WHERE folder = $1 AND minute = $2", place)
            continue
        db.execute("UPDATE gateway.figures SET data = $3 WHERE folder = $1 AND minute = $2", [*place, data])
        if not db.fetchall()[0][0]:
            db.execute("INSERT INTO gateway.figures VALUES ($1, $2, $3)", [*place, data])


def forget(db: DuckDBPyConnection, folder: str) -> Cursor | None:
    """Drop a folder's cursor and figures, and return the cursor."""
    found = cursor(db, folder)
    db.execute("DELETE FROM gateway.figures WHERE folder = $1", [folder])
    db.execute("DELETE FROM gateway.cursors WHERE folder = $1", [folder])
    return found


def drop(db: DuckDBPyConnection, index: str) -> None:
    """Delete an index."""
    db.execute(f"DROP TABLE IF EXISTS {quoted(index)}")
    db.execute("DELETE FROM gateway.indices WHERE name = $1", [index])


def indices(db: DuckDBPyConnection) -> list[Index]:
    """Return all indices by name."""
    found = []
    (block_bytes,) = db.execute(
        "SELECT block_size FROM pragma_database_size() WHERE database_name = 'store'"
    ).fetchall()[0]
    for (name,) in db.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'store' AND schema_name = 'main'"
        " ORDER BY table_name"
    ).fetchall():
        (documents,) = db.execute(f"SELECT count(*) FROM {quoted(name)}").fetchall()[0]
        (blocks,) = db.execute(
            f"SELECT count(DISTINCT block_id) FROM pragma_storage_info({literal(quoted(name))}) WHERE block_id >= 0"
        ).fetchall()[0]
        found.append(Index(name, documents, blocks * block_bytes))
    return found
