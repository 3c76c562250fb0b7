"""The embedded sink: everything in the spool reaches the store once, whatever happens in between."""

import asyncio
import random
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.settings import Spool as SpoolSettings
from gateway.settings import Store as StoreSettings
from gateway.sinks import embedded
from gateway.sinks.embedded import EmbeddedSink
from gateway.spool.books import sink_books, total
from gateway.spool.record import Counts, Documents, Draft
from gateway.spool.shelf import Letter
from gateway.spool.spool import Spool
from gateway.spool.state import State
from gateway.store.embedded import EmbeddedStore
from gateway.store.query import Query, StoreUnavailable
from gateway.telemetry import Telemetry
from tests.store.documents import SETTINGS, group

pytestmark = pytest.mark.anyio

TIME = "2026-11-20T10:00:00Z"
INDEX = "ml-metrics-2026.11.20"
TODAY = f"ml-metrics-{datetime.now(UTC):%Y.%m.%d}"


def draft(*groups: Documents) -> Draft:
    """Return a record of documents, all of them accepted."""
    count = sum(each.count for each in groups)
    return Draft("test", Counts(count, count), list(groups))


def numbered(first: int, count: int, index: str = INDEX) -> Documents:
    """Return documents with ids and a field ``n`` from ``first`` on."""
    return group(index, *((f"{n}", {"@timestamp": TIME, "n": n}) for n in range(first, first + count)))


class Remembering(State):
    """Remembers the dead letters that were kept; keeps none while ``refusing``."""

    kept: tuple[Letter, ...] = ()
    refusing = False

    def keep(self, letters: Iterable[Letter]) -> int:
        """Keep letters, each origin once."""
        if self.refusing:
            raise GatewayError("There is no room for dead letters.")
        known = {each.origin for each in self.kept}
        letters = list(letters)
        self.kept += tuple(each for each in letters if each.origin not in known)
        return super().keep(letters)


class Rig:
    """A spool with a sink that works on it."""

    limits = SpoolSettings(min_free_bytes=0, segment_bytes=64 * 1024)

    def __init__(self, folder: Path, settings: StoreSettings = SETTINGS) -> None:
        telemetry = Telemetry()
        self.spool = Spool(folder / "spool" / "0", self.limits, telemetry.group_synced)
        self.store = EmbeddedStore(folder / "store.duckdb", settings)
        self.state = Remembering(folder / "state.sqlite3", 1 << 30)
        self.sink = EmbeddedSink(self.spool, self.state, self.store, settings, telemetry)

    def books(self) -> dict[str, int]:
        """Return the sink's books; they must balance."""
        books, difference = sink_books(self.sink.cursor, total(self.spool.counts).accepted)
        assert difference == 0
        return {name: count for name, count in books.items() if count}

    async def found(self) -> list[int]:
        """Return the field ``n`` of all documents, sorted."""
        hits = await self.store.search(Query(limit=10_000))
        return sorted(hit["_source"]["n"] for hit in hits.hits)


@asynccontextmanager
async def running(folder: Path, settings: StoreSettings = SETTINGS) -> AsyncIterator[Rig]:
    """Run a sink on the spool of a folder."""
    rig = Rig(folder, settings)
    await rig.sink.start()
    rig.spool.attached()
    task = asyncio.create_task(rig.sink.run())
    try:
        yield rig
    finally:
        await rig.spool.stop()
        await rig.sink.stop()
        await task
        rig.state.close()


async def until(condition: Callable[[], Awaitable[bool] | bool], secs: float = 15) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(secs):
        while True:
            holds = condition()
            if holds is True or (not isinstance(holds, bool) and await holds):
                return
            await asyncio.sleep(0.01)


@pytest.mark.waits
async def test_soon(tmp_path: Path) -> None:
    """An event shows well within two seconds, the first and those behind it."""
    async with running(tmp_path) as rig:
        for n in range(3):
            started = time.monotonic()
            await rig.spool.append(draft(numbered(n, 1)))
            await until(lambda: rig.sink.cursor.accepted == total(rig.spool.counts).accepted)
            assert time.monotonic() - started < 1.5
            assert await rig.found() == list(range(n + 1))
        assert rig.sink.status() == {"state": "ok", "last_error": None, "required": True, "last_skip": None}


async def test_reopening(tmp_path: Path) -> None:
    """After a restart the sink goes on where it was: nothing twice, nothing left out."""
    for start in range(3):
        async with running(tmp_path) as rig:
            for n in range(4):
                await rig.spool.append(draft(numbered(start * 400 + n * 100, 100)))
                if n == 1:
                    await until(lambda: rig.sink.cursor.indexed > 0)
            if start != 1:
                await rig.sink.drain(10)
    async with running(tmp_path) as rig:
        await rig.sink.drain(10)
        assert await rig.found() == list(range(1200))
        assert rig.books() == {"indexed": 1200}


