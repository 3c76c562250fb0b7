"""One snapshot of everything an operator asks: the JSON of `/status` and the gauges of `/metrics`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import gateway
from gateway.logs import write_kept_back
from gateway.sinks.lanes import Lanes
from gateway.spool.books import total
from gateway.spool.folders import Folders
from gateway.spool.letters import LetterBox
from gateway.spool.record import Counts
from gateway.spool.state import State
from gateway.telemetry import Telemetry

log = structlog.get_logger(__name__)
LASTING_SECS = 5.0


class Overview(Collector):
    """Reads spool, cursors and sinks in one go, without waiting, so that the figures fit together."""

    def __init__(
        self,
        spool: Folders,
        state: State,
        sinks: Callable[[], list[Lanes]],
        sources: Callable[[], dict[str, dict[str, Any]]],
        telemetry: Telemetry,
        letter_boxes: list[LetterBox],
        workers: Callable[[], list[dict[str, Any]]],
    ) -> None:
        self._spool = spool
        self._state = state
        self._sinks = sinks
        self._sources = sources
        self._telemetry = telemetry
        self._letter_boxes = letter_boxes
        self._workers = workers
        self._started = time.time()
        self._off: list[str] = []
        telemetry.registry.register(self)

    def status(self) -> dict[str, Any]:
        """Return the snapshot."""
        spool = self._spool
        counts = spool.counts
        sums = total(counts)
        books: dict[str, Any] = {
            "received": sums.received,
            "accepted": sums.accepted,
            "refused": sums.refused,
            "filtered": sums.filtered,
            "dead_letters": self._state.letters,
            "sinks": {},
        }
        off = {"intake": sums.received - sums.accepted - sums.refused - sums.filtered}
        sinks = {}
        for sink in self._sinks():
            books["sinks"][sink.name], off[sink.name] = sink.books()
            sinks[sink.name] = sink.status()
        books["difference"] = next((each for each in off.values() if each), 0)
        self._off = [step for step, each in off.items() if each]
        live = self._sources()
        sources = {
            name: {**counts.get(name, Counts())._asdict(), **live.get(name, {})} for name in sorted({*counts, *live})
        }
        return {
            "version": gateway.__version__,
            "uptime_secs": round(time.time() - self._started, 1),
            "workers": self._workers(),
            "sources": sources,
            "spool": {
                "bytes": spool.bytes,
                "max_bytes": spool.max_bytes,
                "segments": spool.segments,
                "oldest_secs": round(spool.oldest_secs(), 1),
                "full": spool.full(),
                "failure": spool.failure,
            },
            "sinks": sinks,
            "dead_letters": {"bytes": self._state.letter_bytes, "lost": sum(each.lost for each in self._letter_boxes)},
            "books": books,
        }

    def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._telemetry)

    def collect(self) -> Iterable[Metric]:
        """Give what is read rather than counted."""
        status = self.status()
        for name in ("received", "accepted", "refused"):
            family = CounterMetricFamily(
                f"gateway_events_{name}", f"Events {name}, kept across restarts.", labels=["source"]
            )
            for source, figures in status["sources"].items():
                family.add_metric([source], figures.get(name, 0))
            yield family
        yield GaugeMetricFamily("gateway_spool_bytes", "Bytes in the spool.", status["spool"]["bytes"])
        yield GaugeMetricFamily(
            "gateway_spool_oldest_event_seconds", "Age of the oldest event that a sink has not taken.",
            status["spool"]["oldest_secs"],
        )  # fmt: skip
        yield GaugeMetricFamily("gateway_dead_letters", "Dead letters held.", status["books"]["dead_letters"])
        yield GaugeMetricFamily(
            "gateway_dead_letters_bytes", "Bytes they take of dead_letters.max_bytes.", status["dead_letters"]["bytes"]
        )
        yield CounterMetricFamily(
            "gateway_dead_letters_lost", "Refused events lost in damaged records.", status["dead_letters"]["lost"]
        )
        yield GaugeMetricFamily(
            "gateway_books_difference", "Events missing in the books.", status["books"]["difference"]
        )
        yield GaugeMetricFamily("gateway_start_time_seconds", "Start, seconds since 1970.", self._started)
        for name in ("indexed", "duplicates", "dead_letters", "skipped", "damaged"):
            family = CounterMetricFamily(f"gateway_sink_events_{name}", f"Events of a sink: {name}.", labels=["sink"])
            for sink, figures in status["books"]["sinks"].items():
                family.add_metric([sink], figures[name])
            yield family
        waiting = GaugeMetricFamily("gateway_sink_events_waiting", "Events a sink has not taken.", labels=["sink"])
        up = GaugeMetricFamily("gateway_sink_up", "1 when the sink's state is ok.", labels=["sink"])
        for sink, figures in status["books"]["sinks"].items():
            waiting.add_metric([sink], figures["waiting"])
            up.add_metric([sink], float(status["sinks"][sink]["state"] == "ok"))
        yield from (waiting, up)
        open_now = GaugeMetricFamily("gateway_connections_open", "Open connections.", labels=["source"])
        for source, figures in status["sources"].items():
            if "connections" in figures:
                open_now.add_metric([source], figures["connections"])
        yield open_now

    async def watch(self) -> None:
        """Say so when senders have to wait, when the books do not balance for longer than a moment, and what the
        log kept back.
        """
        since: float | None = None
        was_full = False
        while True:
            await asyncio.sleep(1)
            write_kept_back()
            full = self._spool.full()
            if full and not was_full:
                log.warning("The spool is full: senders wait (TCP) or get 429 (HTTP).", full=full)
            elif was_full and not full:
                log.info("The spool has room again.")
            was_full = bool(full)
            books = self.status()["books"]
            if not books["difference"]:
                since = None
            elif since is None:
                since = time.monotonic()
            elif time.monotonic() - since >= LASTING_SECS:
                log.error("The books do not balance.", difference=books["difference"], steps=self._off)
