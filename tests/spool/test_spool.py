"""The spool's own affairs: limits, marks, mistakes of callers. What every reader relies on is in tests/contract."""

import asyncio
import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from gateway.errors import SpoolFull, SpoolUnavailable
from gateway.spool import folder as folder_module
from gateway.spool import spool as spool_module
from gateway.spool.books import Cursor
from gateway.spool.record import Counts, Documents, Draft
from gateway.spool.segment import Position, segments_in
from tests.spool.building import MIB, draft, everything, files, names, rest, spool_in


async def fill(folder_spool: spool_module.Spool, pad: int = 200_000) -> int:
    """Append until the spool is full; return how many documents it took."""
    for count in range(1000):
        try:
            await folder_spool.append(draft(f"fill-{count}", pad=pad))
        except SpoolFull:
            return count
    raise AssertionError("The spool is never full.")


@pytest.mark.anyio
async def test_full_by_its_own_size(tmp_path: Path) -> None:
    """At `spool.max_bytes` nothing is taken, the text names limit, setting and the slowest reader."""
    async with spool_in(tmp_path / "0") as spool:
        spool.reader("fast", None)
        spool.reader("slow", None)
        spool.attached()
        await spool.append(draft("a"))
        spool.release("fast", spool.end)
        count = await fill(spool)
        end, counts = spool.end, spool.counts

        with pytest.raises(SpoolFull) as raised:
            await spool.append(draft("b"))

        assert (
            f"The spool holds {spool.bytes} bytes, its limit is {4 * MIB} (spool.max_bytes); it waits for slow. "
            "See the sink's last_error on /status, or raise spool.max_bytes." == str(raised.value)
        )
        assert (end, counts) == (spool.end, spool.counts)
        assert 4 * MIB <= spool.bytes == sum(path.stat().st_size for path in files(spool.folder)) < 4 * MIB + 250_000
        assert count == 4 * MIB // 200_000 + 1


@pytest.mark.anyio
async def test_what_is_being_written_counts(tmp_path: Path) -> None:
    """Many who come at once, before any is on disk, do not overrun the limit by more than one."""
    async with spool_in(tmp_path / "0") as spool:
        spool.reader("slow", None)
        spool.attached()
        many = (spool.append(draft(f"a-{number}", pad=200_000)) for number in range(50))
        answers = await asyncio.gather(*many, return_exceptions=True)

        assert {type(answer) for answer in answers} == {type(None), SpoolFull}
        assert 4 * MIB <= spool.bytes < 4 * MIB + 250_000


@pytest.mark.anyio
async def test_after_a_full_disk_there_has_to_be_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last free page, which the next event would not fit into, does not pass for room."""
    monkeypatch.setattr(spool_module, "RETRY_SECS", 0.01)
    async with spool_in(tmp_path / "0") as spool:
        with monkeypatch.context() as full:
            full.setattr(os, "pwritev", lambda *_: _no_space())
            with pytest.raises(SpoolUnavailable, match="No space left"):
                await spool.append(draft("a"))
        with monkeypatch.context() as nearly:
            nearly.setattr(folder_module, "free_bytes", lambda folder: 5000)
            await asyncio.sleep(0.1)
            assert spool.failure
            with pytest.raises(SpoolUnavailable):
                await spool.append(draft("a"))
        async with asyncio.timeout(5):
            while spool.failure:
                await asyncio.sleep(0.01)
        await spool.append(draft("a"))
        assert names(everything(spool.folder, spool.end)) == ["a"]


def _no_space() -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.anyio
async def test_full_by_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less than `spool.min_free_bytes` free nothing is taken, until the disk has room again."""
    monkeypatch.setattr(folder_module, "FREE_CHECK_SECS", 0.0)
    async with spool_in(tmp_path / "0", min_free_bytes=1 << 60) as spool:
        with pytest.raises(SpoolFull, match=r"fewer than 1152921504606846976 \(spool.min_free_bytes\)"):
            await spool.append(draft("a"))
        assert files(spool.folder) == []

        monkeypatch.setattr(folder_module, "free_bytes", lambda folder: 1 << 61)
        async with asyncio.timeout(5):
            while spool.full():
                await asyncio.sleep(0.01)
        await spool.append(draft("b"))
        assert names(everything(spool.folder, spool.end)) == ["b"]


@pytest.mark.anyio
async def test_one_huge_record_does_not_block_for_ever(tmp_path: Path) -> None:
    """A last segment larger than the whole limit is no hindrance once every reader has taken it."""
    async with spool_in(tmp_path / "0") as spool:
        reader = spool.reader("sink", None)
        spool.attached()
        await spool.append(draft("huge", pad=5 * MIB))
        assert spool.full()

        rest(reader, spool.end)
        spool.release("sink", reader.position)

        assert None is spool.full()
        await spool.append(draft("next"))
        spool.release("sink", spool.end)
        assert spool.bytes < MIB


