"""The first page in a real browser."""

import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from tests.gateway_process import Gateway, GatewayFactory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]  # fmt: skip


def rendered(running: Gateway, folder: Path, size: str) -> str:
    """Return the page's document after a few seconds of its own time, at a window size."""
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing")
        pytest.skip("chromium is missing: apt-get install chromium")
    ended = subprocess.run(
        [browser, *QUIET, f"--user-data-dir={folder / size}", f"--window-size={size}",
         "--virtual-time-budget=5000", "--dump-dom", running.url + "/"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return ended.stdout


def counts(page: str) -> dict[str, str]:
    """Return the figures at the top by their names."""
    return dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page))


def test_an_empty_gateway_says_how_to_begin(gateway: GatewayFactory, tmp_path: Path) -> None:
    """Without events the page has a line to paste, with this gateway's own address."""
    running = gateway()
    page = rendered(running, tmp_path, "1200,800")
    assert "All is well" in page
    (line,) = re.findall(r'<pre id="paste">([^<]*)</pre>', page)
    assert unescape(line).startswith('curl -d \'{"model_name"')
    assert line.endswith(f"{running.url}/v1/events")


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
    page = rendered(running, tmp_path, size)
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
    page = rendered(running, tmp_path, "1200,800")
    assert "Needs a look" in page
    assert "elasticsearch is retrying" in page
