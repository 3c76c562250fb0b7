"""JSON lines over TCP."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest

from gateway.errors import GatewayError, SpoolFull, SpoolUnavailable, Stopping
from gateway.settings import Tcp
from gateway.sources.tcp import connection, shared
from gateway.sources.tcp.source import TcpSource
from gateway.telemetry import Telemetry
from tests.sources.intake import FakeIntake
from tests.sources.sending import is_closed, listening, send, sender, until

pytestmark = pytest.mark.anyio
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops, which differ in how they pause and close; the gateway runs on uvloop."""
    return "asyncio", {"use_uvloop": request.param}


def broken_of(intake: FakeIntake) -> list[tuple[str, bytes]]:
    return [(each.reason, each.data) for block in intake.blocks for each in block.broken]


@pytest.mark.parametrize(
    ("packets", "lines"),
    [
        ([b'{"a":1}\n{"b":2}\n'], [b'{"a":1}', b'{"b":2}']),
        ([b'{"a":', b"1", b'}\n{"b":2}', b"\n"], [b'{"a":1}', b'{"b":2}']),
        ([b'{"a":1}\r', b'\n{"b":2}\r\n'], [b'{"a":1}\r', b'{"b":2}\r']),
        ([b'[{"a":1},{"b":2}]\n'], [b'[{"a":1},{"b":2}]']),
        ([b'{"a":1}\n{"b":2}'], [b'{"a":1}', b'{"b":2}']),
        ([b'{"a":1}'], [b'{"a":1}']),
        ([b'\n\n{"a":1}\n\n'], [b'{"a":1}']),
        ([b""], []),
    ],
)
async def test_lines(packets: list[bytes], lines: list[bytes]) -> None:
    """Lines arrive whole, whatever packets they came in; the last one may lack its end when the sender closes."""
    intake = FakeIntake()
    async with listening(intake) as source:
        await send(source.port, *packets)
        await until(lambda: source.status()["connections"] == 0)
    assert (intake.lines, broken_of(intake)) == (lines, [])
    assert all(block.source == "tcp" and block.peer.startswith("127.0.0.1:") for block in intake.blocks)


async def test_silence() -> None:
    """A plain sender gets no byte back."""
    async with listening(FakeIntake()) as source, sender(source.port) as (reader, writer):
        writer.write(b"{}\nnonsense\n")
        writer.write_eof()
        assert await is_closed(reader)


async def test_overlong_line() -> None:
    """A line over the limit is a dead letter with its first 4 KiB, and the connection goes on at the next line."""
    intake = FakeIntake()
    async with listening(intake, max_line_bytes=10_000) as source:
        await send(source.port, b'{"a":1}\n' + b"x" * 500_000, b"x" * 500_000 + b'\n{"b":2}\n')
        await until(lambda: source.status()["connections"] == 0)
    assert intake.lines == [b'{"a":1}', b'{"b":2}']
    assert broken_of(intake) == [("too_large", b"x" * 4096)]


async def test_reset() -> None:
    """On a reset the unfinished line is a dead letter, cut, and not an event."""
    intake = FakeIntake()
    async with listening(intake) as source:
        with socket.create_connection(("127.0.0.1", source.port)) as raw:
            raw.sendall(b'{"a":1}\n{"b":')
            await until(lambda: intake.lines == [b'{"a":1}'])
            await asyncio.sleep(0.05)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await until(lambda: len(broken_of(intake)) == 1)
    assert (intake.lines, broken_of(intake)) == ([b'{"a":1}'], [("cut", b'{"b":')])


async def test_stop() -> None:
    """At a stop what was read is stored, the unfinished line is cut, the listener and connections are closed."""
    intake = FakeIntake()
    async with listening(intake) as source, sender(source.port) as (reader, writer), sender(source.port) as (idle, _):
        writer.write(b'{"a":1}\n{"b":')
        await until(lambda: intake.lines == [b'{"a":1}'])
        await asyncio.sleep(0.05)
        port = source.port
        await asyncio.wait_for(source.stop(), 5)
        assert broken_of(intake) == [("cut", b'{"b":')]
        assert await is_closed(reader)
        assert await is_closed(idle)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_stop_finishes_what_was_read() -> None:
    """A stop waits for the block at the intake and for the lines behind it, and takes nothing after them."""
    intake = FakeIntake()
    intake.open.clear()
    async with listening(intake) as source, sender(source.port) as (_, writer):
        writer.write(b'{"a":1}\n')
        await until(lambda: source.held > 0)
        writer.write(b'{"b":2}\n{"c":')
        await until(lambda: source.held > 10)
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(source.stop())
        await asyncio.sleep(0.05)
        writer.write(b'3}\n{"d":4}\n')
        await asyncio.sleep(0.05)
        assert not stopping.done()
        intake.open.set()
        await asyncio.wait_for(stopping, 5)
    assert (intake.lines, broken_of(intake)) == ([b'{"a":1}', b'{"b":2}'], [("cut", b'{"c":')])
    assert source.held == 0


