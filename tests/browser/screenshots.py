"""Pictures of the console for the documents: ``python -m tests.browser.screenshots``, or `make screenshots`.

A gateway of its own gets an hour of invented traffic, in which one model gets worse and towards the end a
service fails, and takes some more while the pictures are taken. The same seeds make the same events; the times
are those of today.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from gateway.cli.traffic import Scenario, Traffic
from tests.browser.chromium import chromium
from tests.browser.view import DESKTOP, PHONE, Scheme, Size, View
from tests.gateway_process import ROOT, Gateway

# The pictures' names and what they show; of the first there is one in the dark and one on a phone too.
PAGES = {
    "overview": "/",
    "models": "/models",
    "training": "/training",
    "logs": "/logs",
    "events": "/events",
    "dead-letters": "/dead-letters",
    "quality": "/quality",
}
FOLDER = ROOT / "docs" / "screenshots"
MAX_BYTES = 200_000
MINUTES = 60
# Once filled, a page still draws its charts.
SETTLED_MS = 1000
REFUSED = [
    b'{"model_name":"fraud_detector","prediction_confidence":1.7,"inference_time_ms":25}',
    b'{"model_name":"fraud_detector","prediction_confidence":"high","inference_time_ms":31}',
    b'{"model_name":"churn_classifier","inference_time_ms":-4}',
    b'{"timestamp":"2024-01-15T10:00:00Z","model_name":"churn_classifier","inference_time_ms":25}',
    b'{"amount":12.5,"currency":"EUR"}',
    b'{"model_name":"fraud_detector","prediction_confidence":0.9',
]


def hour(end: datetime) -> Iterator[list[bytes]]:
    """Give the events of the hour before ``end``, those of a minute at a time."""
    usual, worse, failing = Traffic(1, Scenario.NORMAL), Traffic(2, Scenario.DEGRADATION), Traffic(3, Scenario.ERRORS)
    for minute in range(MINUTES):
        start = end - timedelta(minutes=MINUTES - minute)
        since_three_quarters = minute / MINUTES * 4 - 3
        parts = [(usual, 120, 0.0), (worse, 60, minute / MINUTES)]
        if since_three_quarters >= 0:
            parts.append((failing, 40, since_three_quarters))
        yield [
            orjson.dumps(traffic.event(start + timedelta(seconds=60 * place / count), progress))
            for traffic, count, progress in parts
            for place in range(count)
        ]


def fill(running: Gateway) -> None:
    """Send the hour, and some events that are refused; return when all of them can be found."""
    for events in hour(datetime.now(UTC).replace(second=0, microsecond=0)):
        assert running.http.post("/v1/events", content=b"\n".join(events)).json()["rejected"] == 0
    assert running.http.post("/v1/events", content=b"\n".join(REFUSED)).json()["rejected"] == len(REFUSED)
    running.wait_until(
        lambda now: now["books"]["sinks"]["embedded"]["waiting"] == 0 and now["books"]["dead_letters"] == len(REFUSED),
        timeout=60,
    )


@contextmanager
def live(running: Gateway) -> Iterator[None]:
    """Send 50 events a second for as long as the block runs."""
    with (running.folder / "sender.txt").open("wb") as log:
        sender = subprocess.Popen(
            [sys.executable, "-m", "gateway", "generate", "--continuous", "--seed", "4"],
            cwd=running.folder, env=running.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
        assert sender.poll() is None, (running.folder / "sender.txt").read_text(encoding="utf-8")
    finally:
        sender.terminate()
        sender.wait()


def take(pages: Mapping[str, str], folder: Path, temporary: Path) -> list[Path]:
    """Write the pictures into ``folder``; AssertionError for a page with a fault or a picture of 200 kB and more."""
    first, path = next(iter(pages.items()))
    # The first page last: by then there are some seconds of traffic to be seen.
    others: list[tuple[str, str, Size, Scheme]] = [(name, path, DESKTOP, "light") for name, path in pages.items()]
    shots = [*others[1:], others[0]]
    shots += [(f"{first}-dark", path, DESKTOP, "dark"), (f"{first}-phone", path, PHONE, "light")]
    written, running = [], Gateway(temporary)
    try:
        running.start()
        running.wait_ready()
        fill(running)
        running.restart()  # what came all at once is no traffic of the last minutes
        with live(running), chromium() as browser:
            for name, path, size, scheme in shots:
                view = View(browser, running.url, size, scheme=scheme)
                view.open(path)
                view.page.wait_for_timeout(SETTLED_MS)
                picture = view.page.screenshot(animations="disabled", caret="hide")
                view.close()
                assert not view.faults, f"{path}: {view.faults}"
                assert len(picture) < MAX_BYTES, f"{name}.png has {len(picture)} bytes, the limit is {MAX_BYTES}"
                folder.mkdir(parents=True, exist_ok=True)
                written.append(folder / f"{name}.png")
                written[-1].write_bytes(picture)
    finally:
        running.close()
    return written


if __name__ == "__main__":
    if shutil.which("chromium") is None:
        sys.exit("chromium is missing: apt-get install chromium")
    with tempfile.TemporaryDirectory() as temporary:
        for written in take(PAGES, FOLDER, Path(temporary)):
            sys.stdout.write(f"{written.relative_to(ROOT)}  {written.stat().st_size / 1000:.0f} kB\n")
