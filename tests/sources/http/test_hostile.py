"""Clients that mean harm or know no better: what each costs is bounded, and who sent something sound is answered."""

from __future__ import annotations

import asyncio
import logging
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from gateway.access import Receive, Scope, Send
from gateway.settings import Http
from gateway.sources.http import connection
from gateway.sources.http.connection import MAX_HEADERS, MAX_PIPELINED
from gateway.sources.http.server import HttpServer
from tests.sources.http.serving import connected, request, serving
from tests.sources.intake import FakeIntake

pytestmark = pytest.mark.anyio
CHUNKED = b"POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"
PLAIN_GET = b"GET / HTTP/1.1\r\n\r\n"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of the gateway."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def nothing_fails(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever comes, no request ends by a mistake of ours."""
    yield
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []


async def test_too_many_at_once() -> None:
    """Of requests sent without waiting so many are answered, in their order, the last one with a close."""
    intake = FakeIntake()
    bodies = [b'{"a":%d}' % number for number in range(1000)]
    async with serving(intake) as server, connected(server.port) as client:
        await client.send(b"".join(request(body) for body in bodies))
        answers = [await client.answer() for _ in range(MAX_PIPELINED + 1)]
        assert await client.is_closed()
    assert {answer.status for answer in answers} == {200}
    assert [answer.headers.get("connection") for answer in answers] == [None] * MAX_PIPELINED + ["close"]
    assert intake.lines == bodies[: MAX_PIPELINED + 1]


async def test_what_many_at_once_cost() -> None:
    """A connection that sends requests on and on holds half a megabyte at most, whatever it sent."""
    intake = FakeIntake()
    intake.open.clear()
    data = request() + PLAIN_GET * 100_000
    async with serving(intake) as server:
        tracemalloc.start()
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
        for each in held:
            each.setblocking(False)
        for _ in range(20):
            for each in held:
                with suppress(BlockingIOError):
                    each.send(data)
            await asyncio.sleep(0.02)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        intake.open.set()
        for each in held:
            each.close()
    assert size / len(held) < 500_000


async def test_bodies_ahead_wait_with_their_sender() -> None:
    """Behind a request that takes long no more is read than the next few: the rest stays where it is."""
    intake = FakeIntake()
    intake.open.clear()
    async with serving(intake) as server, connected(server.port) as client:
        sending = asyncio.create_task(client.send(request() + request(b" " * 1_000_000 + b"{}") * 15))
        await asyncio.sleep(0.3)
        assert not sending.done()
        intake.open.set()
        assert {(await client.answer()).status for _ in range(16)} == {200}
        await sending
    assert len(intake.blocks) == 16


@pytest.mark.parametrize(
    "bad",
    [b"nonsense\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", CHUNKED + b"x\r\n", request(x="y" * 70_000)],
    ids=["no request", "no path", "no chunk", "large head"],
)
async def test_a_bad_request_behind_good_ones(bad: bytes) -> None:
    """The good ones are answered as ever, then the connection is closed: the answer to the bad one would be theirs."""
    intake = FakeIntake()
    intake.open.clear()
    async with serving(intake) as server, connected(server.port) as client:
        await client.send(request(b'{"a":1}') + request(b'{"a":2}') + bad)
        await asyncio.sleep(0.1)
        intake.open.set()
        first, second = await client.answer(), await client.answer()
        assert (first.status, second.status, second.headers["connection"]) == (200, 200, "close")
        assert await client.is_closed()
    assert intake.lines == [b'{"a":1}', b'{"a":2}']


async def test_a_body_that_breaks() -> None:
    """Who sends a chunk that is none is told at once, nothing of it is taken, and it is not waited for."""
    intake = FakeIntake()
    async with serving(intake, body_timeout_secs=0.3) as server, connected(server.port) as client:
        await client.send(CHUNKED + b"8\r\n{}\n{}\n{}\r\nno chunk\r\n")
        assert (await client.answer()).status == 400
        assert await client.is_closed()
        await asyncio.sleep(0.5)
    assert intake.blocks == []


async def test_trailers_change_nothing() -> None:
    """What stands behind a chunked body is no part of the head: it cannot name another tenant."""
    intake = FakeIntake()
    async with serving(intake) as server, connected(server.port) as client:
        head = CHUNKED.replace(b"\r\n\r\n", b"\r\nx-scope-orgid: mine\r\n\r\n")
        await client.send(head + b"2\r\n{}\r\n0\r\nx-scope-orgid: yours\r\ncontent-encoding: gzip\r\n\r\n")
        assert (await client.answer()).status == 200
    assert [block.tenant for block in intake.blocks] == ["mine"]


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (CHUNKED + b"2\r\n{}\r\n0\r\n", b"a: b\r\n" * 1000),
        (CHUNKED + b"2\r\n{}\r\n0\r\nx: ", b"y" * 10_000),
        (CHUNKED + b"2;", b"x" * 10_000),
    ],
    ids=["trailers", "one trailer", "chunk extension"],
)
async def test_endless_trifles(start: bytes, more: bytes) -> None:
    """What is neither head nor body has the bound of a head."""
    intake = FakeIntake()
    async with serving(intake) as server, connected(server.port) as client:
        await client.send(start)
        answer = asyncio.create_task(client.answer())
        for _ in range(200):
            if answer.done():
                break
            await client.send(more)
            await asyncio.sleep(0.002)
        assert (await answer).status == 431
    assert intake.blocks == []


@pytest.mark.parametrize("count", [MAX_HEADERS, 2 * MAX_HEADERS, 16_000])
async def test_many_headers(count: int) -> None:
    """A head of very many fields is refused as one that is too large: each costs memory beyond its bytes."""
    async with serving(FakeIntake()) as server, connected(server.port) as client:
        await client.send(PLAIN_GET[:-2] + b"a:\r\n" * count + b"\r\n")
        assert (await client.answer()).status == (431 if count > MAX_HEADERS else 405)


LARGE = 16 * 1024 * 1024  # more than the system keeps for both sides


async def answer_large(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]})
    await send({"type": "http.response.body", "body": bytes(LARGE)})


@pytest.mark.waits
@pytest.mark.parametrize("ahead", [0, 3])
async def test_a_client_that_never_reads(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads nothing of its answers is let go, one that reads slowly gets all of them."""
    monkeypatch.setattr(connection, "UNREAD_SECS", 0.4)
    server = HttpServer(Http(port=0, idle_timeout_secs=1), answer_large)
    await server.start()
    try:
        async with connected(server.port) as never, connected(server.port) as slow:
            await never.send(PLAIN_GET * (1 + ahead))
            await slow.send(PLAIN_GET)
            await never.reader.readuntil(b"\r\n\r\n")  # and no more: its buffer is full then
            await slow.reader.readuntil(b"\r\n\r\n")
            size = 0
            while size < LARGE and (read := await slow.reader.read(2_000_000)):
                size += len(read)
                await asyncio.sleep(0.02)
            assert size == LARGE
            await asyncio.sleep(1.5)
            assert server.connections == 0
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await never.reader.readexactly((1 + ahead) * LARGE)
    finally:
        await server.stop()
