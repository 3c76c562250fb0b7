"""What the figures must be, what they aim at, and where the reason is told when they are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Figures
from benchmarks.suite import TCP

# Fluent Bit 5.1.1, the best of the peers, on two cores such as those of benchmarks/results: its own range there.
BEST_PEER_RATE = 47_000


@dataclass(frozen=True)
class Target:
    """``figure`` is at most ``must``; at least, where ``least``. None: there is no such bound."""

    what: str
    unit: str
    must: float | None
    aim: float
    figure: Callable[[Figures], float | None]
    least: bool = False
    reason: str = ""  # why it is missed, as profiling found

    def row(self, figures: Figures) -> dict[str, Any]:
        """Return what the table says; None where it was not measured."""
        found = self.figure(figures)

        def kept(bound: float | None) -> bool | None:
            if found is None or bound is None:
                return None
            return found >= bound if self.least else found <= bound

        return {
            "what": self.what,
            "unit": self.unit,
            "must": self.must,
            "aim": self.aim,
            "least": self.least,
            "figure": None if found is None else round(found, 3),
            "must_kept": kept(self.must),
            "aim_kept": kept(self.aim),
        }


def _median(name: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.median(name)


def _ratio(above: str, below: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.ratio(above, below)


def _full_load(figures: Figures) -> float | None:
    return figures.median(f"{TCP} peak")


TARGETS = (
    Target(
        "CPU per event, TCP, one core",
        "CPU-s a million",
        8,
        5,
        _median(f"{TCP} cpu"),
        reason="five of it are Python between the fast parts, a few tenths at each of twenty places, and one the "
        "figures of models that each record carries (the table of steps in ARCHITECTURE.md)",
    ),
    Target(
        "events/s on one core",
        "events/s",
        BEST_PEER_RATE,
        2 * BEST_PEER_RATE,
        _median(f"{TCP} rate"),
        least=True,
    ),
    Target("NDJSON over HTTP, CPU against TCP", "×", 1.5, 1.2, _ratio("HTTP NDJSON of 1,000 cpu", f"{TCP} cpu")),
    Target(
        "single-event POSTs, 64 connections, requests/s against an empty FastAPI endpoint",
        "×",
        0.6,
        1.0,
        _ratio("posts rate", "empty endpoint rate"),
        least=True,
    ),
    Target("acknowledged TCP, CPU against plain TCP", "×", 1.3, 1.1, _ratio("acknowledged TCP cpu", f"{TCP} cpu")),
    Target(
        "20 % bad lines, CPU against none",
        "×",
        2,
        1.5,
        _ratio("20 % bad lines cpu", f"{TCP} cpu"),
        reason="a refused event is read again by pydantic or orjson, for its path, rule and message, and kept: about "
        "40 CPU-s a million of them, four times a good one's",
    ),
    Target(
        "embedded store, CPU per event in all",
        "CPU-s a million",
        None,
        10,
        _median("embedded store cpu"),
        reason="half of it is DuckDB's: JSON into columns, write-ahead log and checkpoints, the search for known ids "
        "(the table under Measured in ARCHITECTURE.md)",
    ),
    Target(
        "real Elasticsearch, documents/s against a direct loader",
        "×",
        0.8,
        0.9,
        _median("elasticsearch ratio"),
        least=True,
        reason="gateway and Elasticsearch share the two cores, and fill them: 27 CPU-s a million of Elasticsearch's at "
        "best and 8 of the gateway's make 0.77; Elasticsearch's own cost goes up to 50 and more in some runs (merges)",
    ),
    Target(
        "latency p99 at 1,000/s to the counting sink",
        "ms",
        250,
        100,
        _median("latency at 1,000/s to the counting sink p99"),
        reason="a batch waits 0.2 s for more events (elasticsearch.flush_after_secs)",
    ),
    Target(
        "latency p99 at 1,000/s to the real Elasticsearch",
        "ms",
        400,
        250,
        _median("latency at 1,000/s to Elasticsearch p99"),
    ),
    Target("memory idle, Elasticsearch only", "MiB", 100, 80, _median("idle")),
    Target("memory idle, embedded store", "MiB", 140, 110, _median("idle embedded")),
    Target("memory at full load, Elasticsearch only", "MiB", 200, 150, _full_load),
    Target("memory at full load, embedded store", "MiB", 350, 250, _median("embedded store peak")),
    Target("start to ready", "s", 1.5, 0.8, _median("ready")),
    Target("workers 2 against 1, CPU per event", "×", 1.2, 1.1, _ratio("workers 2 cpu", "workers 1 cpu")),
)
