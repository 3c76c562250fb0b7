"""What asks the embedded store: many at once, and some that go away."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from gateway.store.query import StoreUnavailable
from gateway.store.readers import AT_ONCE, Readers

pytestmark = pytest.mark.anyio
ENDLESS = "SELECT count(*) FROM range(100000000) AS a, range(100000000) AS b"


@pytest.fixture
async def readers() -> AsyncIterator[Readers]:
    """Readers of an empty database."""
    with duckdb.connect(config={"threads": 1}) as db:
        readers = Readers(Path("store.duckdb"), db.cursor)
        yield readers
        async with asyncio.timeout(5):
            await readers.close()


def endless(db: duckdb.DuckDBPyConnection) -> None:
    """Ask, after a pause in which there is nothing to interrupt."""
    time.sleep(0.1)
    db.execute(ENDLESS)


async def test_a_question_that_nobody_waits_for(readers: Readers) -> None:
    """It ends when its task is cancelled, also between two statements, and makes room for others."""
    asked = [asyncio.create_task(readers.ask(endless)) for _ in range(AT_ONCE)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        for each in asked:
            each.cancel()
        await asyncio.wait(asked)
        assert all(each.cancelled() for each in asked)
        assert await readers.ask(lambda db: db.execute("SELECT 1").fetchall()) == [(1,)]


async def test_a_question_in_the_queue(readers: Readers) -> None:
    """One that waits for its turn and is cancelled is never asked."""
    gate = threading.Event()
    busy = [asyncio.create_task(readers.ask(lambda db: gate.wait(5))) for _ in range(AT_ONCE)]
    came: list[int] = []
    queued = asyncio.create_task(readers.ask(lambda db: came.append(1)))
    await asyncio.sleep(0.05)
    queued.cancel()
    await asyncio.wait([queued])
    gate.set()
    await asyncio.gather(*busy)
    await readers.ask(lambda db: came.append(2))
    assert came == [2]


async def test_closing_ends_what_runs(readers: Readers) -> None:
    """A question holds up no stop, not even one that is between two statements."""
    asked = asyncio.create_task(readers.ask(endless))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await readers.close()
    with pytest.raises(StoreUnavailable, match="Interrupted"):
        await asked
    with pytest.raises(StoreUnavailable, match="closed"):
        await readers.ask(lambda db: None)


async def test_want_of_memory(readers: Readers) -> None:
    """A question that needs too much says so, with the setting."""

    def ask(db: duckdb.DuckDBPyConnection) -> None:
        db.execute("SET memory_limit = '1MB'")
        db.execute("SELECT list(a) FROM range(1000000) AS t(a)")

    with pytest.raises(StoreUnavailable, match=r"^store\.duckdb needs more memory for this than store\.memory_limit"):
        await readers.ask(ask)


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own")
@pytest.mark.parametrize("before", [0, 5, 19])
def test_the_way_of_the_events_goes_first(before: int, tmp_path: Path) -> None:
    """A question leaves the processors to what takes and stores events, whatever priority the gateway has."""

    def priority(*_: object) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def ask() -> tuple[int, int]:
        readers = Readers(tmp_path / "store.duckdb", duckdb.connect)
        try:
            return priority(), await readers.ask(priority)
        finally:
            await readers.close()

    def started_with() -> tuple[int, int]:
        os.nice(before)
        return asyncio.run(ask())

    with ThreadPoolExecutor(1) as threads:
        own, asked = threads.submit(started_with).result()
    assert asked == min(own + 10, 19)
