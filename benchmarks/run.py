"""One measurement: a fresh gateway, a sender, a sink, and the books looked at afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.load import SEND
from benchmarks.machine import ROOT
from benchmarks.measure import cpu_secs, peak_mib
from benchmarks.sinks import SINKS, Sink
from tests.gateway_process import Gateway

PATIENCE_SECS = 30
LEAST_EVENTS_PER_SEC = 500  # slower than this a run is given up
WARM_UP = 10  # a tenth of the events is sent before


class Wrong(Exception):
    """A run whose figures mean nothing: events are missing, doubled or late."""


@dataclass(frozen=True)
class Figures:
    """What a run gave. Times are until the last event was in the sink; ``accepted`` is until the sender was told."""

    source: str
    sink: str
    events: int
    bytes: int
    seconds: float
    events_per_sec: int
    accepted_per_sec: int
    cpu_secs_per_million: float
    peak_mib: float
    ready_secs: float


def run(source: str, sink_name: str, events: int) -> Figures:
    """Measure; raise `Wrong` when the sink does not hold what was sent."""
    secs = PATIENCE_SECS + events // LEAST_EVENTS_PER_SEC
    with (
        TemporaryDirectory(prefix="bench-") as folder,
        SINKS[sink_name]() as sink,
        closing(Gateway(Path(folder), env=sink.env)) as gateway,
    ):
        started = time.perf_counter()
        gateway.start()
        gateway.wait_ready()
        ready_secs = time.perf_counter() - started

        before = max(1, events // WARM_UP)
        with _sender(source, gateway, before, 1, secs) as sender:
            sender.send()
        _wait(gateway, sink, before, secs)

        with _sender(source, gateway, events, 2, secs) as sender:
            cpu, began = cpu_secs(gateway.pid), time.perf_counter()
            accepted_secs = sender.send()
            _wait(gateway, sink, before + events, secs)
            seconds, cpu = time.perf_counter() - began, cpu_secs(gateway.pid) - cpu
        peak = peak_mib(gateway.pid)
        check_books(gateway.status()["books"], sink.name, before + events, sink.count(gateway.url))
        if code := gateway.stop():
            raise Wrong(f"the gateway ended with exit code {code}: {gateway.output_tail()}")
    return Figures(
        source=source,
        sink=sink_name,
        events=events,
        bytes=sender.bytes,
        seconds=round(seconds, 3),
        events_per_sec=round(events / seconds),
        accepted_per_sec=round(events / accepted_secs),
        cpu_secs_per_million=round(cpu / events * 1e6, 2),
        peak_mib=round(peak, 1),
        ready_secs=round(ready_secs, 2),
    )


class _Sender:
    """The sender's process, its lines ready."""

    def __init__(self, process: subprocess.Popen[str], secs: int) -> None:
        self._process = process
        self._secs = secs
        assert process.stdout is not None
        words = process.stdout.readline().split()
        if len(words) != 2:
            raise Wrong("the sender did not start: see above")
        self.bytes = int(words[1])

    def send(self) -> float:
        """Let it send; return the seconds until all is answered."""
        said, _ = self._process.communicate("go\n", timeout=self._secs)
        if self._process.returncode:
            raise Wrong("the sender failed: see above")
        return float(said)


@contextmanager
def _sender(source: str, gateway: Gateway, events: int, seed: int, secs: int) -> Iterator[_Sender]:
    port = {"tcp": gateway.tcp_port, "http": gateway.http_port}[source]
    command = [sys.executable, "-m", "benchmarks.load", source, *map(str, (port, events, seed, secs))]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _Sender(process, secs)
        finally:
            process.kill()
            process.wait()  # which Popen does not, behind Ctrl-C


def _wait(gateway: Gateway, sink: Sink, events: int, secs: int) -> None:
    """Return when the gateway says that the sink has everything."""

    def settled(status: dict[str, Any]) -> bool:
        books = status["books"]
        return bool(books["received"] == events and books["sinks"][sink.name]["waiting"] == 0)

    gateway.wait_until(settled, secs)


def check_books(books: dict[str, Any], sink: str, events: int, documents: int) -> None:
    """Raise `Wrong` unless all ``events`` were accepted and indexed, and the sink holds as many ``documents``."""
    counted = (documents, books["accepted"], books["sinks"][sink]["indexed"], books["difference"])
    if counted != (events, events, events, 0):
        raise Wrong(f"{events} events were sent, the sink holds {documents}; the gateway's books: {books}")


SOURCES = tuple(SEND)