async def test_duplicates(tmp_path: Path) -> None:
    """Events with the same id in an index are one document; the books count the rest as duplicates."""
    async with running(tmp_path) as rig:
        await rig.spool.append(draft(numbered(0, 5), numbered(3, 5), numbered(0, 2, "ml-audit-2026.11.20")))
        await rig.spool.append(draft(numbered(4, 6)))
        await rig.sink.drain(10)
        assert await rig.found() == [0, 0, 1, 1, *range(2, 10)]
        assert rig.books() == {"indexed": 12, "duplicates": 6}


async def test_catches_up(tmp_path: Path) -> None:
    """What is there already is taken without a pause, also over many segments."""
    rig = Rig(tmp_path)
    filler = "x" * 1000
    for n in range(20):
        await rig.spool.append(draft(group(INDEX, *((f"{n}-{i}", {"n": i, "x": filler}) for i in range(100)))))
    assert rig.spool.segments > 10
    await rig.spool.stop()
    async with running(tmp_path) as rig:
        started = time.monotonic()
        await until(lambda: rig.sink.cursor.indexed == 2000)
        assert time.monotonic() - started < 10 * embedded.PAUSE_SECS


async def test_lets_go(tmp_path: Path) -> None:
    """Segments whose events are in the store are deleted, not before."""
    async with running(tmp_path) as rig:
        filler = "x" * 1000
        for n in range(5):
            documents = [(f"{n}-{i}", {"n": i, "x": filler}) for i in range(100)]
            await rig.spool.append(draft(group(INDEX, *documents)))
        assert rig.spool.segments > 1
        await rig.sink.drain(10)
        assert rig.spool.segments == 1
        assert len(await rig.found()) == 500


async def test_poisoned_document(tmp_path: Path) -> None:
    """A document that the store cannot read becomes one dead letter; its neighbours are kept."""
    poison = rb'{"n":2,"tenant":"\ud800"}'
    async with running(tmp_path) as rig:
        await rig.spool.append(
            draft(numbered(0, 2), group("ml-audit-2026.11.20", ("a", {"n": 2}), ("b", poison), ("c", {"n": 3})))
        )
        await rig.spool.append(draft(numbered(10, 2)))
        await rig.sink.drain(10)
        assert await rig.found() == [0, 1, 2, 3, 10, 11]
        assert rig.books() == {"indexed": 6, "dead_letters": 1}
        (letter,) = rig.state.kept
        assert re.fullmatch(r"embedded/0/\d+/3", letter.origin)
        assert letter.index == "ml-audit-2026.11.20"
        assert (letter.letter.reason, letter.letter.data) == ("mapping", poison)
        assert "surrogate" in letter.letter.message
        assert rig.sink.status()["state"] == "ok"


async def test_dead_letters_not_kept(tmp_path: Path) -> None:
    """While a dead letter cannot be kept the sink waits and says so; then it goes on."""
    async with running(tmp_path) as rig:
        rig.state.refusing = True
        await rig.spool.append(draft(numbered(0, 2), group(INDEX, ("b", b"{"))))
        await until(lambda: rig.sink.status()["state"] == "retrying")
        assert rig.sink.status()["last_error"] == "There is no room for dead letters."
        assert rig.books() == {"waiting": 3}
        rig.state.refusing = False
        await until(lambda: rig.sink.status()["state"] == "ok")
        assert rig.books() == {"indexed": 2, "dead_letters": 1}


@pytest.mark.waits
async def test_no_room_for_dead_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At dead_letters.max_bytes it stops and says so; its letters never take more, and with room it goes on."""
    async with running(tmp_path) as rig:
        monkeypatch.setattr(rig.state, "_max_letter_bytes", 1000)
        poison = [(f"{each}", b'{"tenant":"\\ud800","n":%d}' % each) for each in range(20)]
        await rig.spool.append(draft(group(INDEX, *poison), numbered(100, 2)))
        await until(lambda: rig.sink.status()["state"] == "stopped")
        assert "dead_letters.max_bytes" in rig.sink.status()["last_error"]
        assert rig.state.letter_bytes == 0
        assert rig.books() == {"waiting": 22}
        monkeypatch.setattr(rig.state, "_max_letter_bytes", 1 << 20)
        await until(lambda: rig.sink.status()["state"] == "ok")
        assert rig.books() == {"indexed": 2, "dead_letters": 20}


@pytest.mark.waits
async def test_engine_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the engine fails, before its commit or after, the sink retries; in the end all is there once."""
    failures = ["before", "after", "before", "unforeseen"]
    async with running(tmp_path) as rig:
        real = rig.store.commit

        async def commit(*args: Any, **kwargs: Any) -> Any:
            failure = failures.pop(0) if failures else None
            if failure == "before":
                raise StoreUnavailable("The disk is full.")
            if failure == "unforeseen":
                raise ValueError("nobody thought of this")
            result = await real(*args, **kwargs)
            if failure == "after":
                raise StoreUnavailable("The answer was lost.")
            return result

        monkeypatch.setattr(rig.store, "commit", commit)
        await rig.spool.append(draft(numbered(0, 10)))
        await until(lambda: rig.sink.status()["state"] == "retrying")
        assert rig.sink.status()["last_error"] == "The disk is full."
        await until(lambda: not failures or rig.sink.cursor.indexed == 10)
        await rig.spool.append(draft(numbered(10, 10)))
        await until(lambda: not failures and rig.sink.cursor.indexed == 20)
        assert await rig.found() == list(range(20))
        assert rig.books() == {"indexed": 20}
        assert rig.sink.status()["state"] == "ok"


