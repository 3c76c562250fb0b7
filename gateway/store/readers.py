"""Threads that ask DuckDB. A question that nobody waits for any more is broken off."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.store import refusals
from gateway.store.query import StoreUnavailable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

AT_ONCE = 2
_NICE = 10
_INTERRUPT_SECS = 0.02
T = TypeVar("T")


class Readers:
    """Each question has a thread and a connection of its own."""

    def __init__(self, path: Path, begin: Callable[[], DuckDBPyConnection]) -> None:
        """``begin`` gives a connection within a transaction; ``path`` is what errors name."""
        self._path = path
        self._begin = begin
        self._pool = ThreadPoolExecutor(AT_ONCE, "store-read", _step_back)
        self._asking: set[DuckDBPyConnection] = set()

    async def ask(self, call: Callable[[DuckDBPyConnection], T]) -> T:
        """Return what ``call`` does; when cancelled return once the engine has let go."""
        own: set[DuckDBPyConnection] = set()

        def run() -> T:
            with self._begin() as db:
                own.add(db)
                self._asking.add(db)
                try:
                    return call(db)
                finally:
                    self._asking.discard(db)
                    own.discard(db)

        done = submit(self._pool, self._path, run)
        try:
            return await asyncio.wrap_future(done)
        finally:
            await _interrupt(own, done)

    async def close(self) -> None:
        """Break off every question and end the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        await _interrupt(self._asking, asyncio.ensure_future(asyncio.to_thread(self._pool.shutdown)))


def _step_back() -> None:
    """Leave the processors to the way of the events: beside two large questions it was twice as fast for it."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        os.nice(_NICE)  # of this thread alone


def submit(pool: ThreadPoolExecutor, path: Path, call: Callable[[], T]) -> Future[T]:
    """Call in a thread, with the engine's errors as `StoreUnavailable`."""

    def guarded() -> T:
        import duckdb

        try:
            return call()
        except duckdb.OutOfMemoryException as error:
            raise StoreUnavailable(
                f"{path} needs more memory for this than store.memory_limit, or more disk: "
                f"ask for less at once, or raise it ({refusals.one_line(error)})."
            ) from None
        except duckdb.Error as error:
            raise StoreUnavailable(f"{path} cannot be used: {refusals.one_line(error)}") from None

    try:
        return pool.submit(guarded)
    except RuntimeError:
        raise StoreUnavailable("The embedded store is closed: the gateway is stopping.") from None


async def _interrupt(running: Collection[DuckDBPyConnection], ended: Future[T] | asyncio.Future[None]) -> None:
    """Interrupt until it has ended: once is not enough, for another statement may follow."""
    import duckdb

    while not ended.done():
        for db in list(running):
            with suppress(duckdb.Error):  # it is closed by now
                db.interrupt()
        await asyncio.sleep(_INTERRUPT_SECS)
