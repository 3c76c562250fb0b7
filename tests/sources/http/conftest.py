"""A server for all tests of a file that need no other settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.sources.http.server import HttpServer
from tests.sources.http.serving import serving
from tests.sources.intake import FakeIntake


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """All tests of this file share a loop, and with it a server: a stop takes uvicorn 0.2 s."""
    return "asyncio"


@pytest.fixture(scope="module")
async def served() -> AsyncIterator[tuple[HttpServer, FakeIntake]]:
    intake = FakeIntake()
    async with serving(intake) as server:
        yield server, intake


@pytest.fixture
def server(served: tuple[HttpServer, FakeIntake]) -> HttpServer:
    """The shared server."""
    return served[0]


@pytest.fixture
def intake(served: tuple[HttpServer, FakeIntake]) -> FakeIntake:
    """The shared server's intake, as new."""
    served[1].reset()
    return served[1]


@pytest.fixture(scope="module")
async def keyed() -> AsyncIterator[tuple[HttpServer, FakeIntake]]:
    """A server with keys, and its intake."""
    keys: Any = [{"key": "key-one", "tenant": "blue"}, "key-two"]
    intake = FakeIntake()
    async with serving(intake, api_keys=keys) as server:
        yield server, intake
