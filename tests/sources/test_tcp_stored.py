"""TCP with the real pipeline and spool behind it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.spool.record import Counts
from tests.sources.intake import real_intake
from tests.sources.sending import listening, send, sender, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of the gateway."""
    return "asyncio", {"use_uvloop": True}


async def test_bad_lines_among_good_ones(tmp_path: Path) -> None:
    """Each bad line is a dead letter with its bytes, reason and rule; all good ones around it are stored."""
    bad = {
        b'{"model_name":"a"': ("json", "json_invalid"),
        b"42": ("json", "not_an_object"),
        b'"text"': ("json", "not_an_object"),
        b'{"model_name":"a"}{"model_name":"b"}': ("json", "json_invalid"),
        b'{"model_name":"\xff"}': ("json", "utf8_invalid"),
        b'{"model_name":"a","x":Infinity}': ("json", "not_finite"),
        b'{"foo":1}\r': ("schema", "kind_unknown"),
        b'{"model_name":"a","timestamp":"2999-01-01T00:00:00Z"}': ("clock", "in_the_future"),
        b"x" * 2000: ("too_large", "too_large"),
    }
    lines = [
        each for n, line in enumerate(bad) for line in (b'{"model_name":"a","n":%d}' % n, line) for each in (line, b"")
    ]
    async with real_intake(tmp_path, max_line_bytes=1000) as real, listening(real.door, max_line_bytes=1000) as source:
        await send(source.port, b"\n".join(lines) + b'\n[{"message":"1"},7,{"message":"2"}]\n{"message":"last"}')
        await until(lambda: real.spool.counts.get("tcp") == Counts(22, 12, 10, 0))
        documents, letters = real.stored()
    assert [each.document.get("n", each.document.get("message")) for each in documents] == [*range(9), "1", "2", "last"]
    assert {each.data: (each.reason, each.rule) for each in letters} == bad | {b"7": ("json", "not_an_object")}
    assert {(each.source, each.peer.split(":")[0]) for each in letters} == {("tcp", "127.0.0.1")}


async def test_cut(tmp_path: Path) -> None:
    """A line that a stop cuts is a dead letter with what came of it."""
    async with real_intake(tmp_path) as real, listening(real.door) as source, sender(source.port) as (_, writer):
        writer.write(b'{"message":"1"}\n{"message":')
        await until(lambda: "tcp" in real.spool.counts)
        await asyncio.sleep(0.05)
        await source.stop()
        documents, (letter,) = real.stored()
    assert (len(documents), letter.reason, letter.data) == (1, "cut", b'{"message":')


@pytest.mark.waits
async def test_a_full_spool_loses_nothing(tmp_path: Path) -> None:
    """When the spool is full the sender waits; when there is room again everything arrives, in order and once."""
    lines = [json.dumps({"message": "x" * 1000, "n": n}).encode() for n in range(12_000)]
    seen: list[int] = []
    async with real_intake(tmp_path, max_bytes=4 << 20) as real, listening(real.door) as source:
        reader = real.spool.reader("test", None)
        real.spool.attached()
        sending = asyncio.create_task(send(source.port, b"\n".join(lines) + b"\n"))
        await until(lambda: real.spool.full() is not None)
        await asyncio.sleep(0.3)
        assert not sending.done()
        assert real.spool.bytes < 6 << 20
        assert source.held < 4 << 20
        while len(seen) < len(lines):
            for item in await asyncio.to_thread(reader.read, real.spool.end, 1 << 20):
                for group in item.record.documents():
                    seen += [json.loads(line)["n"] for line in bytes(group.data).split(b"\n")[1::2]]
            real.spool.release("test", reader.position)
            await asyncio.sleep(0.01)
        await sending
    assert seen == list(range(12_000))


async def test_many_senders_share_records(tmp_path: Path) -> None:
    """From many connections at once nothing is lost and nothing doubled."""
    async with real_intake(tmp_path) as real, listening(real.door) as source:
        await asyncio.gather(
            *(
                send(source.port, *(b'{"event_id":"%d-%d","message":"m"}\n' % (s, n) for n in range(20)))
                for s in range(50)
            )
        )
        await until(lambda: real.spool.counts.get("tcp", Counts()).accepted == 1000)
        documents, letters = real.stored()
    assert (len({each.id for each in documents}), letters) == (1000, [])
