"""Whoever asks for much lets those who ask for little go first, and waits for nobody where there are none."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Generator

import pytest
import uvloop

from gateway.pipeline.turns import SWITCH_SECS, Turns

pytestmark = pytest.mark.anyio
STEP_SECS = 0.01


def long(steps: int) -> Generator[None, None, str]:
    for _ in range(steps):
        time.sleep(STEP_SECS)
        yield
    return "done"


def small() -> Generator[None, None, str]:
    return "small"
    yield


async def took(turns: Turns, sender: str) -> float:
    started = time.perf_counter()
    assert await turns.take(long(10), sender) == "done"
    return time.perf_counter() - started


async def test_alone() -> None:
    """Nothing waits where nobody else is, nor for what the same sender asked for itself."""
    turns = Turns()
    assert await turns.take(small(), "long") == "small"
    assert await took(turns, "long") < 20 * STEP_SECS


async def test_beside_others() -> None:
    """While somebody else asks for little, two thirds of the time are free for him."""
    turns = Turns()
    await turns.take(small(), "small")
    await turns.take(small(), "long")
    assert await took(turns, "long") > 27 * STEP_SECS


async def test_others_have_their_turn() -> None:
    """Between two steps others run."""
    turns = Turns()
    task = asyncio.create_task(turns.take(long(10), "long"))
    rounds = 0
    while not task.done():
        await asyncio.sleep(0)
        rounds += 1
    assert rounds >= 10


def busy(steps: int) -> Generator[None, None, str]:
    """Work in steps of a tenth of a millisecond."""
    for _ in range(steps):
        until = time.perf_counter() + 0.0001
        while time.perf_counter() < until:
            pass
        yield
    return "done"


def test_threads_have_their_turn() -> None:
    """However short the steps are, a thread of this process gets the interpreter's lock soon."""

    async def work() -> list[float]:
        loop = asyncio.get_running_loop()
        long_work = asyncio.create_task(Turns().take(busy(10_000), "long"))
        waited = []
        while not long_work.done():
            asked = time.perf_counter()
            begun = await loop.run_in_executor(None, time.perf_counter)
            waited.append(begun - asked)
        return waited

    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            waited = runner.run(work())
    finally:
        sys.setswitchinterval(usual)
    assert len(waited) > 150  # in a second