@pytest.mark.anyio
async def test_a_spool_without_readers_is_bounded_too(tmp_path: Path) -> None:
    """With nobody who reads, the limit holds all the same."""
    async with spool_in(tmp_path / "0") as spool:
        spool.attached()
        assert await fill(spool) > 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    "bad",
    [
        Draft("tcp", Counts(1, 1), [Documents("\ud800", 1, b"x")]),
        Draft("tcp", Counts(1, 1), [Documents("i" * 70_000, 1, b"x")]),
        Draft("\udc00", Counts(1, 1)),
    ],
    ids=["not-unicode", "too-long-a-name", "source-not-unicode"],
)
async def test_a_draft_that_cannot_be_written_harms_nobody_else(tmp_path: Path, bad: Draft) -> None:
    """Its own sender gets an error; those who share its group, and all later ones, are served."""
    async with spool_in(tmp_path / "0") as spool:
        async with asyncio.timeout(5):
            results = await asyncio.gather(
                spool.append(draft("a")), spool.append(bad), spool.append(draft("b")), return_exceptions=True
            )
            await spool.append(draft("c"))

        assert [results[0], results[2]] == [None, None]
        assert isinstance(results[1], Exception)
        assert names(everything(spool.folder, spool.end)) == ["a", "b", "c"]
        assert {"tcp": Counts(3, 3)} == spool.counts


@pytest.mark.anyio
async def test_trouble_after_the_sync_is_not_the_senders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When only the question for free room fails, what was written stays acknowledged."""
    async with spool_in(tmp_path / "0") as spool:

        def failing(folder: Path) -> int:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(folder_module, "free_bytes", failing)
        await spool.append(draft("a"))

        assert None is spool.failure
        assert names(everything(spool.folder, spool.end)) == ["a"]


@pytest.mark.anyio
async def test_a_cursor_of_a_replaced_folder(tmp_path: Path) -> None:
    """A cursor from before the folder was deleted is recognised, also when new records came in since."""
    async with spool_in(tmp_path / "0") as spool:
        await spool.append(draft("old"))
        old = Cursor(spool.end, spool.end.segment + 1, 1)
    shutil.rmtree(tmp_path / "0")

    async with spool_in(tmp_path / "0") as spool:
        assert spool.outlives(old)
        for _ in range(10):
            await spool.append(draft("new", pad=1000))
        assert spool.outlives(old)
        assert not spool.outlives(Cursor(spool.end, spool.end.segment + 10, 10))
        assert not spool.outlives(Cursor())


@pytest.mark.anyio
async def test_a_cursor_of_this_folder_is_never_taken_for_another(tmp_path: Path) -> None:
    """Every position that was reached in a folder is good after a start, also with a torn or damaged end."""
    cursors = [Cursor()]
    async with spool_in(tmp_path / "0") as spool:
        for _ in range(5):
            await spool.append(draft("a", pad=30_000))
            cursors.append(Cursor(spool.end))
    os.truncate(files(tmp_path / "0")[-1], 100)
    with files(tmp_path / "0")[-1].open("ab") as file:
        file.write(b"\0" * 100_000)

    async with spool_in(tmp_path / "0") as spool:
        await spool.append(draft("b"))
        cursors.append(Cursor(spool.end))
        assert [cursor for cursor in cursors if spool.outlives(cursor)] == []


@pytest.mark.anyio
async def test_draining_after_the_stop_releases(tmp_path: Path) -> None:
    """Sinks that take the rest after the spool has stopped may say so; the next start deletes."""
    async with spool_in(tmp_path / "0") as spool:
        reader = spool.reader("sink", None)
        spool.attached()
        for _ in range(5):
            await spool.append(draft("a", pad=70_000))
    rest(reader, spool.end)
    spool.release("sink", reader.position)
    assert len(segments_in(tmp_path / "0")) == 5

    async with spool_in(tmp_path / "0") as spool:
        spool.reader("sink", Cursor(reader.position, reader.sequence, 5))
        spool.attached()
        await spool.append(draft("b"))
        assert spool.segments == 2
    assert len(segments_in(tmp_path / "0")) == 2


@pytest.mark.anyio
async def test_the_age_of_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest record still needed tells its age, within half a second, also when it came in a burst."""
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    async with spool_in(tmp_path / "0") as spool:
        spool.reader("sink", None)
        spool.attached()
        await spool.append(draft("a"))
        first = spool.end
        clock[0] += 0.3
        await spool.append(draft("b"))
        second = spool.end
        clock[0] += 60
        await spool.append(draft("c"))
        assert pytest.approx(spool.oldest_secs()) == 60.3
        spool.release("sink", first)
        assert 60 <= spool.oldest_secs() < 60.5
        spool.release("sink", second)
        assert spool.oldest_secs() == 0
        clock[0] += 7
        assert pytest.approx(spool.oldest_secs()) == 7
        spool.release("sink", spool.end)
        assert spool.oldest_secs() == 0


@pytest.mark.anyio
async def test_the_age_of_what_was_there_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a start the age of what waits is read from the record itself."""
    async with spool_in(tmp_path / "0") as spool:
        await spool.append(draft("a"))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100)

    async with spool_in(tmp_path / "0") as spool:
        spool.reader("sink", None)
        spool.attached()
        assert 95 < spool.oldest_secs() < 105


@pytest.mark.anyio
async def test_a_sink_that_is_behind_for_days_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The marks of when things were written stay few, and the oldest stays the oldest."""
    monkeypatch.setattr("gateway.spool.ages.MAX_MARKS", 8)
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    async with spool_in(tmp_path / "0") as spool:
        spool.reader("sink", None)
        spool.attached()
        ends: list[Position] = []
        for _ in range(60):
            await spool.append(draft("a"))
            ends.append(spool.end)
            clock[0] += 10
        assert pytest.approx(spool.oldest_secs()) == 600
        ages = []
        for end in ends:
            spool.release("sink", end)
            ages.append(spool.oldest_secs())
        assert ages == sorted(ages, reverse=True)
        assert len(set(ages)) <= 10
        assert all(age >= 600 - 10 * (at + 1) - 1e-6 for at, age in enumerate(ages[:-1]))
