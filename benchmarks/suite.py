"""What is measured of our gateway, in groups, each interleaved and repeated."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.events import Shape, bad_positions, lines
from benchmarks.figures import Figures, quantile
from benchmarks.load import Job
from benchmarks.machine import ROOT
from benchmarks.measure import Cores, cores, cpu_secs, pss_mib
from benchmarks.processes import Sink, Wrong, sender, serving, sink
from benchmarks.run import check_books, measure, settled, started
from tests.gateway_process import Gateway

IDLE_SECS = 1.5  # until what is loaded behind the listeners is there
LEAST_EVENTS_PER_SEC = 500  # slower than this a run is given up
PATIENCE_SECS = 30
WARM_UP = 5  # a fifth of the events is sent before
POSTS = 8  # one event in so many is also sent as a request of its own
PLAIN = Shape()
LATE = 3  # parts in which the spool is filled


@dataclass(frozen=True)
class Load:
    """How events are sent, what they are like, and how many times as many as the suite's."""

    kind: str = "tcp"
    connections: int = 4
    shape: Shape = PLAIN
    times: int = 1


LOADS = {
    "TCP, 4 connections": Load(times=3),  # so that the last batch's wait for more weighs little in events/s
    "HTTP NDJSON of 1,000": Load("http"),
    "acknowledged TCP": Load("ack"),
    "20 % bad lines": Load(shape=Shape(bad=0.2)),
    "1 % bad lines": Load(shape=Shape(bad=0.01)),
    "TCP, 1 connection": Load(connections=1),
    "TCP, 64 connections": Load(connections=64),
    "events of 200 B": Load(shape=Shape(200)),
    "events of 2 kB": Load(shape=Shape(2000)),
    "1,000 models": Load(shape=Shape(models=1000)),
}
TCP = "TCP, 4 connections"
T = TypeVar("T")


