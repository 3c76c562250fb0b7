"""Indices as Parquet files, each made for one caller in the data directory and gone afterwards."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from gateway.data_dir import lock_data_dir
from gateway.errors import GatewayError, LimitReached
from gateway.settings import Settings
from gateway.store.query import StoreUnavailable
from gateway.store.store import Store

AT_ONCE = 2


class Exports:
    """Makes them, a few at a time."""

    def __init__(self, folder: Path, store: Callable[[], Store | None]) -> None:
        """Empty ``folder`` of what a crash left; ``store`` gives None while it is being opened. Blocks."""
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._store = store
        self._under_way = 0
        self._making = asyncio.Lock()  # one at a time: two would take all of the store's readers from the searches
        self._numbers = itertools.count()

    @asynccontextmanager
    async def export(self, index: str) -> AsyncIterator[BinaryIO]:
        """Give an index as an open file; raise `UnknownIndex`, `LimitReached` or `StoreUnavailable`."""
        store = self._store()
        if store is None:
            raise StoreUnavailable("The store is being opened: ask again in a moment.")
        if self._under_way >= AT_ONCE:
            raise LimitReached(f"{AT_ONCE} exports are under way, which is the most at once: ask again after them.")
        file = self._folder / f"{next(self._numbers)}.parquet"
        self._under_way += 1
        try:
            try:
                await asyncio.to_thread(self._folder.mkdir, exist_ok=True)
                async with self._making:
                    await store.export(index, file)
                opened = await asyncio.to_thread(file.open, "rb")
            except OSError as error:
                raise StoreUnavailable(f"{file} cannot be written: {error.strerror}.") from None
            with opened:
                yield opened
        finally:
            self._under_way -= 1
            await asyncio.to_thread(file.unlink, missing_ok=True)


async def export_alone(settings: Settings, index: str, file: Path) -> None:
    """Write an index into ``file`` where no gateway runs; raise `GatewayError`."""
    from gateway.kinds import make_registry

    registry = make_registry(settings)
    if not settings.store_enabled:
        from gateway.sinks.elasticsearch.client import connect
        from gateway.store.elasticsearch import ElasticsearchStore

        client = connect(settings.elasticsearch)
        try:
            await ElasticsearchStore(client, settings.events.index_prefix, registry).export(index, file)
        finally:
            await client.close()
        return
    there = settings.data_dir / "store.duckdb"
    if not there.exists():
        raise GatewayError(f"{there} is not there: name the data directory with GATEWAY_DATA_DIR or --config.")
    lock = lock_data_dir(settings.data_dir)
    try:
        from gateway.store.embedded import EmbeddedStore

        store = EmbeddedStore(there, settings.store, registry=registry)
        try:
            await store.open()
            await store.export(index, file)
        finally:
            await store.close()
    finally:
        os.close(lock)
