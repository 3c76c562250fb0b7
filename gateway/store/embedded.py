"""The embedded store: one DuckDB file, written in one thread, read in two others.

1. The sink's cursor lies in this file and moves in the transaction that adds its rows, so that a
   crash repeats a batch whole or not at all.
2. An ``_id`` is there once in a daily index.
3. What `commit` returned from is on disk.

`gateway.store.catalog` and `gateway.store.tables` say what lies in the file.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.settings import Store as StoreSettings
from gateway.spool.books import Cursor
from gateway.spool.record import Documents
from gateway.store import catalog, engine, parquet, refusals, tables
from gateway.store.aggregation import Aggregation, Question
from gateway.store.buckets import aggregate
from gateway.store.pages import page
from gateway.store.query import Hits, Query, StoreOpening, StoreUnavailable
from gateway.store.readers import Readers, submit
from gateway.store.rows import by_index
from gateway.store.store import Index
from schemas import BUILT_IN, Registry

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Matters by the day: not worth a row in every transaction.
_WRITTEN_SECS = 3600.0
_ADVICE = (
    "Make room or mend the disk; move a damaged file and its .wal away, or put a backup in its place: "
    "the gateway looks again by itself, and events wait in the spool."
)
_DAY = re.compile(r"-(\d{4})\.(\d\d)\.(\d\d)$")
T = TypeVar("T")


class EmbeddedStore:
    """Owns the file; every method that asks it may raise `StoreUnavailable`."""

    def __init__(
        self,
        path: Path,
        settings: StoreSettings,
        clock: Callable[[], float] = time.time,
        registry: Registry = BUILT_IN,
    ) -> None:
        """Name the file; `open` opens it. ``clock`` gives seconds since 1970."""
        self._path = path
        self._settings = settings
        self._clock = clock
        self._registry = registry
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._readers = Readers(path, self._begin)
        self._root: DuckDBPyConnection | None = None
        self._writer: DuckDBPyConnection | None = None
        self._written: dict[str, float] = {}
        self._prepared: set[str] = set()

    async def open(self) -> None:
        """Open the file, made when missing, or open it anew; raise `FormatVersionError` for a newer one."""
        try:
            await self._write(self._open)
        except (StoreUnavailable, OSError) as error:
            raise StoreUnavailable(f"{str(error).rstrip('.!')}. {_ADVICE}") from None

    async def close(self) -> None:
        """Close the file when what runs is done; may be called again."""
        await self._readers.close()  # a search holds up no stop
        with suppress(StoreUnavailable):
            await self._write(self._close)
        self._writing.shutdown(wait=False)

    async def cursor(self, folder: str) -> Cursor | None:
        """Return the cursor of a spool folder, None when there is none."""
        return await self._write(lambda: catalog.cursor(self._connection, folder))

    async def read_figures(self, load: Callable[[list[tuple[str, int, bytes]]], None]) -> None:
        """Have ``load`` take the figures of each folder and minute, in the thread in which they change."""
        await self._write(lambda: load(catalog.figures(self._connection)))

    async def forget(self, folder: str) -> Cursor | None:
        """Drop the cursor of a spool folder and return it: the next sink begins anew."""
        return await self._write(lambda: catalog.forget(self._connection, folder))

    async def commit(
        self,
        folder: str,
        cursor: Cursor,
        groups: Sequence[Documents],
        without: Collection[tuple[int, int]] = (),
        count: catalog.Count | None = None,
    ) -> Cursor:
        """Add documents and move the cursor, all or nothing, with the figures that ``count`` makes of what is new.

        Return the cursor as stored: with what was new added to ``indexed``, the rest to ``duplicates``.
        ``without`` leaves documents out, by number of the group and position in it. Raises
        `DocumentError` when a document cannot be stored: `refused` says which.
        """
        return await self._write(lambda: self._commit(folder, cursor, groups, without, count))

    async def refused(self, groups: Sequence[Documents]) -> dict[tuple[int, int], str]:
        """Return the documents that cannot be stored, by number of the group and position, and why."""
        return await self._write(lambda: refusals.refused(self._connection, self._registry, groups))

    async def drop_before(self, day: date) -> list[str]:
        """Delete the indices of days before ``day`` that were not written since then; return their names."""
        return await self._write(lambda: self._drop_before(day))

    async def remove(self, index: str, ids: Collection[str]) -> int:
        """Delete documents, and their index with the last one; return how many were there."""
        return await self._write(lambda: self._remove(index, ids))

    async def indices(self) -> list[Index]:
        """Return all indices by name."""
        return await self._readers.ask(catalog.indices)

    async def search(self, query: Query) -> Hits:
        """Return a page of documents."""
        return await self._readers.ask(lambda db: page(db, self._registry, query))

    async def aggregate(self, question: Question) -> Aggregation:
        """Count and measure documents; raise `QueryError` for more buckets than an answer holds."""
        return await self._readers.ask(lambda db: aggregate(db, self._registry, question))

    async def export(self, index: str, file: Path) -> None:
        """Write an index as it is at one moment into a Parquet file; raise `UnknownIndex` when it is not there."""
        await self._readers.ask(lambda db: parquet.write(db, self._registry, index, file))

    async def _write(self, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(submit(self._writing, self._path, call))

    def _begin(self) -> DuckDBPyConnection:
        """Return a connection that sees one snapshot in all its statements."""
        root = self._root
        if root is None:
            raise StoreOpening("The embedded store is not open: ask again in a moment.")
        return engine.session(root).execute("BEGIN")

    @property
    def _connection(self) -> DuckDBPyConnection:
        if self._writer is None:
            raise StoreUnavailable(f"{self._path} is not open.")
        return self._writer

    def _open(self) -> None:
        self._close()
        root = engine.attach(self._path, self._settings)
        try:
            self._writer = engine.session(root)
            catalog.prepare(self._writer, self._path)
            self._written = dict(self._writer.execute("FROM gateway.indices").fetchall())
            self._prepared = set()
        except BaseException:
            self._writer = None
            root.close()
            raise
        self._root = root

    def _close(self) -> None:
        root, writer, self._root, self._writer = self._root, self._writer, None, None
        if writer is not None:
            writer.close()
        if root is not None:
            engine.detach(root)

    def _commit(
        self,
        folder: str,
        cursor: Cursor,
        groups: Sequence[Documents],
        without: Collection[tuple[int, int]],
        count: catalog.Count | None,
    ) -> Cursor:
        found, duplicates = by_index(groups, without)
        indexed = 0
        there: dict[str, list[bytes]] = {}
        change: catalog.Change | None = None
        now = self._clock()
        stale = [name for name in found if now - self._written.get(name, 0.0) > _WRITTEN_SECS]
        with engine.transaction(self._connection) as db:
            for name, rows in found.items():
                if name not in self._prepared:
                    tables.prepare(db, self._registry, name)
                if known := refusals.insert(db, self._registry, name, rows):
                    there[name] = known
                indexed += len(rows.ids) - len(known)
                duplicates += len(known)
            for name in stale:
                db.execute("DELETE FROM gateway.indices WHERE name = $1", [name])
                db.execute("INSERT INTO gateway.indices VALUES ($1, $2)", [name, now])
            cursor = cursor.advanced(indexed=cursor.indexed + indexed, duplicates=cursor.duplicates + duplicates)
            catalog.move(db, folder, cursor)
            if count is not None:
                change = count(there, duplicates)
                catalog.write_figures(db, change.blobs)
        if change is not None:
            change.put()
        self._prepared.update(found)
        self._written.update(dict.fromkeys(stale, now))
        return cursor

    def _drop_before(self, day: date) -> list[str]:
        since = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() - _WRITTEN_SECS
        dropped = [name for name, at in self._written.items() if at < since and (_day_of(name) or day) < day]
        with engine.transaction(self._connection) as db:
            for name in dropped:
                catalog.drop(db, name)
        self._forget_indices(dropped)
        return sorted(dropped)

    def _remove(self, index: str, ids: Collection[str]) -> int:
        if index not in self._written:
            return 0
        with engine.transaction(self._connection) as db:
            removed, left = tables.delete(db, index, ids)
            if not left:
                catalog.drop(db, index)
        if not left:
            self._forget_indices([index])
        return removed

    def _forget_indices(self, names: Collection[str]) -> None:
        for name in names:
            del self._written[name]
        self._prepared.difference_update(names)


def _day_of(index: str) -> date | None:
    try:
        found = _DAY.search(index)
        return date(*map(int, found.groups())) if found else None
    except ValueError:
        return None
