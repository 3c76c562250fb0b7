"""Promise 1: what is acknowledged was synced before; and what a killed gateway had acknowledged is there."""

import asyncio
import errno
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SpoolUnavailable
from gateway.spool import spool as spool_module
from gateway.spool.record import Counts
from gateway.spool.segment import segments_in
from gateway.spool.spool import Spool
from tests.spool.building import (
    appender,
    draft,
    everything,
    names,
    settings,
    spool_in,
    unobserved,
)


class Disk:
    """The system's calls, which fail when told to, and remember what was synced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.syncs = 0
        self.synced: set[str] = set()
        self.failing_files: set[int] = set()
        self.touched_after_failure = 0
        self._failures: dict[str, list[int]] = {}
        for name in ("fdatasync", "pwritev", "ftruncate", "open", "fsync", "unlink"):
            monkeypatch.setattr(os, name, self._call(name, getattr(os, name)))

    def fail(self, name: str, number: int, times: int = 1) -> None:
        """Let the next calls of a name fail."""
        self._failures[name] = [number] * times

    def _call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            file = args[0]
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **options)
            if name in ("pwritev", "fdatasync") and os.fstat(file).st_ino in self.failing_files:
                self.touched_after_failure += 1
            content = Path(f"/proc/self/fd/{file}").read_bytes() if name == "fdatasync" else b""
            if self._failures.get(name):
                number = self._failures[name].pop()
                if name in ("pwritev", "fdatasync"):
                    self.failing_files.add(os.fstat(file).st_ino)
                raise OSError(number, os.strerror(number))
            if name == "unlink" and Path(file).exists():
                self.failing_files.discard(Path(file).stat().st_ino)  # the next file may get this number
            result = real(*args, **options)
            if name == "fdatasync":
                self.syncs += 1
                self.synced.update(re.findall(r'"_id":"([^"]*)"', content.decode(errors="replace")))
            return result

        return call


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """The system's calls, which fail when told to."""
    with monkeypatch.context() as patch:
        patch.setattr(spool_module, "RETRY_SECS", 0.05)
        yield Disk(patch)


async def over(spool: Spool) -> None:
    """Wait until the spool has found out that it can write again."""
    async with asyncio.timeout(5):
        while spool.failure:
            await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_each_append_returns_behind_its_own_sync(tmp_path: Path, disk: Disk) -> None:
    """When an append returns its bytes were in the file before a sync began that has succeeded."""
    seen = []
    async with spool_in(tmp_path / "0") as spool:

        async def sender(number: int) -> None:
            for at in range(20):
                name = f"{number}-{at}"
                await spool.append(draft(name))
                seen.append(name in disk.synced)

        await asyncio.gather(*map(sender, range(20)))

    assert seen == [True] * 400


