"""Connections of the HTTP server: bounded, reusable, and left so that every answer arrives (promises 5 and 7)."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.settings import Http
from gateway.sources.http.server import HttpServer
from tests.sources.http.serving import connected, post, request, serving
from tests.sources.intake import FakeIntake

pytestmark = pytest.mark.anyio
HEAD = b"POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\n"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of the gateway."""
    return "asyncio", {"use_uvloop": True}


async def test_reuse() -> None:
    """A connection takes one request after the other, good and bad."""
    intake = FakeIntake()
    async with serving(intake) as server, connected(server.port) as client:
        statuses = [
            (await client.post(body, path)).status
            for body in (b"{}", b"", b'{"a":1}')
            for path in ("/v1/events", "/nowhere", "/")
        ]
    assert statuses == [200, 404, 200, 400, 404, 200, 200, 404, 200]
    assert len(intake.blocks) == 4


async def test_pipelined() -> None:
    """Requests sent without waiting are answered in their order, and none is lost."""
    intake = FakeIntake()
    bodies = [b'{"a":%d}' % number for number in range(15)]
    async with serving(intake, max_header_bytes=200) as server, connected(server.port) as client:
        await client.send(b"".join(request(body) for body in bodies))
        answers = [await client.answer() for _ in bodies]
    assert {answer.status for answer in answers} == {200}
    assert intake.lines == bodies


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_nothing_is_left_of_a_connection(connection: str) -> None:
    """A connection that ended is forgotten, timers and all."""
    async with serving(FakeIntake()) as server:
        async with connected(server.port) as client:
            (open_now,) = map(weakref.ref, server._server.server_state.connections)
            assert (await client.post(connection=connection)).status == 200
        while server.connections:
            await asyncio.sleep(0.01)
        gc.collect()
        assert open_now() is None


@pytest.mark.waits
async def test_pipelined_behind_a_slow_one() -> None:
    """A head that waits behind a request we are slow with is not late."""
    intake = FakeIntake()
    intake.open.clear()
    async with serving(intake, header_timeout_secs=0.1) as server, connected(server.port) as client:
        await client.send(request(b'{"a":1}') + request(b'{"a":2}') + HEAD)
        await asyncio.sleep(0.4)
        intake.open.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    assert intake.lines == [b'{"a":1}', b'{"a":2}']


@pytest.mark.parametrize("sent", [b"", b"POST", HEAD], ids=["silent", "begun", "almost"])
async def test_head_timeout(sent: bytes) -> None:
    """A head that is not complete in time gets 408, and the connection is closed."""
    async with serving(FakeIntake(), header_timeout_secs=0.1) as server, connected(server.port) as client:
        await client.send(sent)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert await client.is_closed()


@pytest.mark.waits
async def test_drip() -> None:
    """A head that comes a byte at a time is closed at its limit, however busy it seems; so is the next one."""
    async with serving(FakeIntake(), header_timeout_secs=0.3) as server:
        for first in (b"", request()):
            async with connected(server.port) as client:
                await client.send(first)
                if first:
                    assert (await client.answer()).status == 200
                started = time.monotonic()
                answer = asyncio.create_task(client.answer())
                for byte in HEAD * 10:
                    if answer.done():
                        break
                    await client.send(bytes([byte]))
                    await asyncio.sleep(0.01)
                assert (await answer).status == 408
                assert time.monotonic() - started < 2
                assert await client.is_closed()


async def test_empty_lines_are_no_request() -> None:
    """Line ends alone do not keep a connection open for ever."""
    async with serving(FakeIntake(), header_timeout_secs=0.2) as server, connected(server.port) as client:
        assert (await client.post()).status == 200
        answer = asyncio.create_task(client.answer())
        for _ in range(50):
            if answer.done():
                break
            await client.send(b"\r\n")
            await asyncio.sleep(0.02)
        assert (await answer).status == 408


@pytest.mark.parametrize("step", [1000, 100_000], ids=["in pieces", "at once"])
@pytest.mark.parametrize("is_complete", [True, False])
async def test_head_too_large(step: int, is_complete: bool) -> None:
    """A head over the limit gets 431, in one packet or many, also while it is still being sent."""
    head = HEAD + b"x-a: " + b"y" * 20_000 + b"\r\n"
    if is_complete:
        head += b"content-length: 2\r\n\r\n{}"
    async with serving(FakeIntake(), max_header_bytes=10_000) as server, connected(server.port) as client:
        for start in range(0, len(head), step):
            await client.send(head[start : start + step])
            await asyncio.sleep(0)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (431, "close")
        assert b"http.max_header_bytes" in answer.body
        assert await client.is_closed()


async def test_a_head_below_the_limit() -> None:
    """A head just below the limit is taken, also behind the body of another request."""
    intake = FakeIntake()
    async with serving(intake, max_header_bytes=10_000) as server, connected(server.port) as client:
        large = request(b"{}", x_a="y" * 9_800)
        await client.send(request(b" " * 50_000 + b"{}") + large[:5000])
        await asyncio.sleep(0.05)
        await client.send(large[5000:])
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]


