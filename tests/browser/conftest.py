"""One browser for the tests of a module, and windows of it."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import chromium
from tests.browser.view import DESKTOP, PHONE, Size, View
from tests.gateway_process import Gateway, GatewayFactory

Views = Callable[..., View]


def send(running: Gateway, *events: Mapping[str, object]) -> None:
    """Send events and return when they can be found."""
    lines = b"\n".join(json.dumps(event).encode() for event in events)
    assert running.http.post("/v1/events", content=lines).json()["rejected"] == 0
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["waiting"] == 0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser of this module's tests."""
    with chromium() as started:
        yield started


@pytest.fixture(params=[DESKTOP, PHONE], ids=lambda size: str(size.width))
def size(request: pytest.FixtureRequest) -> Size:
    """The window's size: a test that asks for it runs on the desktop and on the phone."""
    given: Size = request.param
    return given


@pytest.fixture
def view(browser: Browser, gateway: GatewayFactory) -> Iterator[Views]:
    """A function that opens windows, with the arguments of `View`; a fault in one of them fails the test.

    They are closed before the gateways are, which is why it asks for these.
    """
    opened: list[View] = []

    def open_one(*args: Any, **kwargs: Any) -> View:
        opened.append(View(browser, *args, **kwargs))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()
    faults = [fault for each in opened for fault in each.faults]
    assert not faults, "\n".join(faults)


@pytest.fixture
def running(gateway: GatewayFactory) -> Gateway:
    """A gateway without events, whose store is open: until then its pages have answers of 503."""
    started = gateway()
    started.wait_until(lambda now: now["sinks"]["embedded"]["state"] == "ok")
    return started
