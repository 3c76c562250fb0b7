"""Every page of the navigation in a real browser: what a person waits for, and what took the time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from playwright.sync_api import Browser

from benchmarks.processes import Wrong
from tests.browser.view import View
from tests.gateway_process import Gateway

RANGE = "24h"
SETTLED_SECS = 3.0
"""Between two looks: so that an answer kept for others is not what is measured."""

# When each panel had its first content.
_NOTE = """window.firstFilled = {};
document.addEventListener('filled', event => { window.firstFilled[event.target.dataset.panel] ??= performance.now(); });
"""
_PANELS = "() => [...document.querySelectorAll('[data-panel]')].map(each => each.dataset.panel)"
_TOLD = re.compile(r'(\w+);dur=([\d.]+)(?:;desc="([^"]*)")?')


@dataclass(frozen=True)
class Question:
    """What a panel asked of the store; ``ms`` is the store's own time, without waiting for its turn."""

    what: str
    ms: float


@dataclass
class Panel:
    """A panel asked for by itself, while nothing else is asked: ``ms`` is the time of the server."""

    name: str
    ms: float
    questions: list[Question]


@dataclass
class Opened:
    """A page, and what each opening of it took: first paint, and all its panels."""

    name: str
    first_paint_ms: list[float] = field(default_factory=list)
    filled_ms: list[float] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)


def opened(gateway: Gateway, browser: Browser, repeat: int, say: Callable[[str], None]) -> list[Opened]:
    """Open every page ``repeat`` times, each time in a window that has nothing yet, then ask for its panels in turn."""
    paths = navigation(gateway, browser)
    found = {path: Opened(name) for path, name in paths.items()}
    addresses: dict[str, list[str]] = {}
    for turn in range(repeat):
        for path, page in found.items():
            say(f"{page.name}, turn {turn + 1}")
            time.sleep(SETTLED_SECS)
            view = View(browser, gateway.url)
            try:
                view.page.add_init_script(_NOTE)
                view.open(path)
                page.first_paint_ms.append(round(view.first_paint_ms(), 1))
                filled = view.page.evaluate("window.firstFilled")
                page.filled_ms.append(round(max(filled.values(), default=0.0), 1))
                addresses[path] = view.page.evaluate(_PANELS)
                if view.faults:
                    raise Wrong(f"{path}: {view.faults}")
            finally:
                view.close()
    time.sleep(SETTLED_SECS)
    for path, page in found.items():
        say(f"{page.name}, panel by panel")
        page.panels = [_asked(gateway, address) for address in addresses[path]]
    return [*found.values()]


def navigation(gateway: Gateway, browser: Browser) -> dict[str, str]:
    """Return the pages that the navigation leads to, by path with the day as its range, and their titles."""
    view = View(browser, gateway.url)
    try:
        view.open()
        links = view.page.locator("nav a").evaluate_all("all => all.map(each => [each.getAttribute('href'), each.text])")
        ranges = {}
        for path, name in links:
            view.open(path)
            ranged = view.page.locator(f".ranges a:text-is('{RANGE}')")
            ranges[ranged.get_attribute("href") if ranged.count() else path] = name
        return ranges
    finally:
        view.close()


def _asked(gateway: Gateway, address: str) -> Panel:
    answer = gateway.http.get(address)
    if answer.status_code != httpx.codes.OK:
        raise Wrong(f"{address} answered {answer.status_code}: {answer.text}")
    (_, ms, _), *asked = _TOLD.findall(answer.headers["server-timing"])
    return Panel(
        address.partition("?")[0].removeprefix("/console/"), float(ms), [Question(what, float(ms)) for _, ms, what in asked]
    )
