"""Unfinished lines over TCP are bounded over all connections, and room for long ones goes round (promise 5)."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack

import pytest

from gateway.sources.tcp import long_line, shared
from tests.sources.intake import FakeIntake
from tests.sources.sending import is_closed, listening, sender, until
from tests.sources.test_tcp import broken_of

pytestmark = pytest.mark.anyio
LINE = b"x" * 300_000


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops, which differ in how they pause; the gateway runs on uvloop."""
    return "asyncio", {"use_uvloop": request.param}


def unfinished(source: object) -> int:
    """Return how many bytes of unfinished lines a source holds."""
    connections = source._shared.connections  # type: ignore[attr-defined]
    return sum(each._framer.unfinished for each in connections)


async def test_long_lines_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two long lines many senders hold little, small lines pass, and in the end all are through."""
    monkeypatch.setattr(shared, "UNFINISHED_BYTES", 2 << 20)
    intake = FakeIntake()
    async with listening(intake) as source, AsyncExitStack() as stack:
        writers = [(await stack.enter_async_context(sender(source.port)))[1] for _ in range(20)]
        for writer in writers:
            writer.write(LINE)
        await until(lambda: unfinished(source) >= 2 * len(LINE) + 18 * long_line.FREE_BYTES)
        await asyncio.sleep(0.2)
        assert unfinished(source) == 2 * len(LINE) + 18 * long_line.FREE_BYTES
        async with sender(source.port) as (_, small):
            small.write(b'{"a":1}\n' + b"y" * 10_000)
            await until(lambda: intake.lines == [b'{"a":1}'])
            small.write(b"\n")
            await until(lambda: len(intake.lines) == 2)
        for writer in writers:
            writer.write(b"1\n" + LINE + b"2\n" + b"z")
        await until(lambda: len(intake.lines) == 2 + 2 * len(writers))
        assert unfinished(source) == len(writers)
        assert sorted(intake.lines[2:]) == sorted([LINE + b"1", LINE + b"2"] * len(writers))


async def test_nobody_starves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders of one long line after the other leave the room to who waits for it."""
    monkeypatch.setattr(shared, "UNFINISHED_BYTES", 1 << 20)
    intake = FakeIntake()
    async with listening(intake) as source, AsyncExitStack() as stack:
        greedy = [(await stack.enter_async_context(sender(source.port)))[1] for _ in range(3)]

        async def send_on(writer: asyncio.StreamWriter) -> None:
            while True:
                writer.write(LINE + b"\n")
                await writer.drain()

        tasks = [asyncio.create_task(send_on(writer)) for writer in greedy]
        await until(lambda: len(intake.lines) > 10)
        async with sender(source.port) as (_, modest):
            modest.write(b"m" * 200_000)
            await asyncio.sleep(0.2)
            modest.write(b"\n")
            await until(lambda: b"m" * 200_000 in intake.lines)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_never_finishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long line that is not finished in time is cut and its connection closed; whoever waited behind it is not."""
    monkeypatch.setattr(shared, "UNFINISHED_BYTES", 1 << 20)
    monkeypatch.setattr(long_line, "LINE_SECS", 0.4)
    intake = FakeIntake()
    async with (
        listening(intake) as source,
        sender(source.port) as (slow_reader, slow),
        sender(source.port) as (_, next_one),
        sender(source.port) as (_, small),
    ):
        slow.write(b'{"ack":true}\n{"a":1}\n' + LINE)
        small.write(b"half of a small line")
        await until(lambda: unfinished(source) >= len(LINE))
        next_one.write(LINE)
        said = [await slow_reader.readline(), await slow_reader.readline()]
        assert said == [b'{"ack":"ready"}\n', b'{"acked":1,"rejected":[]}\n']
        assert await is_closed(slow_reader)
        next_one.write(b"\n")
        await until(lambda: LINE in intake.lines)
        (cut,) = [each for block in intake.blocks for each in block.broken]
        assert (cut.reason, cut.data) == ("cut", LINE)
        assert cut.message == "The line was not complete within 0.4 s."
        small.write(b"\n")
        await until(lambda: b"half of a small line" in intake.lines)


async def test_a_sender_that_is_held_up_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the gateway itself does not read, the time of a long line does not run out."""
    monkeypatch.setattr(long_line, "LINE_SECS", 0.3)
    intake = FakeIntake()
    intake.why_full = "The spool is full."
    async with listening(intake) as source, sender(source.port) as (_, writer):
        writer.write((LINE + b"\n") * 8 + LINE)
        await until(lambda: source.held > 512 * 1024)
        await asyncio.sleep(0.8)
        intake.why_full = None
        writer.write(b"\n")
        await until(lambda: intake.lines == [LINE] * 9)


@pytest.mark.parametrize("waits", [False, True])
async def test_who_goes_leaves_its_room(monkeypatch: pytest.MonkeyPatch, waits: bool) -> None:
    """A connection that ends gives back its room, or its place in the queue, and leaves its line as cut."""
    monkeypatch.setattr(shared, "UNFINISHED_BYTES", 1 << 20)
    intake = FakeIntake()
    async with listening(intake) as source, sender(source.port) as (_, first), sender(source.port) as (_, last):
        first.write(LINE)
        await until(lambda: unfinished(source) >= len(LINE))
        going = socket.create_connection(("127.0.0.1", source.port)) if waits else None
        if going is not None:
            going.send(LINE[:20_000])
            await until(lambda: unfinished(source) == len(LINE) + long_line.FREE_BYTES)
        last.write(LINE + b"\n")
        await asyncio.sleep(0.1)
        assert intake.lines == []
        if going is not None:
            going.close()
        first.write(b"\n")
        await until(lambda: intake.lines.count(LINE) == 2)


async def test_no_room_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that may be longer than all the room has it for itself."""
    monkeypatch.setattr(shared, "UNFINISHED_BYTES", 100_000)
    intake = FakeIntake()
    async with listening(intake) as source, sender(source.port) as (_, one), sender(source.port) as (_, two):
        for writer in (one, two):
            writer.write(LINE)
            await asyncio.sleep(0.05)
            writer.write(LINE + b"\n")
        await until(lambda: intake.lines == [LINE + LINE] * 2)


async def test_an_overlong_line_needs_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is thrown away holds no room and has no time limit."""
    monkeypatch.setattr(shared, "UNFINISHED_BYTES", 100_000)
    monkeypatch.setattr(long_line, "LINE_SECS", 0.2)
    intake = FakeIntake()
    async with (
        listening(intake, max_line_bytes=100_000) as source,
        sender(source.port) as (_, endless),
        sender(source.port) as (_, other),
    ):
        endless.write(LINE)
        await asyncio.sleep(0.5)
        other.write(LINE[:90_000] + b"\n")
        await until(lambda: intake.lines == [LINE[:90_000]])
        endless.write(b"\n{}\n")
        await until(lambda: intake.lines == [LINE[:90_000], b"{}"])
    assert broken_of(intake) == [("too_large", b"x" * 4096)]
