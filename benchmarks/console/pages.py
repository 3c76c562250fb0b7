"""Every page of the navigation in a real browser: what a person waits for, and what took the time."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from urllib.parse import urlencode

import httpx
from playwright.sync_api import Browser

from benchmarks.processes import Wrong
from tests.browser.view import View
from tests.gateway_process import Gateway

HOURS = 24
_BEGAN = datetime.now(UTC)
SETTLED_SECS = 0.5
"""Between two looks: until the window before is gone."""

# When each panel had its first content.
_NOTE = """window.firstFilled = {};
document.addEventListener('filled', event => { window.firstFilled[event.target.dataset.panel] ??= performance.now(); });
"""
_LINK = re.compile(r'<a href="([^"]*)"[^>]*>([^<]*)</a>')
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
    """Open every page ``repeat`` times, each time in a window that has nothing yet; then ask for its panels in turn.

    Each looks at a day that ends a second later, so that no answer is one that is kept. Of panels medians are told.
    """
    paths = navigation(gateway)
    found = {path: Opened(name) for path, (name, _) in paths.items()}
    panels: dict[str, list[list[Panel]]] = {path: [] for path in paths}
    for turn in range(repeat):
        say(f"every page, turn {turn + 1}")
        for path, (_, has_range) in paths.items():
            time.sleep(SETTLED_SECS)
            address = f"{path}?{_day(2 * turn)}" if has_range else path
            asked = _open(gateway, browser, address, found[path])
            time.sleep(SETTLED_SECS)
            later = [each.replace(_day(2 * turn), _day(2 * turn + 1)) for each in asked]
            panels[path].append([_asked(gateway, each) for each in later])
    for path, page in found.items():
        page.panels = [_median(each) for each in zip(*panels[path], strict=True)]
    return [*found.values()]


def navigation(gateway: Gateway) -> dict[str, tuple[str, bool]]:
    """Return the pages that the navigation leads to: by path their titles, and whether they have a time range."""
    first = gateway.http.get("/").raise_for_status().text
    links = dict(_LINK.findall(first[first.index("<nav") : first.index("</nav>")]))
    return {path: (name, 'class="ranges"' in gateway.http.get(path).text) for path, name in links.items()}


def _day(later_secs: int) -> str:
    """Return the last day as a page's address has it; the same in a run for the same number."""
    end = _BEGAN + timedelta(seconds=later_secs)
    ends = {"from": end - timedelta(hours=HOURS), "to": end}
    return urlencode({name: f"{each:%Y-%m-%dT%H:%M:%S}.000Z" for name, each in ends.items()})


def _open(gateway: Gateway, browser: Browser, address: str, page: Opened) -> list[str]:
    """Open a page and note its times; return its panels' addresses."""
    view = View(browser, gateway.url)
    try:
        view.page.add_init_script(_NOTE)
        view.open(address)
        page.first_paint_ms.append(round(view.first_paint_ms(), 1))
        page.filled_ms.append(round(max(view.page.evaluate("window.firstFilled").values(), default=0.0), 1))
        if view.faults:
            raise Wrong(f"{address}: {view.faults}")
        panels: list[str] = view.page.evaluate(_PANELS)
        return panels
    finally:
        view.close()


def _asked(gateway: Gateway, address: str) -> Panel:
    answer = gateway.http.get(address)
    if answer.status_code != httpx.codes.OK:
        raise Wrong(f"{address} answered {answer.status_code}: {answer.text}")
    (_, ms, _), *asked = _TOLD.findall(answer.headers["server-timing"])
    name = address.partition("?")[0].removeprefix("/console/")
    return Panel(name, float(ms), [Question(what, float(secs)) for _, secs, what in asked])


def _median(turns: Sequence[Panel]) -> Panel:
    times = defaultdict(list)
    for panel in turns:
        for question in panel.questions:
            times[question.what].append(question.ms)
    questions = [Question(what, round(median(each), 1)) for what, each in times.items()]
    return Panel(turns[0].name, median(each.ms for each in turns), questions)
