"""One measurement: a gateway, a sender, a sink, and the books looked at afterwards."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.load import Job
from benchmarks.measure import Cores, PeakMemory, cpu_secs, on
from benchmarks.processes import POLL_SECS, Sink, Wrong, sender
from tests.gateway_process import Gateway

READY_SECS = 30


@dataclass(frozen=True)
class Run:
    """What a run gave, times until the last event was in the sink; shares are of one core, of sender and sink."""

    name: str
    events: int
    refused: int
    secs: float
    events_per_sec: float
    accepted_per_sec: float
    cpu_secs_per_million: float
    peak_mib: float
    sender_share: float
    sink_share: float


@contextmanager
def started(where: Cores, env: Mapping[str, str], args: Sequence[str] = ()) -> Iterator[tuple[Gateway, float]]:
    """Run a fresh gateway with an empty data directory; give it and the seconds until it was ready.

    Raise `Wrong` when it does not end well.
    """
    with (
        TemporaryDirectory(prefix="bench-") as folder,
        closing(Gateway(Path(folder), env=env, args=args)) as gateway,
    ):
        with on(where.measured):
            began = time.perf_counter()
            gateway.start()
        _wait_ready(gateway)
        yield gateway, time.perf_counter() - began
        if code := gateway.stop(60):
            raise Wrong(f"the gateway ended with exit code {code}: {gateway.output_tail()}")


def _wait_ready(gateway: Gateway) -> None:
    deadline = time.monotonic() + READY_SECS
    while time.monotonic() < deadline and gateway.running:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=5)
        try:
            connection.request("GET", "/ready")
            if connection.getresponse().status == http.client.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(POLL_SECS / 2)
    raise Wrong(f"the gateway was not ready within {READY_SECS} s: {gateway.output_tail()}")


def settled(gateway: Gateway, received: int, secs: float = READY_SECS) -> dict[str, Any]:
    """Return the books when so many events have come in all and each is where it belongs."""

    def arrived(status: dict[str, Any]) -> bool:
        books = status["books"]
        waiting = [each["waiting"] for each in books["sinks"].values()]  # none while the sinks are being opened
        return bool(
            books["received"] == received and books["dead_letters"] >= books["refused"] and waiting and not any(waiting)
        )

    books: dict[str, Any] = gateway.wait_until(arrived, secs)["books"]
    return books


def measure(name: str, gateway: Gateway, sink: Sink | None, job: Job, *, refused: int, where: Cores) -> Run:
    """Send once; raise `Wrong` unless the sink, None for the embedded store, got exactly what was sent."""
    before: dict[str, Any] = gateway.status()["books"]
    had = sink.ask("reset")["documents"] if sink else stored(gateway)
    with sender(where.others, job) as ready, PeakMemory(gateway.pid) as memory:
        cpu, sink_cpu, began = cpu_secs(gateway.pid), sink.cpu_secs if sink else 0.0, time.monotonic_ns()
        sent = ready.send()
        good, patience = sent.events - refused, job.patience_secs
        if sink:
            ended = sink.wait(had + good, patience)["last_ns"]
        books = settled(gateway, before["received"] + sent.events, patience)
        if not sink:
            ended = time.monotonic_ns()
        cpu = cpu_secs(gateway.pid) - cpu
        sink_cpu = sink.cpu_secs - sink_cpu if sink else 0.0
    documents = (sink.ask()["documents"] if sink else stored(gateway)) - had
    check_books(before, books, sent.events, refused, documents)
    secs = (ended - began) / 1e9
    return Run(
        name=name,
        events=sent.events,
        refused=refused,
        secs=round(secs, 3),
        events_per_sec=round(sent.events / secs),
        accepted_per_sec=round(sent.events / sent.secs),
        cpu_secs_per_million=round(cpu / sent.events * 1e6, 2),
        peak_mib=round(memory.mib, 1),
        sender_share=round(sent.cpu_secs / sent.secs, 3),
        sink_share=round(sink_cpu / secs, 3),
    )


def stored(gateway: Gateway) -> int:
    """Return how many documents the embedded store finds."""
    found = gateway.http.get("/v1/search", params={"limit": 1}).raise_for_status().json()
    return int(found["total"])


def check_books(before: dict[str, Any], after: dict[str, Any], events: int, refused: int, documents: int) -> None:
    """Raise `Wrong` unless between two looks at the books exactly this was booked, and documents are as many."""
    (name,) = after["sinks"]
    was = before["sinks"].get(name, {})
    sink = after["sinks"][name]
    counted = (
        after["received"] - before["received"],
        after["refused"] - before["refused"],
        sink["indexed"] + sink["duplicates"] - was.get("indexed", 0) - was.get("duplicates", 0),
        documents,
        after["difference"],
    )
    if counted != (events, refused, events - refused, events - refused, 0):
        raise Wrong(
            f"{events} events were sent, {refused} of them bad, the sink got {documents}; "
            f"the gateway's books before: {before}, after: {after}"
        )
