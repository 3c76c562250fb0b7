"""The first page in a real browser."""

import asyncio
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest
from fastapi import FastAPI

from gateway.console import pages
from gateway.settings import Http
from gateway.sources.http.server import HttpServer
from tests.end_to_end.test_own_schemas import settings
from tests.gateway_process import GatewayFactory
from tests.programs import need

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]  # fmt: skip


def rendered(url: str, folder: Path, size: str) -> str:
    """Return the page's document after a few seconds of its own time, at a window size."""
    need("chromium")
    ended = subprocess.run(
        ["chromium", *QUIET, f"--user-data-dir={folder / size}", f"--window-size={size}",
         "--virtual-time-budget=5000", "--dump-dom", url + "/"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return ended.stdout


def counts(page: str) -> dict[str, str]:
    """Return the figures at the top by their names."""
    return dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page))


def test_an_empty_gateway_says_how_to_begin(gateway: GatewayFactory, tmp_path: Path) -> None:
    """Without events the page has a line to paste, with this gateway's own address."""
    running = gateway()
    page = rendered(running.url, tmp_path, "1200,800")
    assert "All is well" in page
    (line,) = re.findall(r'<pre id="paste">([^<]*)</pre>', page)
    assert unescape(line).startswith('curl -d \'{"model_name"')
    assert line.endswith(f"{running.url}/v1/events")


def test_every_index_can_be_chosen(gateway: GatewayFactory, tmp_path: Path) -> None:
    """The list holds this gateway's indices, each once: with its prefix, with kinds of one's own."""
    running = gateway(config=settings(tmp_path, events={"index_prefix": "team-a-"}))
    page = rendered(running.url, tmp_path, "1200,800")
    options = re.findall(r'<option value="([^"]*)">([^<]*)</option>', page)
    assert options[0] == ("*", "all")
    assert ("team-a-ml-metrics-*", "team-a-ml-metrics") in options
    assert ("team-a-ml-sensors-*", "team-a-ml-sensors") in options
    told = {kind["index"] for kind in running.http.get("/v1/schemas").json()["schemas"]}
    assert sorted(value for value, _ in options[1:]) == sorted(told)


@pytest.mark.anyio
async def test_without_the_list_of_indices(tmp_path: Path) -> None:
    """Where `/v1/schemas` does not answer the page shows what there is in all indices."""
    application = FastAPI()
    application.include_router(pages.router())
    books = {"received": 1, "refused": 0, "dead_letters": 0, "difference": 0, "sinks": {}}
    hits = [{"_index": "an-index", "_id": "1", "_source": {"message": "hello from a log"}}]
    application.get("/status")(lambda: {"books": books, "sinks": {}, "spool": {}})
    application.get("/v1/search")(lambda index: {"total": 1, "hits": hits if index == "*" else [], "cursor": None})
    server = HttpServer(Http(port=0), application)
    await server.start()
    page = await asyncio.to_thread(rendered, f"http://127.0.0.1:{server.port}", tmp_path, "1200,800")
    await server.stop()
    assert "hello from a log" in page
    assert re.findall(r"<option[^>]*>([^<]*)", page) == ["all"]


@pytest.mark.parametrize("size", ["1200,800", "390,844"], ids=["desktop", "phone"])
def test_events_and_counts_are_shown(gateway: GatewayFactory, tmp_path: Path, size: str) -> None:
    """Latest events and counts are there, and what an event says is text, never markup."""
    running = gateway()
    running.http.post(
        "/v1/events",
        content=b'{"model_name":"<script>alert(1)</script>","prediction_confidence":0.93,"inference_time_ms":25}\n'
        b'{"message":"hello from a log","level":"INFO"}\nbroken',
    )
    running.wait_until(
        lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 2 and now["books"]["dead_letters"] == 1
    )
    page = rendered(running.url, tmp_path, size)
    shown = counts(page)
    assert (shown["Received"], shown["Stored"], shown["Refused"], shown["Missing"]) == ("3", "2", "1", "0")
    assert "hello from a log" in page
    assert "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>" in page
    assert "confidence 0.93 · high · 25 ms · fast" in page


def test_trouble_is_told(gateway: GatewayFactory, tmp_path: Path) -> None:
    """With an Elasticsearch that is not there the page says which sink is in trouble and why."""
    running = gateway(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1"})
    running.http.post("/v1/events", content=b'{"model_name":"m"}')
    running.wait_until(lambda now: now["sinks"]["elasticsearch"]["state"] == "retrying")
    page = rendered(running.url, tmp_path, "1200,800")
    assert "Needs a look" in page
    assert "elasticsearch is retrying" in page
