"""Room in memory, without I/O (promise 5)."""

from __future__ import annotations

import asyncio

import pytest

from gateway.room import Room, Share


async def take(room: Room, size: int, order: list[int], hold: asyncio.Event) -> None:
    async with room.share() as share:
        await share.reach(size)
        order.append(size)
        await hold.wait()


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_first_come_first_served() -> None:
    """Who asks first is served first; nobody overtakes a larger one that waits."""
    room, order, hold = Room(100), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(take(room, size, order, hold)) for size in (60, 50, 10)]
    await turn()
    assert order == [60]
    hold.set()
    await asyncio.gather(*tasks)
    assert order == [60, 50, 10]


@pytest.mark.anyio
async def test_larger_than_the_room() -> None:
    """Who wants more than there is gets all of it, alone, and does not wait for ever."""
    room, order, hold = Room(100), list[int](), asyncio.Event()
    hold.set()
    await asyncio.wait_for(asyncio.gather(*(take(room, size, order, hold) for size in (500, 70, 900))), 5)
    assert order == [500, 70, 900]


@pytest.mark.anyio
async def test_going_away() -> None:
    """Who goes away while waiting, or just as room is given, leaves the room to the next."""
    room, order, hold = Room(100), list[int](), asyncio.Event()
    first, second, third = (asyncio.create_task(take(room, size, order, hold)) for size in (100, 90, 80))
    await turn()
    second.cancel()
    await turn()
    first.cancel()
    await turn()
    assert order == [100, 80]
    fourth = asyncio.create_task(take(room, 70, order, hold))
    await turn()
    third.cancel()  # gives room to the fourth, which is cancelled before it learns of it
    await asyncio.sleep(0)
    fourth.cancel()
    await asyncio.gather(first, second, third, fourth, return_exceptions=True)
    hold.set()
    await asyncio.wait_for(take(room, 100, order, hold), 5)


@pytest.mark.anyio
async def test_several_go_away_at_once() -> None:
    """Whoever goes away in the same moment as others, and as room is given, is passed over."""
    room, order, hold = Room(100), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(take(room, size, order, hold)) for size in (100, 90, 80, 70, 60)]
    await turn()
    for task in (tasks[1], tasks[0], tasks[2], tasks[4]):
        task.cancel()
    await turn()
    assert order == [100, 70]
    hold.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(take(room, 100, order, hold), 5)


@pytest.mark.anyio
async def test_two_that_grow() -> None:
    """Two that hold a part and want more do not wait for each other for ever."""
    room = Room(100)

    async def grow(share: Share) -> None:
        async with share:
            await share.reach(50)
            await turn()
            await share.reach(100)

    await asyncio.wait_for(asyncio.gather(grow(room.share()), grow(room.share())), 5)


@pytest.mark.anyio
async def test_shrinking_makes_room() -> None:
    """What is given back early serves the next one at once."""
    room, order, hold = Room(100), list[int](), asyncio.Event()
    async with room.share() as share:
        await share.reach(100)
        waiting = asyncio.create_task(take(room, 60, order, hold))
        await turn()
        assert order == []
        share.shrink(40)
        await turn()
        assert order == [60]
    hold.set()
    await waiting