async def test_a_hundred_connections() -> None:
    """A hundred senders at once lose nothing, each in its order."""
    intake = FakeIntake()
    sent = {n: [b'{"n":%d,"i":%d}' % (n, i) for i in range(200)] for n in range(100)}
    async with listening(intake) as source:
        await asyncio.gather(*(send(source.port, b"\n".join(lines) + b"\n") for lines in sent.values()))
        await until(lambda: len(intake.lines) == 20_000)
        await until(lambda: source.status() == {"connections": 0, "acknowledging": 0, "held_bytes": 0})
    for n, lines in sent.items():
        assert [line for line in intake.lines if line.startswith(b'{"n":%d,' % n)] == lines


def close_gate(intake: FakeIntake) -> Callable[[], None]:
    intake.open.clear()
    return intake.open.set


def fill(intake: FakeIntake) -> Callable[[], None]:
    intake.why_full = "The spool is full."

    def empty() -> None:
        intake.why_full = None

    return empty


def fail(intake: FakeIntake, error: Exception) -> Callable[[], None]:
    intake.error = error

    def mend() -> None:
        intake.error = None

    return mend


@pytest.mark.parametrize(
    "block",
    [
        close_gate,
        fill,
        lambda intake: fail(intake, SpoolFull("It is full.")),
        lambda intake: fail(intake, SpoolUnavailable("No space left on device.")),
    ],
    ids=["slow", "full", "SpoolFull", "SpoolUnavailable"],
)
@pytest.mark.waits
async def test_backpressure(block: Callable[[FakeIntake], Callable[[], None]]) -> None:
    """While nothing can be taken the sender is held up, little is held in memory, and later nothing is missing."""
    intake = FakeIntake()
    unblock = block(intake)
    chunk, count = b'{"a":"%b"}\n' % (b"x" * 990) * 1000, 40
    async with listening(intake) as source, sender(source.port) as (_, writer):

        async def send_all() -> None:
            for _ in range(count):
                writer.write(chunk)
                await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send_all())
        await asyncio.sleep(0.7)
        assert not sending.done()
        assert 0 < source.held < 4 << 20
        assert intake.blocks == []
        unblock()
        await asyncio.wait_for(sending, 20)
        await until(lambda: source.status()["connections"] == 0)
    assert len(intake.lines) == count * 1000
    assert source.held == 0


@pytest.mark.waits
async def test_all_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound for all connections none is read from, new ones neither, until half is on disk."""
    monkeypatch.setattr(shared, "HELD_BYTES", 300_000)
    intake = FakeIntake()
    intake.open.clear()
    line = b"x" * 99_999 + b"\n"
    async with listening(intake) as source:
        sending = [asyncio.create_task(send(source.port, line * 30)) for _ in range(20)]
        await asyncio.sleep(0.5)
        one_read = 256 * 1024  # by each that connects meanwhile
        assert 300_000 < source.held < 300_000 + 20 * one_read
        intake.open.set()
        await asyncio.gather(*sending)
        await until(lambda: len(intake.lines) == 600)
    assert source.held == 0


async def test_max_connections() -> None:
    """One connection more than allowed is closed at once; when another goes there is room again."""
    intake = FakeIntake()
    async with listening(intake, max_connections=2) as source:
        async with sender(source.port), sender(source.port) as (_, writer):
            await until(lambda: source.status()["connections"] == 2)
            async with sender(source.port) as (reader, _):
                assert await is_closed(reader)
            writer.write(b'{"a":1}\n')
            await until(lambda: intake.lines == [b'{"a":1}'])
        await until(lambda: source.status()["connections"] == 0)
        await send(source.port, b'{"b":2}\n')
        await until(lambda: len(intake.lines) == 2)


async def test_stopping_with_a_full_spool() -> None:
    """A stop does not wait for room that may never come."""
    for error in (None, SpoolFull("It is full."), Stopping("It stops.")):
        intake = FakeIntake()
        intake.why_full = None if error else "It is full."
        intake.error = error
        async with listening(intake) as source, sender(source.port) as (_, writer):
            writer.write(b'{"a":1}\n')
            await asyncio.sleep(0.1)
            await asyncio.wait_for(source.stop(), 5)
            assert source.held == 0


async def is_silent(reader: asyncio.StreamReader) -> bool:
    """Whether nothing comes for a while."""
    try:
        await asyncio.wait_for(reader.readline(), 0.2)
    except TimeoutError:
        return True
    return False


@pytest.mark.parametrize(
    "block",
    [close_gate, fill, lambda intake: fail(intake, SpoolUnavailable("No space left on device."))],
    ids=["slow", "full", "SpoolUnavailable"],
)
async def test_acknowledged_when_stored(block: Callable[[FakeIntake], Callable[[], None]]) -> None:
    """Lines are acknowledged once they are stored, not before; so are those that came meanwhile, after them."""
    intake = FakeIntake()
    unblock = block(intake)
    async with listening(intake) as source, sender(source.port) as (reader, writer):
        writer.write(b'{"ack":true}\n{"a":1}\n')
        assert await reader.readline() == b'{"ack":"ready"}\n'
        await until(lambda: source.held > 0)
        writer.write(b'{"b":2}\n{"c":3}\n')
        assert await is_silent(reader)
        unblock()
        assert await reader.readline() == b'{"acked":1,"rejected":[]}\n'
        assert await reader.readline() == b'{"acked":3,"rejected":[]}\n'


async def test_the_end_waits_for_the_last_acknowledgement() -> None:
    """After the sender's end the connection is closed once it was told of its last line."""
    intake = FakeIntake()
    intake.open.clear()
    async with listening(intake) as source, sender(source.port) as (reader, writer):
        writer.write(b'{"ack":true}\n{"a":1}\n{"b":2}')
        writer.write_eof()
        assert await reader.readline() == b'{"ack":"ready"}\n'
        assert await is_silent(reader)
        intake.open.set()
        assert (await reader.read()).splitlines()[-1] == b'{"acked":2,"rejected":[]}'
        await until(lambda: source.status()["connections"] == 0)


