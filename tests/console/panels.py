"""Pages over a real embedded store that holds what a gateway makes of events, for tests of their panels."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from gateway.console.asking import Asking
from gateway.console.layout import Layout, Page
from gateway.spool.record import Documents
from gateway.store.embedded import EmbeddedStore
from tests.pipeline.blocks import NOON, draft_of, new_block, new_digest
from tests.store.documents import SETTINGS, fill

Put = Callable[[list[Documents]], Awaitable[None]]
SINCE, UNTIL = NOON - 3600, NOON


class Table(HTMLParser):
    """The rows of a panel's tables: the text of each cell, white space made single."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._within = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._within = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.rows[-1][-1] = " ".join(self.rows[-1][-1].split())
            self._within = False

    def handle_data(self, data: str) -> None:
        if self._within:
            self.rows[-1][-1] += data


class Panels:
    """One page's panels, looking at the hour before noon."""

    def __init__(self, page: Page, put: Put, prefix: str = "") -> None:
        self._put = put
        self._page = page
        self._digest = new_digest(index_prefix=prefix)
        application = FastAPI()
        application.include_router(Layout().router([page]))
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://gateway")

    async def send(self, *events: dict[str, Any]) -> None:
        """Store what a gateway makes of events; none may be refused."""
        draft, refused = draft_of(new_block(*events), self._digest)
        assert not refused
        await self._put(list(draft.documents))

    async def get(self, panel: str, **asked: str) -> str:
        """Return a panel."""
        stretch = {"from": str(SINCE), "to": str(UNTIL)}
        answer = await self.http.get(f"/console/{self._page.name}/{panel}", params={**stretch, **asked})
        assert answer.status_code == 200, answer.text
        return answer.text

    async def figures(self, **asked: str) -> dict[str, str]:
        """Return the figures by name."""
        found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", await self.get("figures", **asked))
        return {unescape(name): unescape(value) for name, value in found}

    async def charts(self, panel: str, **asked: str) -> list[dict[str, Any]]:
        """Return what the charts of a panel are given."""
        html = await self.get(panel, **asked)
        return [json.loads(unescape(each)) for each in re.findall(r'data-chart="(.*?)"', html)]

    async def rows(self, panel: str, **asked: str) -> list[list[str]]:
        """Return the rows of a panel's table, without its head."""
        return Table(await self.get(panel, **asked)).rows[1:]


@asynccontextmanager
async def open_panels(tmp_path: Path, page: Callable[[Asking], Page]) -> AsyncIterator[Panels]:
    """Open a page over an empty store."""
    store = EmbeddedStore(tmp_path / "store.duckdb", SETTINGS)
    await store.open()
    panels = Panels(page(Asking(lambda: store)), lambda groups: fill(store, groups))
    async with panels.http:
        yield panels
    await store.close()


def lines_to_paste(html: str) -> list[dict[str, Any]]:
    """Return the events that a panel says one can send."""
    return [json.loads(unescape(each)) for each in re.findall(r"curl -d '(.*?)' <span", html)]
