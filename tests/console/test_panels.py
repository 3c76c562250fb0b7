"""Panels are made once for all who look at the same, no oftener than they may cost, and not for nobody."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import httpx
import pytest
from fastapi import FastAPI

from gateway.console.asking import AT_ONCE, Asking
from gateway.console.layout import Layout
from gateway.console.pages import models
from gateway.console.panels import LEAST_SECS, SHARE, Panels
from gateway.settings import Settings
from gateway.store.query import Hits, Query
from tests.console.slow_store import SLOW_SECS, SlowStore

pytestmark = pytest.mark.anyio


async def test_who_goes_on_looking_shares_what_there_is() -> None:
    """A browser that opens a page gets a new panel, one that keeps it fresh what others were given."""
    store = SlowStore()
    page = models.page(Settings(), Asking(lambda: store))
    application = FastAPI()
    application.include_router(Layout().router([page]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://gateway") as client:
        first = await client.get("/console/models/share?range=24h")
        assert store.ended > 0
        assert int(first.headers["retry-after"]) >= LEAST_SECS
        times = [float(each) for each in re.findall(r"store;dur=([\d.]+)", first.headers["server-timing"])]
        assert len(times) == store.ended
        assert all(each >= 1000 * SLOW_SECS for each in times)
        before = store.ended
        patient = {"cache-control": "max-stale"}
        others = [await client.get("/console/models/share?range=24h", headers=patient) for _ in range(2)]
        assert [each.text for each in others] == [first.text] * 2
        assert store.ended == before
        other = await client.get("/console/models/share?range=7d", headers=patient)
        assert (other.status_code, store.ended > before) == (200, True)


async def test_all_that_is_looked_at_takes_no_more_than_its_share() -> None:
    """The dearer the panels are together, the later they are made again."""
    panels = Panels()

    def costs(secs: float) -> Callable[[], Awaitable[str]]:
        async def make() -> str:
            await asyncio.sleep(secs)
            return "made"

        return make

    cheap = await panels.get(("cheap",), costs(0), patient=True)
    assert cheap.again_secs == LEAST_SECS
    cost = SHARE * (LEAST_SECS + 5)
    dear = await panels.get(("dear",), costs(cost), patient=True)
    assert LEAST_SECS + 5 <= dear.again_secs <= LEAST_SECS + 8
    both = await panels.get(("cheap",), costs(0), patient=True)
    assert both.again_secs >= LEAST_SECS + 3
    anew = await panels.get(("dear",), costs(0), patient=False)
    assert (anew.html, anew.again_secs) == ("made", LEAST_SECS)


async def test_questions_that_nobody_waits_for_end() -> None:
    """Of several who ask the same one may go; when all are gone the question is broken off."""
    store = SlowStore(secs=30)
    asking = Asking(lambda: store)
    asked = [asyncio.create_task(asking.search(Query("a"))) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert (store.begun, store.now) == (1, 1)
    asked[0].cancel()
    await asyncio.wait(asked[:1])
    assert store.now == 1
    asked[1].cancel()
    await asyncio.wait(asked[1:])
    await asyncio.sleep(0.01)
    assert (store.now, store.ended) == (0, 0)
    store.secs = 0
    assert await asking.search(Query("a")) == Hits(0)


async def test_a_page_does_not_ask_everything_at_a_time() -> None:
    """Many questions wait for their turn, and every one is answered."""
    store = SlowStore(secs=0.01)
    asking = Asking(lambda: store)
    await asyncio.gather(*(asking.search(Query(f"index-{number}")) for number in range(20)))
    assert (store.ended, store.most) == (20, AT_ONCE)
