"""How DuckDB opens the file of the embedded store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.settings import Store as StoreSettings
from gateway.store import tables

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# A checkpoint writes a table's last group again: with DuckDB's own 122,880 rows and 16 MiB commits cost 11 CPU-s a
# million events, with these 4.
ROW_GROUP_ROWS = 61_440
CHECKPOINT_BYTES = 64 << 20
TEMP_BYTES = "1GiB"
HEADERS_BYTES = 3 * 4096  # what the engine writes first


def attach(path: Path, settings: StoreSettings) -> DuckDBPyConnection:
    """Return an engine with the file, made when missing, as the database ``store``. Raises `duckdb.Error`."""
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(path)
    root = duckdb.connect(
        ":memory:",
        config={
            "threads": settings.threads,
            "memory_limit": settings.memory_limit,
            "temp_directory": str(path.with_suffix(".tmp")),
            # By itself the engine takes nine tenths of what the disk has left, and senders get 429.
            "max_temp_directory_size": TEMP_BYTES,
            "checkpoint_threshold": f"{CHECKPOINT_BYTES}B",
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        },
    )
    try:
        root.execute(f"ATTACH {tables.literal(str(path))} AS store (ROW_GROUP_SIZE {ROW_GROUP_ROWS})")
    except BaseException:
        root.close()
        raise
    return root


def session(root: DuckDBPyConnection) -> DuckDBPyConnection:
    """Return a connection to the store's tables."""
    db = root.cursor()
    db.execute("USE store")
    db.execute("SET TimeZone = 'UTC'")
    return db


def detach(root: DuckDBPyConnection) -> None:
    """Close the engine, and the file in which something may still be read."""
    import duckdb

    with suppress(duckdb.Error):  # of a broken engine
        root.execute("DETACH store")  # what still reads would keep the file open
    root.close()


@contextmanager
def transaction(db: DuckDBPyConnection) -> Iterator[DuckDBPyConnection]:
    """Do all that is done within, or nothing of it."""
    import duckdb

    db.execute("BEGIN")
    try:
        yield db
    except BaseException:
        with suppress(duckdb.Error):  # a broken engine has nothing to take back
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _remove_unfinished(path: Path) -> None:
    """Delete a file that a full disk or a crash kept from being made: nothing was in it, and none can open it."""
    there = path.is_file() and not path.with_name(f"{path.name}.wal").exists()
    if there and path.stat().st_size < HEADERS_BYTES:
        path.unlink()
