"""The one door into the spool. Promises 1 and 7."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.errors import SpoolFull
from gateway.pipeline.intake import Door
from gateway.spool.record import Draft
from gateway.telemetry import Telemetry
from tests.pipeline.blocks import new_block, new_digest

GOOD = {"model_name": "a"}


class Disk:
    """Takes drafts when it is let."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.may_write = asyncio.Event()
        self.error: Exception | None = None

    async def append(self, draft: Draft) -> None:
        self.drafts.append(draft)
        await self.may_write.wait()
        if self.error:
            raise self.error


def new_door(disk: Disk) -> Door:
    return Door(new_digest(), disk.append, lambda: None, Telemetry())


@pytest.mark.anyio
async def test_durable_before_told() -> None:
    """A block's receipt comes after the spool has it, not before."""
    disk = Disk()
    task = asyncio.create_task(new_door(disk).accept(new_block(GOOD, b"oops")))
    while not disk.drafts:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert not task.done()
    disk.may_write.set()
    receipt = await task
    assert (receipt.accepted, [each.reason for each in receipt.refusals]) == (1, ["json"])


@pytest.mark.anyio
@pytest.mark.parametrize("lines", [[], [b"", b"\r"], [b"[]"]])
async def test_nothing_is_written_of_nothing(lines: list[bytes]) -> None:
    """A block without events writes no record."""
    disk = Disk()
    receipt = await new_door(disk).accept(new_block(*lines))
    assert (receipt.accepted, receipt.refusals, disk.drafts) == (0, [], [])


@pytest.mark.anyio
async def test_refused_events_are_written() -> None:
    """A block of refused events alone is written too: they are dead letters."""
    disk = Disk()
    disk.may_write.set()
    receipt = await new_door(disk).accept(new_block(b"oops"))
    assert (receipt.accepted, len(receipt.refusals), len(disk.drafts[0].dead_letters)) == (0, 1, 1)


@pytest.mark.anyio
async def test_the_first_refusal_is_in_the_log() -> None:
    """A sender over TCP gets no answer: the log has rule, path, hint and value of the first event refused."""
    disk = Disk()
    disk.may_write.set()
    long = {"model_name": "b", "error": "x" * 1000}
    with capture_logs() as logs:
        await new_door(disk).accept(new_block({"model_name": "a", "prediction_confidence": 1.7}, long, b"oops"))
        await new_door(disk).accept(new_block(long))
    told = [(each["reason"], each["rule"], each["path"], each["events"]) for each in logs]
    assert told == [("schema", "less_than_equal", "$.prediction_confidence", 3), ("schema", "bool_type", "$.error", 1)]
    assert [each["value"] for each in logs] == ["1.7", '"' + "x" * 99]


@pytest.mark.anyio
async def test_a_full_spool_is_told() -> None:
    """What the spool says reaches the source; nothing is told as accepted."""
    disk = Disk()
    disk.error = SpoolFull("No room.")
    disk.may_write.set()
    with pytest.raises(SpoolFull, match="No room"):
        await new_door(disk).accept(new_block(GOOD))


@pytest.mark.anyio
async def test_refusals_are_in_order() -> None:
    """Refusals are told by line and item, whatever their reason."""
    disk = Disk()
    disk.may_write.set()
    block = new_block({"model_name": 1, "_id": 2}, b"x", [{"foo": 1}, 3, GOOD, {"_id": 1, "message": 2}], b"y")
    receipt = await new_door(disk).accept(block)
    assert [each[:2] for each in receipt.refusals] == [(0, None), (1, None), (2, 0), (2, 1), (2, 3), (3, None)]


@pytest.mark.anyio
async def test_a_long_block_lets_others_in() -> None:
    """While a long block is worked on, other tasks have their turn."""
    disk = Disk()
    disk.may_write.set()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    receipt = await new_door(disk).accept(new_block(*[GOOD] * 10_000))
    counting.cancel()
    assert receipt.accepted == 10_000
    assert turns >= 9
