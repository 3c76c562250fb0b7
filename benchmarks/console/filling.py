"""A data directory with the events of a day, made once and kept."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import orjson

from benchmarks.measure import Cores, on
from benchmarks.processes import Wrong
from benchmarks.run import settled
from gateway.cli.traffic import Scenario, Traffic
from tests.gateway_process import Gateway

HOURS = 24
EVENTS_A_REQUEST = 5_000
REFUSED = 500
_REFUSED = b'{"model_name":"fraud_detector","prediction_confidence":7}'
PATIENCE_SECS = 300
BUSY_SECS = 0.1
LEAST_SHARE = 0.8  # of the events must lie within the last day: the rest of an old folder is not looked at


def filled(folder: Path, events: int, say: Callable[[str], None]) -> Path:
    """Return the data directory below ``folder`` that a gateway stored so many events of the last day in."""
    made = folder / f"console-{events}"
    if not made.exists():
        say(f"{events:,} events into {made}")
        unfinished = folder / f"console-{events}.{os.getpid()}"
        try:
            with closing(Gateway(unfinished, data_dir=unfinished / "data")) as gateway:
                gateway.start()
                gateway.wait_ready()
                with httpx.Client(base_url=gateway.url, trust_env=False, timeout=PATIENCE_SECS) as client:
                    for lines in _day(events):
                        _post(client, lines)
                    _post(client, [_REFUSED] * REFUSED)
                settled(gateway, events + REFUSED, PATIENCE_SECS)
                if code := gateway.stop(60):
                    raise Wrong(f"the gateway ended with exit code {code}: {gateway.output_tail()}")
            (unfinished / "data").rename(made)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return made


@contextmanager
def serving(made: Path, where: Cores) -> Iterator[Gateway]:
    """Run a gateway on a copy of a filled data directory; raise `Wrong` when it does not end well."""
    with TemporaryDirectory(prefix="bench-console-") as folder:
        shutil.copytree(made, Path(folder) / "data")
        with closing(Gateway(Path(folder), data_dir=Path(folder) / "data")) as gateway:
            with on(where.measured):
                gateway.start()
            gateway.wait_until(lambda status: bool(status["sinks"]["embedded"]["state"] == "ok"))
            yield gateway
            if code := gateway.stop(60):
                raise Wrong(f"the gateway ended with exit code {code}: {gateway.output_tail()}")


def of_last_day(gateway: Gateway) -> int:
    """Return how many events the store has of the last day; raise `Wrong` for too few to tell anything."""
    asked: dict[str, str | int] = {"from": (datetime.now(UTC) - timedelta(hours=HOURS)).isoformat(), "limit": 1}
    found = int(gateway.http.get("/v1/search", params=asked).raise_for_status().json()["total"])
    had = int(gateway.http.get("/v1/search", params={"limit": 1}).raise_for_status().json()["total"])
    if found < LEAST_SHARE * had:
        raise Wrong(f"{found:,} of {had:,} events are of the last {HOURS} h: delete the folder, it is made anew")
    return found


def _day(events: int) -> Iterator[list[bytes]]:
    """Give the events of the last day, oldest first, in parts."""
    traffic, end = Traffic(1, Scenario.NORMAL), datetime.now(UTC)
    for first in range(0, events, EVENTS_A_REQUEST):
        count = min(EVENTS_A_REQUEST, events - first)
        yield [
            orjson.dumps(traffic.event(end - timedelta(hours=HOURS) * (1 - (first + place) / events), 0.0))
            for place in range(count)
        ]


def _post(client: httpx.Client, lines: list[bytes]) -> None:
    body = b"\n".join(lines)
    while (answer := client.post("/v1/events", content=body)).status_code == httpx.codes.TOO_MANY_REQUESTS:
        time.sleep(BUSY_SECS)
    if sum(answer.json()[each] for each in ("accepted", "rejected")) != len(lines):
        raise Wrong(f"the gateway answered {answer.status_code}: {answer.text[:500]}")