async def test_damaged_record(tmp_path: Path) -> None:
    """Events of a record that cannot be read any more are counted as damaged."""
    rig = Rig(tmp_path)
    for n in range(3):
        await rig.spool.append(draft(numbered(n * 10, 10)))
    await rig.spool.stop()
    (path,) = rig.spool.folder.glob("*.segment")
    data = bytearray(path.read_bytes())
    data[data.index(b'"n":15')] ^= 1
    path.write_bytes(data)
    async with running(tmp_path) as rig:
        await rig.sink.drain(10)
        assert await rig.found() == [*range(10), *range(20, 30)]
        assert rig.books() == {"indexed": 20, "damaged": 10}


async def test_replaced_spool(tmp_path: Path) -> None:
    """When the spool was replaced by a younger one, it is read from its beginning."""
    async with running(tmp_path) as rig:
        await rig.spool.append(draft(numbered(0, 100)))
        await rig.sink.drain(10)
    for path in (tmp_path / "spool" / "0").iterdir():
        path.unlink()
    async with running(tmp_path) as rig:
        await rig.spool.append(draft(numbered(98, 4)))
        await rig.sink.drain(10)
        assert await rig.found() == list(range(102))
        assert rig.books() == {"indexed": 2, "duplicates": 2}


async def test_retention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At start indices that are too old and long not written are deleted."""
    async with running(tmp_path) as rig:
        await rig.spool.append(draft(numbered(0, 1), numbered(1, 1, TODAY)))
        await rig.sink.drain(10)
    store = EmbeddedStore(tmp_path / "store.duckdb", SETTINGS, lambda: 1e9)
    await store.open()
    await store.commit("else", rig.sink.cursor, [numbered(2, 1, "ml-metrics-2001.09.09")])
    await store.close()
    async with running(tmp_path) as rig:
        await until(lambda: names(rig, {INDEX, TODAY}))


async def names(rig: Rig, wanted: set[str]) -> bool:
    """Whether these are the indices there are."""
    return {index.name for index in await rig.store.indices()} == wanted


async def test_drain_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draining ends in time when the store does not answer; what was not taken stays in the spool."""
    async with running(tmp_path) as rig:
        monkeypatch.setattr(rig.store, "commit", lambda *_, **__: asyncio.sleep(60))
        await rig.spool.append(draft(numbered(0, 3)))
        started = time.monotonic()
        await rig.sink.drain(0.2)
        assert time.monotonic() - started < 2
    assert rig.sink.status()["state"] == "stopped"
    async with running(tmp_path) as rig:
        await rig.sink.drain(10)
        assert await rig.found() == [0, 1, 2]


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from gateway.sinks import embedded
from tests.sinks.test_embedded import running

embedded.PAUSE_SECS = 0.0
embedded.BATCH_BYTES = 4096

async def main():
    async with running(Path(sys.argv[1])) as rig:
        print("up", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.process
async def test_kill(tmp_path: Path) -> None:
    """Killed again and again while it commits, the sink brings every event into the store once."""
    rig = Rig(tmp_path)
    for n in range(600):
        await rig.spool.append(draft(numbered(n * 10, 10)))
    await rig.spool.stop()
    root = Path(__file__).parents[2]
    for _ in range(4):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, str(tmp_path), str(root), stdout=asyncio.subprocess.PIPE, cwd=root
        )
        assert child.stdout is not None
        assert await child.stdout.readline() == b"up\n"
        await asyncio.sleep(random.uniform(0.05, 0.5))
        child.kill()
        await child.wait()
    async with running(tmp_path) as rig:
        assert rig.sink.cursor.indexed > 0
        await rig.sink.drain(20)
        assert await rig.found() == list(range(6000))
        assert rig.books() == {"indexed": 6000}
