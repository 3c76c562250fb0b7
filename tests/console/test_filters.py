"""How long a caller waits for an answer, on the wire."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from gateway.console import aggregate, filters, search
from gateway.settings import Http
from gateway.sources.http import server as http_server
from gateway.sources.http.server import HttpServer
from tests.console.slow_store import NEVER_SECS, SlowStore

pytestmark = pytest.mark.anyio


def serve(store: SlowStore) -> HttpServer:
    """Return a server of the store's routes on a real port."""
    application = FastAPI()
    application.include_router(search.router(lambda: store))
    application.include_router(aggregate.router(lambda: store))
    return HttpServer(Http(port=0), application)


@pytest.fixture
async def endless() -> AsyncIterator[tuple[SlowStore, int]]:
    """The store, and the port where it is asked."""
    store = SlowStore(NEVER_SECS)
    server = serve(store)
    await server.start()
    yield store, server.port
    await server.stop()


@pytest.mark.parametrize("path", ["/v1/search?q=x", "/v1/aggregate?by=x"])
async def test_a_caller_that_goes_away(endless: tuple[SlowStore, int], path: str) -> None:
    """Its question goes with it."""
    store, port = endless
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
    async with asyncio.timeout(5):
        while not store.now:
            await asyncio.sleep(0.01)
        writer.close()
        while store.now:
            await asyncio.sleep(0.01)
    assert store.begun == 1


@pytest.mark.parametrize("path", ["/v1/search", "/v1/aggregate"])
async def test_a_question_that_takes_too_long(
    endless: tuple[SlowStore, int], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up, and the caller learns what to do."""
    store, port = endless
    monkeypatch.setattr(filters, "ANSWER_SECS", 0.2)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answer = await client.get(path)
    assert answer.status_code == 503
    assert answer.json()["error"].startswith("The store has no answer within 0.2 s: ask for less at once")
    assert (store.begun, store.now) == (1, 0)


async def test_a_question_when_the_gateway_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is given up, its caller hears why, and the log has no stack trace."""
    monkeypatch.setattr(http_server, "STOP_SECS", 0.1)
    store = SlowStore(NEVER_SECS)
    server = serve(store)
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client, asyncio.timeout(5):
        asked = asyncio.create_task(client.get("/v1/search"))
        while not store.now:
            await asyncio.sleep(0.01)
        await server.stop()
        answer = await asked
        while store.now:
            await asyncio.sleep(0.01)
    assert (answer.status_code, answer.json()) == (503, {"error": "The gateway is stopping."})
    assert not [each for each in caplog.records if each.exc_info]
