"""The page of the models as it is answered: what is empty, what is written by others, the file for spreadsheets."""

import csv
import html
import io
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import httpx
import pytest
from fastapi import FastAPI

from gateway.console.asking import Asking
from gateway.console.layout import Layout
from gateway.console.pages import models
from gateway.console.pages.models.page import SHOWN_ROWS
from gateway.settings import Settings
from gateway.store.embedded import EmbeddedStore
from tests.pipeline.blocks import new_digest, store
from tests.store.documents import SETTINGS, fill, group

pytestmark = pytest.mark.anyio

PANELS = [*models.page(Settings(), Asking(lambda: None)).panels]
EVIL = '<script>alert("1")</script>&\''


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """An empty store."""
    opened = EmbeddedStore(tmp_path / "store.duckdb", SETTINGS)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def client(embedded: EmbeddedStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the page over the store."""
    asking = Asking(lambda: embedded)
    application = FastAPI()
    application.include_router(models.router(Settings(), asking))
    application.include_router(Layout().router((models.page(Settings(), asking),)))
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def put(embedded: EmbeddedStore, *events: dict[str, Any]) -> None:
    """Put events of the last minutes into the store, as the gateway does."""
    now = datetime.now(UTC)
    at = (now - timedelta(minutes=5)).isoformat()
    made = store(*({"timestamp": at, **each} for each in events), digest=new_digest(), now=now.timestamp())
    await fill(embedded, [group(each.index, (each.id, each.document)) for each in made])


async def shown(client: httpx.AsyncClient, panel: str, query: str = "") -> str:
    answer = await client.get(f"/console/models/{panel}{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8"), answer.text
    return answer.text


@pytest.mark.parametrize("panel", PANELS)
async def test_nothing_there(client: httpx.AsyncClient, panel: str) -> None:
    """Without predictions each panel says so; with a filter that fits none it says which."""
    if panel != "matrix":  # which asks for a model first
        assert "No predictions in this time range." in await shown(client, panel)
    text = await shown(client, panel, "?model=nobody&region=eu")
    assert "No predictions in this time range of model “nobody”, region “eu”." in text


async def test_the_first_one_can_be_pasted(client: httpx.AsyncClient, embedded: EmbeddedStore) -> None:
    """What the empty page tells to send fills every figure but the errors."""
    line = re.search(r"curl -d '(.+)' <span", await shown(client, "figures"))
    assert line is not None
    await put(embedded, json.loads(html.unescape(line[1])))
    text = await shown(client, "figures", "?range=15m")  # answers are kept for some seconds
    assert re.findall("<dd>(.+?)</dd>", text) == ["1", ANY, "0.0 %", "1", *["25 ms"] * 4]
    (rate,) = re.findall("<dd>(.+) /h</dd>", text)
    assert 3600 / (300 + 20) < float(rate) < 3600 / (300 - 4), "since the first one, some hundredths of it early"
    assert re.search(r"on average over 5 min( \d+ s)?, since the first<", text)


async def test_what_is_not_told(client: httpx.AsyncClient, embedded: EmbeddedStore) -> None:
    """What is not known of predictions is –, with the reason and a line to send."""
    await put(embedded, {"model_name": "bare"})
    reasons = {
        "latency": "inference_time_ms", "buckets": "inference_time_ms", "confidence": "prediction_confidence",
        "sureness": "prediction_confidence", "histogram": "prediction_confidence", "accuracy": "true_label",
        "correctness": "true_label", "matrix": "true_label", "load": "cpu_usage", "memory": "memory_usage_mb",
    }  # fmt: skip
    for panel, field in reasons.items():
        text = await shown(client, panel, "?model=bare")
        assert field in text.partition("<pre")[0]
        line = re.search(r"curl -d '(.+)' <span", text)
        assert line is not None
        await put(embedded, {**json.loads(html.unescape(line[1])), "model_name": f"of {panel}"})
        assert "curl" not in await shown(client, panel, f"?model=of+{panel}")
    figures = await shown(client, "figures", "?model=bare")
    assert re.findall("<dd>(.+?)</dd>", figures)[4:] == ["–"] * 4
    assert figures.count("none has inference_time_ms") == 4
    assert "None of 1 predictions has an error_message" in await shown(client, "errors", "?model=bare")
    (row,) = re.findall("<tr>\n(.+?)</tr>", await shown(client, "table", "?model=bare"), re.DOTALL)
    assert len(re.findall(r">\s*–", row)) == 6  # version, environment, two latencies, confidence, accuracy


@pytest.mark.parametrize("panel", PANELS)
async def test_numbers_too_large_to_add_up(client: httpx.AsyncClient, embedded: EmbeddedStore, panel: str) -> None:
    """A sender's nonsense is no average, and takes no panel from the others."""
    huge = dict.fromkeys(("inference_time_ms", "cpu_usage", "gpu_usage", "memory_usage_mb"), 1.7e308)
    await put(embedded, {"model_name": "huge", **huge}, {"model_name": "huge", **huge}, {"model_name": "sound"})
    assert (await client.get(f"/console/models/{panel}")).status_code == 200


@pytest.mark.parametrize("panel", PANELS)
async def test_what_others_wrote_is_text(client: httpx.AsyncClient, embedded: EmbeddedStore, panel: str) -> None:
    """Names, classes and messages never become markup, wherever they are shown."""
    texts = dict.fromkeys(("model_name", "model_version", "environment", "region", "prediction_class"), EVIL)
    numbers = {"prediction_confidence": 0.5, "inference_time_ms": 3, "cpu_usage": 3, "memory_usage_mb": 3}
    await put(embedded, {**texts, **numbers, "true_label": "x" + EVIL, "error_message": EVIL})
    for query in ("", f"?{httpx.QueryParams(model=EVIL)}"):
        text = await shown(client, panel, query)
        assert "<script" not in text
        for chart in re.findall(r'data-chart="([^"]*)"', text):
            assert json.loads(html.unescape(chart))["series"]
    narrowed = (await client.get(f"/models?{httpx.QueryParams(model=EVIL)}")).text
    assert (
        f"<option selected>{html.escape(EVIL).replace('&quot;', '&#34;').replace('&#x27;', '&#39;')}</option>"
        in narrowed
    )


async def test_a_name_narrows_the_page(client: httpx.AsyncClient, embedded: EmbeddedStore) -> None:
    """A model's name leads to the page of that model alone, over the same time."""
    await put(embedded, {"model_name": "a&b c"}, {"model_name": "other"}, {"model_name": "other"})
    text = await shown(client, "table", "?range=6h")
    links = [html.unescape(each) for each in re.findall('href="(/models[^"]*)"', text)]
    assert links == ["/models?range=6h&model=other", "/models?range=6h&model=a%26b+c"]
    assert "of 1 model" in await shown(client, "figures", links[1].removeprefix("/models"))
    matrix = await shown(client, "matrix", "?range=6h")
    assert [html.unescape(each) for each in re.findall('href="(/models[^"]*)"', matrix)] == links


async def test_how_many_rows_there_are(client: httpx.AsyncClient, embedded: EmbeddedStore) -> None:
    """The table says how many rows it has, and when it does not show them all of how many."""
    await put(embedded, {"model_name": "rare", "model_version": "1"}, {"model_name": "rare", "model_version": "2"})
    assert "2 rows, the most predictions first" in " ".join((await shown(client, "table")).split())
    await put(embedded, *({"model_name": f"m{n}"} for n in range(SHOWN_ROWS) for _ in range(2)))
    text = " ".join((await shown(client, "table", "?range=6h")).split())
    told = "200 of 202 rows are shown, those with the most predictions; 2 predictions are in the others."
    assert told in text
    assert text.count("<tr>") == 1 + 200
    assert ">rare<" not in text


async def test_the_file_for_spreadsheets(client: httpx.AsyncClient, embedded: EmbeddedStore) -> None:
    """The file has a row for each model, version and environment, and nothing in it is taken for a formula."""
    await put(
        embedded,
        *({"model_name": "fraud", "inference_time_ms": ms, "prediction_confidence": 0.5} for ms in (10, 20, 40)),
        *({"model_name": "=1+1", "model_version": version} for version in ("+1", "-1", "@a", '"x",\ny', "\t=1")),
        {"model_name": "right", "environment": "prod", "prediction_class": 1, "true_label": 1, "error": True},
    )
    page = await shown(client, "table", "?range=6h")
    (address,) = re.findall('href="(/console/models/[^"]*)" download', page)
    answer = await client.get(html.unescape(address))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="models-\d{4}-\d\d-\d\d\.csv"', answer.headers["content-disposition"])
    rows = [*csv.DictReader(io.StringIO(answer.text, newline=""))]
    fraud, right = rows[0], next(row for row in rows if row["model"] == "right")
    assert (fraud["model"], fraud["version"], fraud["predictions"], fraud["accuracy"]) == ("fraud", "", "3", "")
    assert float(fraud["average latency (ms)"]) == pytest.approx(70 / 3)
    assert float(fraud["P95 latency (ms)"]) == pytest.approx(38)
    assert float(fraud["average confidence"]) == 0.5
    assert (right["environment"], right["accuracy"], right["labelled"], right["errors share"]) == (
        "prod",
        "1.0",
        "1",
        "1.0",
    )
    # One right answer of one: of the shares with 95 % the least is 1 / (1 + 1.96²).
    assert float(right["accuracy at least (95 %)"]) == pytest.approx(1 / (1 + 1.96**2), abs=1e-4)
    strange = {row["version"] for row in rows if row["model"] == "'=1+1"}
    assert strange == {"'+1", "'-1", "'@a", '"x",\ny', "'\t=1"}
    only = await client.get("/console/models/table.csv?model=right")
    assert len(only.text.splitlines()) == 2


async def test_what_makes_no_sense(client: httpx.AsyncClient) -> None:
    """A wrong address is told in one sentence, on the page, in a panel and instead of the file."""
    for path in ("/models", "/console/models/figures", "/console/models/table.csv"):
        answer = await client.get(f"{path}?range=2h")
        assert answer.status_code == 400
        assert "range is" in answer.text
        assert "must be one of 15m, 1h, 6h, 24h, 7d, 30d." in answer.text


async def test_the_store_is_being_opened() -> None:
    """Before the store is there the panels say so."""
    asking = Asking(lambda: None)
    application = FastAPI()
    application.include_router(models.router(Settings(), asking))
    application.include_router(Layout().router((models.page(Settings(), asking),)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://gateway") as client:
        assert (await client.get("/models")).status_code == 200
        for path, status in (("figures", 200), ("table.csv", 503)):
            answer = await client.get(f"/console/models/{path}")
            assert (answer.status_code, "being opened" in answer.text) == (status, True)
