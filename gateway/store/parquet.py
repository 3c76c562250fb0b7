"""An index as a Parquet file: `_id`, `@timestamp` (UTC), the known fields with their types, `_source` (JSON text).

The same columns from both stores, in no order of rows.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.store import refusals, tables
from gateway.store.query import StoreUnavailable, UnknownIndex
from gateway.store.rows import Rows
from schemas import Registry

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Whoever writes and whoever reads holds a group at once: bounded by bytes too, since documents may be large.
_FORMAT = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880, ROW_GROUP_SIZE_BYTES '32MB', USE_TMP_FILE false"
_MEMORY = "256MB"
_NAMES_TOLD = 3
T = TypeVar("T")


def write(db: DuckDBPyConnection, registry: Registry, index: str, file: Path) -> None:
    """Write an index of the attached database ``store``; raise `UnknownIndex` when it is not there."""
    there = tables.present(db, registry)
    if index not in there:
        raise unknown(index, there)
    rows = tables.selection(registry, index, there[index])
    db.execute(f"COPY ({rows}) TO {tables.literal(str(file))} ({_FORMAT})")


def unknown(index: str, names: Iterable[str]) -> UnknownIndex:
    """Return the error that names the indices nearest to one that is not there."""
    there = sorted(names, reverse=True)  # of one kind, the newest first
    near = get_close_matches(index, there, _NAMES_TOLD, cutoff=0.5) or there[:_NAMES_TOLD]
    told = f"the nearest are {', '.join(near)}" if near else "there is none at all yet"
    return UnknownIndex(f"There is no index {index[:200]!r}: {told}.")


async def collect(pages: AsyncGenerator[Rows, None], registry: Registry, index: str, file: Path) -> None:
    """Write documents that come page by page, through a table that gives way to the disk beside ``file``.

    Raises what ``pages`` raises, `DocumentError`, or `StoreUnavailable`.
    """
    import duckdb

    pool = ThreadPoolExecutor(1, thread_name_prefix="export")
    spill = file.with_suffix(".spill")

    async def run(call: Callable[[], T]) -> T:
        try:
            return await asyncio.wrap_future(pool.submit(call))
        except duckdb.Error as error:
            raise StoreUnavailable(f"{file} cannot be written: {refusals.one_line(error)}") from None

    db = duckdb.connect(
        config={
            "threads": 1,
            "memory_limit": _MEMORY,
            "temp_directory": str(spill),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        }
    )
    try:
        await run(lambda: db.execute("ATTACH ':memory:' AS store; USE store; SET TimeZone = 'UTC'"))
        await run(lambda: tables.prepare(db, registry, index))
        async with aclosing(pages):
            async for page in pages:
                await run(functools.partial(refusals.insert, db, registry, index, page))
        await run(lambda: write(db, registry, index, file))
    finally:
        pool.submit(db.close)  # behind what still runs in it; takes what it put on the disk along
        pool.shutdown(wait=False)
