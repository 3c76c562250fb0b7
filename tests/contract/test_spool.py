"""What sources and sinks rely on of a spool, whatever lies beneath."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.errors import SpoolFull, Stopping
from gateway.spool.books import Cursor
from gateway.spool.record import Counts
from gateway.spool.segment import segments_in
from gateway.spool.spool import Spool
from tests.spool.building import draft, names, rest, spool_in

pytestmark = pytest.mark.anyio
Opener = Callable[[], Awaitable[Spool]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opener]:
    """A function that opens the one spool of the test, and stops it first when it is open."""
    async with AsyncExitStack() as stack:

        async def opener() -> Spool:
            await stack.aclose()
            return await stack.enter_async_context(spool_in(tmp_path / "spool" / "0"))

        yield opener


@pytest.fixture
async def spool(opened: Opener) -> Spool:
    """An open spool."""
    return await opened()


async def test_what_was_appended_is_read_in_order(spool: Spool) -> None:
    """Each reader reads all that was acknowledged, in the order of acknowledgement."""
    for name in "abc":
        await spool.append(draft(name, f"{name}2"))

    for reader in (spool.reader("one", None), spool.reader("two", None)):
        assert names(rest(reader, spool.end)) == ["a", "a2", "b", "b2", "c", "c2"]


async def test_counts_are_kept(opened: Opener) -> None:
    """Counts of each source go on after a start."""
    spool = await opened()
    await spool.append(draft("a", refused=(b"x", b"y")))
    await spool.append(draft("b", source="http"))
    spool = await opened()
    await spool.append(draft("c"))

    assert {"tcp": Counts(4, 2, 2), "http": Counts(1, 1)} == spool.counts


async def test_a_reader_goes_on_from_its_cursor(opened: Opener) -> None:
    """After a start a reader gets what it had not taken, and nothing twice."""
    spool = await opened()
    await spool.append(draft("a"))
    reader = spool.reader("sink", None)
    (*_, last) = rest(reader, spool.end)
    header = last.record.header
    await spool.append(draft("b"))

    spool = await opened()
    await spool.append(draft("c"))
    cursor = Cursor(last.after, header.sequence, header.accepted, base=0)

    assert not spool.outlives(cursor)
    items = rest(spool.reader("sink", cursor), spool.end)
    assert (names(items), sum(item.damaged for item in items)) == (["b", "c"], 0)


async def test_waiting_for_more(spool: Spool) -> None:
    """A reader at the end is woken by the next append, and not before."""
    await spool.append(draft("a"))
    waiter = asyncio.create_task(spool.wait_beyond(spool.end))
    done, _ = await asyncio.wait([waiter], timeout=0.05)
    assert not done

    await spool.append(draft("b"))

    async with asyncio.timeout(5):
        await waiter


async def test_nothing_waits_when_there_is_something(spool: Spool) -> None:
    """A reader behind the end need not wait."""
    start = spool.end
    await spool.append(draft("a"))

    async with asyncio.timeout(5):
        await spool.wait_beyond(start)


async def test_what_every_reader_released_is_deleted(spool: Spool, tmp_path: Path) -> None:
    """Files go when the last reader has let go of them, the newest never."""
    for name in ("one", "two"):
        spool.reader(name, None)
    spool.attached()
    ends = []
    for _ in range(4):
        await spool.append(draft("a", pad=70_000))
        ends.append(spool.end)

    spool.release("one", ends[3])
    assert spool.segments == 4
    spool.release("two", ends[1])
    assert spool.segments == 2
    spool.release("two", ends[3])
    assert spool.segments == 1
    await spool.stop()
    assert [ends[3].segment] == segments_in(spool.folder)


async def test_nothing_is_deleted_before_all_readers_are_known(spool: Spool) -> None:
    """A reader that comes last finds all that it needs."""
    spool.reader("early", None)
    for name in "abc":
        await spool.append(draft(name, pad=70_000))
    spool.release("early", spool.end)
    late = spool.reader("late", None)
    spool.attached()

    assert names(rest(late, spool.end)) == ["a", "b", "c"]


async def test_full_and_room_again(spool: Spool) -> None:
    """A full spool takes nothing and says whom it waits for; when readers release there is room again."""
    reader = spool.reader("sink", None)
    spool.attached()
    taken: list[str] = []
    while not spool.full():
        taken.append(str(len(taken)))
        await spool.append(draft(taken[-1], pad=100_000))
    with pytest.raises(SpoolFull, match="sink"):
        await spool.append(draft("refused"))
    assert spool.slowest() == "sink"

    items = rest(reader, spool.end)
    spool.release("sink", reader.position)

    assert taken == names(items)
    assert None is spool.full()
    assert None is spool.slowest()
    await spool.append(draft("after"))
    assert names(rest(reader, spool.end)) == ["after"]


async def test_a_caller_that_goes_away_harms_nobody(spool: Spool) -> None:
    """A cancelled append is on disk whole or not at all, and those beside it are served."""
    tasks = [asyncio.create_task(spool.append(draft(str(number)))) for number in range(30)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await spool.append(draft("last"))

    found = names(rest(spool.reader("sink", None), spool.end))
    assert {str(number) for number, result in enumerate(results) if result is None} <= set(found)
    assert len(found) == len(set(found)) == spool.counts["tcp"].accepted
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 10


async def test_stopping_finishes_what_was_taken(opened: Opener) -> None:
    """What was taken before the stop is acknowledged and on disk; what comes afterwards is refused."""
    spool = await opened()
    tasks = [asyncio.create_task(spool.append(draft(str(number), pad=1000))) for number in range(50)]
    await asyncio.sleep(0)
    await spool.stop()
    await asyncio.gather(*tasks)
    with pytest.raises(Stopping):
        await spool.append(draft("late"))

    spool = await opened()
    assert [str(number) for number in range(50)] == names(rest(spool.reader("sink", None), spool.end))
