"""What a page looks at, as its address has it."""

import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from gateway.console.layout import Layout, Page
from gateway.console.routes import range_of
from gateway.console.view import MOST_POINTS, RANGES, view
from gateway.store.aggregation import Question
from gateway.store.query import QueryError
from tests.monitoring.telling import NOW, Disk, prediction, told

FIELDS = {"model": "model_name"}


def test_without_anything_it_is_the_last_hour() -> None:
    """A page opened by its bare address shows what is new."""
    looked_at = view([], ["model"])
    assert looked_at.until - looked_at.since == 3600
    assert looked_at.address("/models") == "/models"


@pytest.mark.anyio
async def test_what_began_lately_is_not_a_dot_in_an_empty_hour() -> None:
    """With events of the last minutes alone a page shows 15 minutes, and so do all of its panels."""
    disk = Disk()
    application = FastAPI()
    page = Page("quality", "/quality", "Data quality", ("dataset", "column", "check"))
    application.include_router(Layout(lambda: range_of(disk.figures)).router([page]))
    async with AsyncClient(transport=ASGITransport(application), base_url="http://gateway") as client:
        for minutes, shown in ((0, "1h"), (3, "15m"), (14, "15m"), (16, "1h"), (200, "15m")):
            if minutes:
                disk.clock.now = NOW + 60 * minutes
                disk.take(told(NOW, prediction()), told(disk.clock.now, prediction()))
            text = (await client.get("/quality")).text
            assert re.findall(r'aria-current="true">(.*?)</a>', text) == [shown]
            assert {urlsplit(each).query for each in re.findall(r'data-panel="(.*?)"', text)} == {f"range={shown}"}
            assert 'href="/quality"' in text, "a link to a page begins anew, unless a stretch was chosen"


@pytest.mark.parametrize("name", RANGES)
def test_a_stretch_has_a_bounded_number_of_points(name: str) -> None:
    """A chart of a month is as quick as one of an hour."""
    looked_at = view([("range", name)], [])
    assert RANGES[name] / looked_at.step_secs <= MOST_POINTS


@pytest.mark.parametrize("since", ["2026-11-01", "1970-01-01", "0001-01-01"])
def test_so_has_one_that_was_typed(since: str) -> None:
    """However long a time somebody asks for, it is a chart of so many points."""
    looked_at = view([("from", since), ("to", "2026-11-21T12:00:00Z")], [])
    assert (looked_at.until - looked_at.since) / looked_at.step_secs <= (25 if since < "1900" else 1) * MOST_POINTS


@pytest.mark.parametrize("since", ["2026-11-20", "2025-01-01", "2020-01-01", "1990-01-01", "0001-01-01"])
def test_a_long_time_can_be_charted(since: str) -> None:
    """Whatever the stretch, the store takes the interval of its charts."""
    looked_at = view([("from", since), ("to", "2026-11-22")], [])
    question = Question(looked_at.query("ml-metrics-*", {}), interval=looked_at.interval)
    assert question.interval_secs == looked_at.step_secs


def test_an_address_leads_to_the_same_view() -> None:
    """What one sends to a colleague shows what one saw."""
    parameters = [("from", "2026-11-01T00:00:00Z"), ("to", "2026-11-02T00:00:00Z"), ("model", "a b&c"), ("q", "x y")]
    looked_at = view(parameters, ["model", "q"])
    again = view(parse_qsl(urlsplit(looked_at.address("/models")).query), ["model", "q"])
    assert again == looked_at
    query = again.query("ml-metrics-*", FIELDS, limit=7)
    assert query.where == (("model_name", "a b&c"),)
    assert query.words == ["x", "y"]
    assert query.limit == 7
    assert query.until_us is not None
    assert query.since_us is not None
    assert query.until_us - query.since_us == 86_400_000_000


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ([("range", "2h")], "range is '2h'"),
        ([("from", "yesterday")], "from is 'yesterday'"),
        ([("from", "2026-11-02"), ("to", "2026-11-01")], "from must be before to"),
        ([("to", "0001-01-01T00:00:00Z")], "between the years 1 and 9999"),
        ([("to", "9999-12-31T23:59:30Z")], "between the years 1 and 9999"),
        ([("colour", "red")], "'colour' is not a parameter"),
        ([("model", "a"), ("model", "b")], "model is given twice"),
    ],
)
def test_what_makes_no_sense_is_told(parameters: list[tuple[str, str]], told: str) -> None:
    """A mistyped address says what is wrong with it."""
    with pytest.raises(QueryError, match=told):
        view(parameters, ["model"])


@pytest.mark.anyio
async def test_a_time_range_can_be_typed() -> None:
    """Its fields show what is looked at, to the minute, and keep the filters; what makes no sense is told."""
    application = FastAPI()
    application.include_router(
        Layout().router([Page("quality", "/quality", "Data quality", ("dataset", "column", "check"))])
    )
    async with AsyncClient(transport=ASGITransport(application), base_url="http://gateway") as client:
        asked = {"from": "2026-11-20T10:00:30Z", "to": "2026-11-20T11:30:30Z", "check": "a&b"}
        shown = (await client.get("/quality", params=asked)).text
        typed = dict(re.findall(r'name="(from|to)" form="stretch" value="(.*?)"', shown))
        assert typed == {"from": "2026-11-20T10:00", "to": "2026-11-20T11:31"}
        form = re.search(r'<form method="get" action="/quality" id="stretch">(.*?)</form>', shown, re.DOTALL)
        assert form is not None
        assert re.findall(r'name="(.*?)" value="(.*?)"', form[1]) == [("check", "a&amp;b")]
        for wrong, told in (
            ({"from": "yesterday"}, "from is &#39;yesterday&#39;, not a time: write ISO 8601 such as"),
            ({"from": "2026-11-21T10:00", "to": "2026-11-21T09:00"}, "from must be before to."),
        ):
            answer = await client.get("/quality", params=wrong)
            assert answer.status_code == 400
            assert re.search(r'<p class="problem" role="alert">(.*?)</p>', answer.text)[1].startswith(told)  # type: ignore[index]