@pytest.mark.parametrize("error", [None, SpoolFull("It is full."), Stopping("It stops.")])
async def test_what_a_stop_could_not_store(error: Exception | None) -> None:
    """It is not acknowledged, nor is anything behind it; what is stored by then is."""
    intake = FakeIntake()
    async with listening(intake) as source, sender(source.port) as (reader, writer):
        writer.write(b'{"ack":true}\n{"a":1}\n')
        assert await reader.readline() == b'{"ack":"ready"}\n'
        assert await reader.readline() == b'{"acked":1,"rejected":[]}\n'
        intake.why_full = None if error else "It is full."
        intake.error = error
        writer.write(b'{"b":2}\n{"c":')
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(source.stop())
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await asyncio.wait_for(stopping, 5)
    assert intake.lines == [b'{"a":1}']


async def test_a_cut_line_is_not_acknowledged() -> None:
    """At a stop all whole lines are acknowledged, and the unfinished one is a dead letter that is not."""
    intake = FakeIntake()
    intake.open.clear()
    async with listening(intake) as source, sender(source.port) as (reader, writer):
        writer.write(b'{"ack":true}\n{"a":1}\n')
        await until(lambda: source.held > 0)
        writer.write(b'{"b":2}\n{"c":')
        await until(lambda: source.held > 8)
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(source.stop())
        await asyncio.sleep(0.05)
        intake.open.set()
        told = await asyncio.wait_for(reader.read(), 5)
        assert told == b'{"ack":"ready"}\n{"acked":1,"rejected":[]}\n{"acked":2,"rejected":[]}\n'
        writer.close()
        await asyncio.wait_for(stopping, 5)
    assert broken_of(intake) == [("cut", b'{"c":')]


async def test_who_says_nothing_where_a_key_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers cannot hold connections: without a first line in time they are told why and closed."""
    monkeypatch.setattr(connection, "HELLO_SECS", 0.3)
    async with (
        listening(FakeIntake(), keys=("the-key",), key_required=True) as source,
        sender(source.port) as (silent, _),
        sender(source.port) as (slow, writer),
        sender(source.port) as (good, friend),
    ):
        writer.write(b'{"ack":true,"key":"the-')
        friend.write(b'{"ack":true,"key":"the-key"}\n')
        for reader in (silent, slow):
            said = await asyncio.wait_for(reader.read(), 5)
            assert said.startswith(b'{"ack":"refused","message":"No line came within 0.3 s. Begin with ')
        friend.write(b'{"a":1}\n')
        assert await good.readline() == b'{"ack":"ready"}\n'
        assert await good.readline() == b'{"acked":1,"rejected":[]}\n'


async def test_ports_in_use() -> None:
    """A port that is taken is said in one sentence that names the setting."""
    async with listening(FakeIntake()) as source:
        with pytest.raises(GatewayError, match=rf"Cannot listen on 127\.0\.0\.1:{source.port} .*tcp\.port"):
            TcpSource(Tcp(port=source.port), FakeIntake(), Telemetry())
