"""What happened, told once: each call counts and, where someone must act, writes to the log.

Metric names follow Prometheus: base units, ``_total`` for counters.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

log = structlog.get_logger(__name__)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BYTES = tuple(float(4**exponent) for exponent in range(4, 13))


class Telemetry:
    """The gateway's own metrics; one object for the process."""

    def __init__(self) -> None:
        """Make the metrics, in a registry of their own."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a line more for each, which nobody asked for
        self.registry = CollectorRegistry()
        self._elsewhere: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

        self._refused = counter(
            "gateway_events_refused_by_reason_total", "Refused events since start.", "source", "reason"
        )
        self._connections = counter("gateway_connections_total", "Connections accepted.", "source")
        self._answers = counter("gateway_http_answers_total", "Answers to ingestion requests.", "status")
        self._answers_of: dict[int, Counter] = {}  # by status, as looking one up costs more than counting
        self._groups = histogram("gateway_spool_sync_seconds", "Time to write and sync a group of records.", SECONDS)
        self._records = counter("gateway_spool_records_total", "Records written.")
        self._bulk_secs = histogram("gateway_bulk_seconds", "Time of a bulk request.", SECONDS, "sink")
        self._bulk_bytes = histogram("gateway_bulk_bytes", "Size of a bulk request.", BYTES, "sink")
        self._retried = counter("gateway_events_retried_total", "Events sent to a sink once more.", "sink")
        self._failures = counter("gateway_sink_failures_total", "Requests to a sink that failed.", "sink", "reason")

    def add(self, risen: Iterable[tuple[str, dict[str, str], float]]) -> None:
        """Take note of what another process counted: name of a sample, labels, by how much it rose."""
        for name, labels, rise in risen:
            key = name, tuple(sorted(labels.items()))
            self._elsewhere[key] = self._elsewhere.get(key, 0.0) + rise

    def collect(self) -> Iterator[Metric]:
        """Give all metrics, with what other processes counted; for `generate_latest`."""
        rest = dict(self._elsewhere)
        for family in self.registry.collect():
            names = {family.name, *(f"{family.name}_{end}" for end in ("total", "bucket", "sum", "count"))}
            family.samples = [
                each._replace(value=each.value + rest.pop((each.name, tuple(sorted(each.labels.items()))), 0.0))
                for each in family.samples
            ]
            for name, labels in [key for key in rest if key[0] in names]:
                family.samples.append(Sample(name, dict(labels), rest.pop((name, labels))))
            yield family

    def connected(self, source: str) -> None:
        """A client connected."""
        self._connections.labels(source).inc()

    def events_refused(
        self, source: str, peer: str, reasons: list[str], *, rule: str, path: str, message: str, value: str
    ) -> None:
        """A block is on disk, events of it as dead letters; ``rule`` to ``value`` are those of the first."""
        for reason, count in Tally(reasons).items():
            self._refused.labels(source, reason).inc(count)
        log.warning(
            "Events were refused: they are kept as dead letters.",
            source=source, peer=peer, events=len(reasons), reason=reasons[0], rule=rule, path=path, first=message,
            value=value,
        )  # fmt: skip

    def answered(self, status: int) -> None:
        """An ingestion request was answered."""
        if status not in self._answers_of:
            self._answers_of[status] = self._answers.labels(str(status))
        self._answers_of[status].inc()

    def group_synced(self, *, records: int, seconds: float) -> None:
        """A group of records reached the disk."""
        self._records.inc(records)
        self._groups.observe(seconds)

    def bulk_sent(self, sink: str, *, size: int, seconds: float) -> None:
        """A sink took a bulk of ``size`` bytes, or refused it in an orderly way."""
        self._bulk_secs.labels(sink).observe(seconds)
        self._bulk_bytes.labels(sink).observe(size)

    def retried(self, sink: str, events: int) -> None:
        """Events are sent once more."""
        self._retried.labels(sink).inc(events)

    def sink_failed(self, sink: str, reason: str, text: str, *, first: bool) -> None:
        """A request to a sink failed and will be repeated; only the ``first`` of a row is logged."""
        self._failures.labels(sink, reason).inc()
        if first:
            log.warning(f"{text} Trying again.", sink=sink)

    def sink_recovered(self, sink: str, seconds: float) -> None:
        """A sink works again after ``seconds``."""
        log.info("The sink works again.", sink=sink, after_secs=round(seconds, 1))

    def sink_stopped(self, sink: str, text: str) -> None:
        """A sink cannot go on by itself."""
        log.error(text, sink=sink)

    def dead_lettered(self, sink: str, events: int, index: str | None, first: str) -> None:
        """A sink could not place events for what they are."""
        log.warning(
            "A sink refused events: they are kept as dead letters.", sink=sink, events=events, index=index, first=first
        )

    def foreign_templates(self, names: list[str]) -> None:
        """Templates and policies of our names that are not ours."""
        log.warning("These index templates and policies are not the gateway's and stay as they are.", templates=names)