@pytest.mark.waits
async def test_idle() -> None:
    """A connection without a request is closed after the idle time, and not before."""
    settings: dict[str, Any] = {"idle_timeout_secs": 1, "header_timeout_secs": 0.2}
    async with serving(FakeIntake(), **settings) as server, connected(server.port) as client:
        assert (await client.post()).status == 200
        await asyncio.sleep(0.5)
        assert (await client.post()).status == 200
        started = time.monotonic()
        assert await client.is_closed()
        assert 0.9 < time.monotonic() - started < 3


async def test_body_timeout() -> None:
    """A body that stops coming gets 408 naming the setting, and the connection is closed."""
    intake = FakeIntake()
    async with serving(intake, body_timeout_secs=0.1) as server, connected(server.port) as client:
        await client.send(request(b"{}", content_length="100"))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"], intake.blocks) == (408, "close", [])
        assert "http.body_timeout_secs" in answer.json["errors"][0]["message"]
        assert await client.is_closed()


EARLY = {
    "announced": (413, {"content_length": "100000000"}),
    "multipart": (415, {"content_type": "multipart/form-data", "content_length": "3000000"}),
    "encoding": (415, {"content_encoding": "br", "content_length": "3000000"}),
    "no such page": (404, {"content_length": "3000000"}),
    "closing": (415, {"content_encoding": "br", "content_length": "3000000", "connection": "close"}),
}


@pytest.mark.parametrize(("status", "headers"), EARLY.values(), ids=EARLY)
async def test_an_early_answer_is_read(status: int, headers: dict[str, str]) -> None:
    """Who sends all of a large body before reading finds the answer, not a connection that was reset."""
    path = "/nowhere" if status == 404 else "/v1/events"
    async with serving(FakeIntake()) as server, connected(server.port) as client:
        await client.send(request(b"", path, **headers))
        for _ in range(30):  # 3 MB, far more than all buffers hold
            await client.send(b"x" * 100_000)
        assert (await client.answer()).status == status


async def test_a_streamed_body_that_grows_too_large() -> None:
    """Who streams on without end finds the 413, and is not read from for ever."""
    async with serving(FakeIntake(), max_body_bytes=100_000) as server, connected(server.port) as client:
        await client.send(request(b"", transfer_encoding="chunked"))
        answer = asyncio.create_task(client.answer())
        for _ in range(40):
            await client.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
        assert (await answer).status == 413


@pytest.mark.parametrize("name", ["multipart", "encoding", "no such page"])
@pytest.mark.waits
async def test_the_next_request(name: str) -> None:
    """After an early answer the rest of the body is passed over and the connection serves the next request."""
    status, headers = EARLY[name]
    path = "/nowhere" if status == 404 else "/v1/events"
    intake = FakeIntake()
    settings: dict[str, Any] = {"header_timeout_secs": 0.3, "max_header_bytes": 1000}
    async with serving(intake, **settings) as server, connected(server.port) as client:
        await client.send(request(b"", path, **headers))
        assert (await client.answer()).status == status
        for _ in range(30):
            await client.send(b"x" * 100_000)
            await asyncio.sleep(0.02)  # longer than a head may take: it is none
        assert (await client.post(b'{"a":1}')).status == 200
    assert intake.lines == [b'{"a":1}']


@pytest.mark.parametrize(("length", "status"), [("2", 200), ("100000000", 413)])
async def test_expect_continue(length: str, status: int) -> None:
    """Who asks first is told to go on, or gets the answer at once on a connection that then closes."""
    async with serving(FakeIntake()) as server, connected(server.port) as client:
        await client.send(request(b"", expect="100-continue", content_length=length))
        if status == 200:
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(b"{}")
        answer = await client.answer()
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert await client.is_closed()


async def test_not_http() -> None:
    """What is not HTTP is told so and closed, and harms nobody else."""
    intake = FakeIntake()
    async with serving(intake) as server:
        for garbage in (
            b'{"model_name":"a"}\n' * 1000,
            b"\x16\x03\x01\x00\xff",
            b"GET / HTTP/9.9\r\n\r\n",
            bytes(5000),
        ):
            async with connected(server.port) as client:
                await client.send(garbage)
                assert (await client.answer()).status == 400
                assert await client.is_closed()
        assert (await post(server)).status == 200


async def test_slow_bodies_hold_up_nobody() -> None:
    """Many senders that are slow with their bodies do not keep the others waiting."""
    intake = FakeIntake()
    async with serving(intake, body_timeout_secs=30) as server:
        slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(100)]
        for _, writer in slow:
            writer.write(request(b" " * 10_000, content_length="10000000"))
            await writer.drain()
        answer = await asyncio.wait_for(post(server), 5)
        assert answer.status == 200
        for _, writer in slow:
            writer.close()


async def test_stop_waits_for_requests() -> None:
    """A request that is being answered when the gateway stops gets its answer."""
    intake = FakeIntake()
    intake.open.clear()
    async with serving(intake) as server, connected(server.port) as client, connected(server.port) as idle:
        await client.send(request())
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.2)
        intake.open.set()
        assert (await client.answer()).status == 200
        await asyncio.wait_for(stopping, 5)
        assert await client.is_closed()
        assert await idle.is_closed()


async def test_a_port_in_use() -> None:
    """A port that is taken is said in one sentence that names the setting."""
    async with serving(FakeIntake()) as server:
        with pytest.raises(GatewayError, match=rf"Cannot listen on 127\.0\.0\.1:{server.port} .*http\.port"):
            HttpServer(Http(port=server.port), None)