@pytest.mark.anyio
async def test_many_senders_share_a_sync(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a sync runs all that comes waits for the next one, together."""
    slow = os.fdatasync

    def slowly(file: int) -> None:
        time.sleep(0.01)
        slow(file)

    monkeypatch.setattr(os, "fdatasync", slowly)
    async with spool_in(tmp_path / "0") as spool:
        await asyncio.gather(*(spool.append(draft(str(number))) for number in range(300)))
        shared = disk.syncs
        items = everything(spool.folder, spool.end)

    assert len(names(items)) == 300
    assert shared <= 3


@pytest.mark.anyio
async def test_the_loop_goes_on_while_the_disk_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is acknowledged while a sync hangs, and everything else goes on."""
    hanging = threading.Event()
    real = os.fdatasync

    def hang(file: int) -> None:
        hanging.wait(10)
        real(file)

    async with spool_in(tmp_path / "0") as spool:
        monkeypatch.setattr(os, "fdatasync", hang)
        append = asyncio.create_task(spool.append(draft("a")))
        done, _ = await asyncio.wait([append], timeout=0.2)
        assert not done
        assert names(everything(spool.folder, spool.end)) == []
        hanging.set()
        await append
        assert names(everything(spool.folder, spool.end)) == ["a"]


def test_a_new_segment_has_its_folder_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that a power cut could make vanish whole is not written to: its folder is synced with it."""
    writer = appender(tmp_path / "0", segment_bytes=300)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))

    for name in "abcdef":
        writer.write([draft(name)])
        segments = len(segments_in(tmp_path / "0"))
        assert [(tmp_path / "0").stat().st_ino] * segments == synced
    assert segments > 2


FAILURES = [("pwritev", errno.ENOSPC), ("fdatasync", errno.EIO), ("fdatasync", errno.ENOSPC)]


@pytest.mark.anyio
@pytest.mark.parametrize("truncates", [True, False])
@pytest.mark.parametrize(("call", "number"), FAILURES)
async def test_a_failure_leads_into_a_new_segment(
    tmp_path: Path, disk: Disk, call: str, number: int, truncates: bool
) -> None:
    """A write or sync that fails once is not repeated on its file; each record is there once, also for readers."""
    async with spool_in(tmp_path / "0") as spool:
        await spool.append(draft("a"))
        first = spool.end
        disk.fail(call, number)
        if not truncates:
            disk.fail("ftruncate", errno.EIO)
        await asyncio.gather(spool.append(draft("b")), spool.append(draft("c", "c2")))
        await spool.append(draft("d"))

        assert spool.end.segment > first.segment
        assert {"b", "c", "c2", "d"} <= disk.synced
        items = everything(spool.folder, spool.end)
        assert names(items) == ["a", "b", "c", "c2", "d"]
        assert sum(item.damaged for item in items) == 0
        assert {"tcp": Counts(5, 5)} == spool.counts
        assert None is spool.failure
    assert disk.touched_after_failure == 0
    again = appender(tmp_path / "0")
    assert (["a", "b", "c", "c2", "d"], {"tcp": Counts(5, 5)}) == (
        names(everything(tmp_path / "0", again.end)),
        again.counts,
    )


@pytest.mark.anyio
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("unlinks", [True, False])
@pytest.mark.parametrize(
    ("call", "number"), [*FAILURES, ("open", errno.EMFILE), ("fsync", errno.EIO), ("open", errno.EROFS)]
)
async def test_failing_twice_refuses_that_group_alone(
    tmp_path: Path, disk: Disk, call: str, number: int, unlinks: bool, fresh: bool
) -> None:
    """When the new segment fails, too, the group is told so, nothing is counted, and later appends work."""
    async with spool_in(tmp_path / "0") as spool:
        before: list[str] = []
        if not fresh:
            await spool.append(draft("a"))
            before = ["a"]
        counts, end = spool.counts, spool.end
        if call in ("open", "fsync") and not fresh:
            disk.fail("pwritev", errno.EIO)  # leads to the new segment
            disk.fail(call, number)
        else:
            disk.fail(call, number, times=2)
        if not unlinks:
            disk.fail("unlink", errno.EIO)
        results = await asyncio.gather(spool.append(draft("b")), spool.append(draft("c")), return_exceptions=True)

        assert [SpoolUnavailable] * 2 == [type(result) for result in results]
        assert (counts, end) == (spool.counts, spool.end)
        assert spool.failure is not None
        assert str(tmp_path / "0") in spool.failure

        await over(spool)
        await spool.append(draft("d"))
        assert None is spool.failure
        assert [*before, "d"] == names(everything(spool.folder, spool.end))
        assert {"d"} <= disk.synced
    assert disk.touched_after_failure == 0
    again = appender(tmp_path / "0")
    assert [*before, "d"] == names(everything(tmp_path / "0", again.end))


@pytest.mark.anyio
async def test_a_failure_ends_without_a_sender(tmp_path: Path, disk: Disk) -> None:
    """Who waits for `/ready` before sending sees it again: the spool tries by itself whether it can write."""
    async with spool_in(tmp_path / "0") as spool:
        disk.fail("pwritev", errno.ENOSPC, times=4)
        with pytest.raises(SpoolUnavailable, match="No space left"):
            await spool.append(draft("a"))
        assert spool.failure

        await over(spool)
        assert names(everything(spool.folder, spool.end)) == []


@pytest.mark.anyio
async def test_stopping_while_the_disk_fails(tmp_path: Path, disk: Disk) -> None:
    """A disk that never works again does not keep the gateway from stopping."""
    spool = Spool(tmp_path / "0", settings(), unobserved)
    disk.fail("pwritev", errno.EIO, times=1000)
    with pytest.raises(SpoolUnavailable):
        await spool.append(draft("a"))

    async with asyncio.timeout(5):
        await spool.stop()


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.spool.building import draft, settings, unobserved
from gateway.spool.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), settings(), unobserved)
    async def sender(number):
        for at in range(1_000_000):
            name = f"{sys.argv[2]}-{number}-{at}"
            await spool.append(draft(name, pad=number * 300))
            print(name, flush=True)
    await asyncio.gather(*map(sender, range(8)))

asyncio.run(main())
"""


@pytest.mark.process
def test_kill_at_any_moment(tmp_path: Path) -> None:
    """Whatever a gateway that is killed with -9 had acknowledged is there after it, once; its counts fit."""
    chance = random.Random(20)
    folder = tmp_path / "0"
    acknowledged: list[str] = []
    for life in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder), str(life)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            killer = threading.Timer(chance.uniform(0, 0.25), child.kill)
            killer.start()
            lines = [first, *child.stdout]  # a last line may be cut off
            killer.join()
        acknowledged += [line.strip() for line in lines if line.endswith("\n")]

        opened = appender(folder)
        items = everything(folder, opened.end)
        found = names(items)
        assert set(acknowledged) <= set(found)
        assert len(set(found)) == len(found)
        assert sum(item.damaged for item in items) == 0
        assert {"tcp": Counts(len(found), len(found))} == opened.counts
        assert len({item.record.header.sequence for item in items}) == len(items)
    assert len(acknowledged) > 100