@dataclass
class Suite:
    """Measures into ``figures``; its events lie in ``folder``."""

    folder: Path
    events: int
    repeat: int
    secs: float
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self.figures = Figures()
        self.pinned, self.unpinned = cores(pinned=True), cores(pinned=False)

    def counting(self) -> None:
        """Measure every load on one core, and single requests against an endpoint that does nothing."""
        for turn in range(self.repeat):
            with self.gateway(self.pinned, f"one core, turn {turn + 1}") as (gateway, counts):
                for name in _rotated(list(LOADS), turn):
                    self.load(name, gateway, counts, LOADS[name], self.pinned)
                self._posts(gateway, counts)
                self._late(gateway, counts)

    def both(self) -> None:
        """Measure without a core of its own."""
        for turn in range(self.repeat):
            with self.gateway(self.unpinned, f"not pinned, turn {turn + 1}") as (gateway, counts):
                self.load("TCP, not pinned", gateway, counts, Load(times=3), self.unpinned)

    def embedded(self) -> None:
        """Measure with the embedded store, whose search engine is the gateway's own work."""
        for turn in range(self.repeat):
            self.say(f"embedded store, turn {turn + 1}")
            with started(self.unpinned, {}) as (gateway, ready):
                self._idle("embedded", gateway, ready)
                self.load("embedded store", gateway, None, Load(), self.unpinned)

    def latency(self) -> None:
        """Measure how long events take to the sink at fixed rates."""
        with self.gateway(self.pinned, "latency") as (gateway, counts):
            for rate in (1_000, 20_000):
                self.paced(f"{rate:,}/s to the counting sink", gateway, counts, rate, self.pinned)

    def workers(self) -> None:
        """Measure one worker against two, where the gateway has workers."""
        asked = [sys.executable, "-m", "gateway", "serve", "--help"]
        plain = {**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}  # nothing wrapped or coloured
        said = subprocess.run(asked, cwd=ROOT, env=plain, capture_output=True, text=True, check=True).stdout
        if "--workers" not in said:
            self.say("workers: this gateway has none")
            return
        for turn in range(self.repeat):
            for count in _rotated([1, 2], turn):
                args = ("--workers", str(count))
                with self.gateway(self.unpinned, f"workers {count}, turn {turn + 1}", args) as (gateway, counts):
                    self.load(f"workers {count}", gateway, counts, Load(connections=8, times=2), self.unpinned)

    def ceiling(self) -> None:
        """Measure sender and sink with no gateway between them."""
        job = self._job("bulk", PLAIN, 0, 4)
        for turn in range(self.repeat):
            self.say(f"sender to sink, turn {turn + 1}")
            with sink(self.pinned.others) as counts:
                to_sink = Job(job.kind, counts.port, job.file, job.connections)
                with sender(self.pinned.others, to_sink) as ready:
                    cpu = counts.cpu_secs
                    sent = ready.send()
                    self.figures.add("ceiling rate", sent.events / sent.secs)
                    self.figures.add("ceiling sender cpu", sent.cpu_secs / sent.events * 1e6)
                    self.figures.add("ceiling sink cpu", (counts.cpu_secs - cpu) / sent.events * 1e6)

    @contextmanager
    def gateway(self, where: Cores, what: str, args: tuple[str, ...] = ()) -> Iterator[tuple[Gateway, Sink]]:
        """Run a gateway that is warm before a counting sink."""
        self.say(what)
        with (
            sink(where.others) as counts,
            started(where, {"ELASTICSEARCH_URL": counts.url}, args) as (gateway, ready),
        ):
            if not args:
                self._idle("", gateway, ready)
            warm = self._job("tcp", PLAIN, gateway.tcp_port, 4, max(1, self.events // WARM_UP))
            measure("warm-up", gateway, counts, warm, refused=0, where=where)
            yield gateway, counts

    def paced(self, name: str, gateway: Gateway, counts: Sink, rate: int, where: Cores) -> None:
        """Send at a rate; a latency is counted from when its event was due, sent or not."""
        before = gateway.status()["books"]
        had = counts.ask("stamp")["documents"]
        counts.ask("reset")
        file = self.file(PLAIN, 1000, 3)
        job = Job("paced", gateway.tcp_port, str(file), rate=rate, secs=self.secs)
        with sender(where.others, job) as ready:
            sent = ready.send()
        counts.wait(had + sent.events, PATIENCE_SECS)
        books = settled(gateway, before["received"] + sent.events)
        check_books(before, books, sent.events, 0, counts.ask()["documents"] - had)
        found = counts.latencies_ms()
        if len(found) != sent.events:
            raise Wrong(f"{sent.events} events were sent, {len(found)} latencies were noted")
        for share in (50, 99, 99.9):
            self.figures.add(f"latency at {name} p{share:g}", quantile(found, share / 100))

    def file(self, shape: Shape, events: int, seed: int) -> Path:
        """Return a file of events, made at the first call."""
        path = self.folder / f"{shape.size}-{shape.bad}-{shape.models}-{events}-{seed}.ndjson"
        if not path.exists():
            path.write_bytes(b"".join(lines(events, seed, shape)))
        return path

    def patience(self, events: int) -> float:
        """Return after how many seconds a run of so many events is given up."""
        return PATIENCE_SECS + events / LEAST_EVENTS_PER_SEC

    def _job(self, kind: str, shape: Shape, port: int, connections: int, events: int = 0) -> Job:
        events = events or self.events
        file = self.file(shape, events, 2)
        return Job(kind, port, str(file), connections, patience_secs=self.patience(events))

    def load(self, name: str, gateway: Gateway, counts: Sink | None, load: Load, where: Cores) -> None:
        """Send one load and keep its figures under a name."""
        port = gateway.http_port if load.kind == "http" else gateway.tcp_port
        events = self.events * load.times
        job = self._job(load.kind, load.shape, port, load.connections, events)
        refused = len(bad_positions(events, load.shape))
        self.figures.add_run(measure(name, gateway, counts, job, refused=refused, where=where))

    def _idle(self, what: str, gateway: Gateway, ready: float) -> None:
        self.figures.add(f"ready {what}".strip(), ready)
        time.sleep(IDLE_SECS)
        self.figures.add(f"idle {what}".strip(), pss_mib(gateway.pid))

    def _posts(self, gateway: Gateway, counts: Sink) -> None:
        events = max(64, self.events // POSTS)
        job = self._job("post", PLAIN, gateway.http_port, 64, events)
        run = measure("single-event POSTs", gateway, counts, job, refused=0, where=self.pinned)
        self.figures.add_run(run)
        self.figures.add("posts rate", run.accepted_per_sec)
        with ExitStack() as stack:
            pid, port = stack.enter_context(serving(self.pinned.measured, "benchmarks.empty"))
            for last in (False, True):  # the first warms it up
                job = self._job("post", PLAIN, port, 64, events)
                with sender(self.pinned.others, job) as ready:
                    cpu = cpu_secs(pid)
                    sent = ready.send()
                if last:
                    self.figures.add("empty endpoint rate", sent.events / sent.secs)
                    self.figures.add("empty endpoint cpu", (cpu_secs(pid) - cpu) / sent.events * 1e6)

    def _late(self, gateway: Gateway, counts: Sink) -> None:
        """Fill the spool in parts while the sink is away, then let it be emptied."""
        before = gateway.status()["books"]
        had = counts.ask("away")["documents"]
        job = self._job("tcp", PLAIN, gateway.tcp_port, 4)
        for part in range(LATE):
            with sender(self.pinned.others, job) as ready:
                cpu = cpu_secs(gateway.pid)
                sent = ready.send()
                received = before["received"] + (part + 1) * sent.events
                gateway.wait_until(lambda status: bool(status["books"]["received"] == received))  # noqa: B023
                cost = (cpu_secs(gateway.pid) - cpu) / sent.events * 1e6
            if part in (0, LATE - 1):
                self.figures.add("into an empty spool cpu" if part == 0 else "into a full spool cpu", cost)
        events = LATE * self.events
        cpu = cpu_secs(gateway.pid)
        counts.ask("reset")
        counts.ask("back")
        seen = counts.wait(had + events, self.patience(events))
        books = settled(gateway, before["received"] + events)
        self.figures.add("recovery cpu", (cpu_secs(gateway.pid) - cpu) / events * 1e6)
        self.figures.add("recovery rate", events / ((seen["last_ns"] - seen["first_ns"]) / 1e9 or 1e-9))
        check_books(before, books, events, 0, seen["documents"] - had)


def _rotated(items: list[T], by: int) -> list[T]:
    by %= len(items)
    return items[by:] + items[:by]
