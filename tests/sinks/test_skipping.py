"""What an embedded store that is not required skips when the spool is full, whatever its own file is up to."""

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Spool as SpoolSettings
from gateway.settings import Store as StoreSettings
from gateway.sinks import skipping
from gateway.spool.reader import Item, Reader
from gateway.spool.segment import Position, path_of, segments_in
from gateway.store.query import StoreUnavailable
from tests.sinks.test_embedded import INDEX, TIME, Rig, draft, running, until
from tests.store.documents import group

pytestmark = [pytest.mark.anyio, pytest.mark.waits]
MIB = 1 << 20
OPTIONAL = StoreSettings(required=False)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool of 4 MiB in eight files."""
    monkeypatch.setattr(Rig, "limits", SpoolSettings(max_bytes=4 * MIB, min_free_bytes=0))


async def fill(rig: Rig, mib: float, start: int = 0) -> int:
    """Put so many MiB of documents into the spool; return how many that were."""
    count = int(mib * 1000)
    for first in range(start, start + count, 50):
        documents = ((str(n), {"@timestamp": TIME, "n": n, "pad": "x" * 950}) for n in range(first, first + 50))
        await rig.spool.append(draft(group(INDEX, *documents)))
        await asyncio.sleep(0.005)  # as other senders would
    return count


class Broken:
    """A store that commits nothing while ``shut``, or only after a while."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch, *, hangs: bool = False) -> None:
        self.opened = asyncio.Event()
        real = rig.store.commit

        async def commit(*args: Any, **kwargs: Any) -> Any:
            if hangs:
                await self.opened.wait()
            elif not self.opened.is_set():
                raise StoreUnavailable("The disk is full.")
            return await real(*args, **kwargs)

        monkeypatch.setattr(rig.store, "commit", commit)


async def test_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It skips without its own file, which cannot be written, and goes on with the rest when it can."""
    async with running(tmp_path, OPTIONAL) as rig:
        count = await fill(rig, 1)
        await until(lambda: rig.books() == {"indexed": count})
        store = Broken(rig, monkeypatch)
        count += await fill(rig, 7, start=count)
        await until(lambda: rig.spool.place_to_skip("embedded") is None)
        skipped = rig.books()["skipped"]
        assert rig.books() == {"indexed": 1000, "skipped": skipped, "waiting": count - 1000 - skipped}
        assert (rig.sink.status()["state"], rig.sink.status()["required"]) == ("retrying", False)
        store.opened.set()
        await until(lambda: "waiting" not in rig.books(), 40)
        assert rig.books() == {"indexed": count - skipped, "skipped": skipped}
        assert await rig.found() == [*range(1000), *range(1000 + skipped, count)]


async def test_restarted_with_a_file_that_knows_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was skipped stays skipped, and is not taken for damage, when the store's cursor is far behind."""
    async with running(tmp_path, OPTIONAL) as rig:
        await fill(rig, 1)
        await until(lambda: rig.books() == {"indexed": 1000})
        Broken(rig, monkeypatch)
        await fill(rig, 7, start=1000)
        await until(lambda: rig.spool.place_to_skip("embedded") is None)
        skipped = rig.books()["skipped"]
    for _ in range(2):
        async with running(tmp_path, OPTIONAL) as rig:
            await until(lambda: "waiting" not in rig.books())
            assert rig.books() == {"indexed": 8000 - skipped, "skipped": skipped}
            assert await rig.found() == [*range(1000), *range(1000 + skipped, 8000)]


async def test_a_batch_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders wait for no batch that is being written; when it is written after all it counts as that."""
    async with running(tmp_path, OPTIONAL) as rig:
        store = Broken(rig, monkeypatch, hangs=True)
        count = await fill(rig, 8)
        await until(lambda: rig.spool.place_to_skip("embedded") is None)
        assert rig.spool.full() is None
        assert rig.books() == {"waiting": count}
        store.opened.set()
        await until(lambda: "waiting" not in rig.books())
        books = rig.books()
        assert books["indexed"] + books["skipped"] == count
        found = await rig.found()
        assert len(found) == books["indexed"]
        assert found[0] == 0
        assert found[-1] == count - 1


async def test_a_skip_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is let go from the spool before it is on disk that it was skipped; then it is tried again."""
    monkeypatch.setattr(skipping, "RETRY_SECS", 0.05)
    async with running(tmp_path, OPTIONAL) as rig:
        Broken(rig, monkeypatch)
        real, tries = rig.state.commit, 0

        def commit(*args: Any) -> int:
            nonlocal tries
            tries += 1
            if tries < 4:
                raise sqlite3.OperationalError("disk I/O error")
            return real(*args)

        monkeypatch.setattr(rig.state, "commit", commit)
        count = await fill(rig, 3.8)
        await until(lambda: tries >= 3)
        await until(lambda: rig.books().get("skipped", 0) > 0)
        assert sum(rig.books().values()) == count


async def test_skipped_while_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader whose file goes away comes back with what lies behind: none of that is lost."""
    real = Reader.read
    async with running(tmp_path, OPTIONAL) as rig:
        skipped = threading.Event()

        def read(self: Reader, end: Position, max_bytes: int) -> list[Item]:
            first = min(segments_in(self.folder))
            if max_bytes > 1 and not skipped.is_set() and self.position.segment == first:  # it is the sink's
                while path_of(self.folder, first).exists():
                    time.sleep(0.01)
                skipped.set()
            return real(self, end, max_bytes)

        monkeypatch.setattr(Reader, "read", read)
        count = await fill(rig, 6)
        await until(lambda: skipped.is_set() and "waiting" not in rig.books(), 40)
        books = rig.books()
        assert books == {"indexed": count - books["skipped"], "skipped": books["skipped"]}
        assert len(await rig.found()) == books["indexed"]
