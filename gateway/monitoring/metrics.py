"""The ML metrics, from the figures alone, for Prometheus. What has no value is not there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.monitoring.figures import Figures
from gateway.monitoring.quality import ClassQuality, quality
from gateway.summary import CONFIDENCES, MILLISECONDS, Histogram, Model, Summary, estimated
from gateway.summary.figures import Key

REUSED_SECS = 1.0
_MODEL = ("model", "version")
_SECONDS = tuple(each / 1000 for each in MILLISECONDS)
_STAGES = {
    "feature_processing": ("ml_feature_processing_seconds", "Time in which features were made."),
    "model_load": ("ml_model_load_seconds", "Time in which a model was loaded."),
}
# Field, by what it is divided to be in the base unit.
_USAGE = {
    "memory_usage_mb": ("ml_app_memory_bytes", "Memory, as told last within the window.", 1e-6),
    "cpu_usage": ("ml_cpu_usage_ratio", "Processor, 1 is a whole one, as told last within the window.", 100.0),
    "gpu_usage": ("ml_gpu_usage_ratio", "Graphics processor, as told last within the window.", 100.0),
}


class MlMetrics(Collector):
    """Makes them in a thread, as there may be many, and gives the same answer again for a second."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._making: asyncio.Task[bytes] | None = None
        self._made = 0.0

    async def text(self) -> bytes:
        """Return them in Prometheus' text format."""
        if self._making is None or (self._making.done() and time.monotonic() - self._made > REUSED_SECS):
            self._making = asyncio.create_task(self._make())
        return await asyncio.shield(self._making)

    async def _make(self) -> bytes:
        made = await asyncio.to_thread(generate_latest, self._registry)
        self._made = time.monotonic()
        return made

    def describe(self) -> Iterable[Metric]:
        """Say nothing before there is something."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give all of them."""
        figures = self._figures
        yield from _counted(figures.all())
        yield GaugeMetricFamily(
            "ml_models_not_told_apart",
            "Models and versions beyond monitoring.max_models since the start: they are counted as other.",
            figures.beyond,
        )
        yield from _windowed(figures.kept().window)


def _counted(summary: Summary) -> Iterator[Metric]:
    """Give what only rises, kept across restarts."""
    models = summary.models

    def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(name, text, labels=[*_MODEL, *labels])

    predictions = counter("ml_predictions", "Predictions.")
    classes = counter("ml_predictions_by_class", "Predictions by predicted class.", "class")
    errors = counter("ml_prediction_errors", "Predictions that failed, by type of error.", "type")
    invalid = counter(
        "ml_input_validation_failures",
        "Inputs found invalid: by the model itself, or events that the gateway refused.", "stage",
    )  # fmt: skip
    for key, model in models.items():
        if model.predictions:
            predictions.add_metric(key, model.predictions)
        for name, row in model.outcomes.items():
            if name is not None:
                classes.add_metric([*key, name], sum(row.values()))
        for kind, count in model.errors.items():
            errors.add_metric([*key, kind], count)
        for stage, count in (("model", model.errors.get("validation", 0)), ("gateway", model.refused)):
            if count:
                invalid.add_metric([*key, stage], count)
    yield from (predictions, classes, errors, invalid)
    yield _histogram(
        "ml_prediction_confidence", "Confidence of predictions.", _MODEL, CONFIDENCES, 1.0,
        ((key, model.confidence) for key, model in models.items()),
    )  # fmt: skip
    yield _histogram(
        "ml_inference_duration_seconds", "Time of predictions.", _MODEL, _SECONDS, 1000.0,
        ((key, model.duration_ms) for key, model in models.items()),
    )  # fmt: skip
    for stage, (name, text) in _STAGES.items():
        found = ((key, model.stages[stage]) for key, model in models.items() if stage in model.stages)
        yield _histogram(name, text, _MODEL, _SECONDS, 1000.0, found)
    yield _histogram(
        "http_request_duration_seconds", "Time of requests that services logged.", ("service", "endpoint"), _SECONDS,
        1000.0, summary.endpoints.items(),
    )  # fmt: skip


def _windowed(summary: Summary) -> Iterator[Metric]:
    """Give what is of the last minutes."""
    models = summary.models

    def gauge(name: str, text: str, value: Callable[[Model], float | None]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=_MODEL)
        for key, model in models.items():
            if (found := value(model)) is not None:
                family.add_metric(key, found)
        return family

    qualities = {key: found for key, model in models.items() if (found := quality(model)) is not None}
    accuracy = GaugeMetricFamily("ml_model_accuracy", "Share of correct predictions of the window.", labels=_MODEL)
    labelled = GaugeMetricFamily(
        "ml_labelled_predictions", "Predictions of the window whose truth is known.", labels=_MODEL
    )
    for key, each in qualities.items():
        accuracy.add_metric(key, each.accuracy)
        labelled.add_metric(key, each.labelled)
    yield from (accuracy, labelled)
    of_class: dict[str, Callable[[ClassQuality], float]] = {
        "precision": lambda each: each.precision,
        "recall": lambda each: each.recall,
        "f1_score": lambda each: each.f1,
    }
    for name, value in of_class.items():
        text = f"{name.replace('_', ' ').capitalize()} of the window, by class and as the mean over classes."
        family = GaugeMetricFamily(f"ml_model_{name}", text)
        for (model_name, version), each in qualities.items():
            labels = {"model": model_name, "version": version}
            if (macro := each.macro) is not None:
                family.add_sample(family.name, {**labels, "average": "macro"}, value(macro))
            for name_of_class, its in each.classes.items():
                family.add_sample(family.name, {**labels, "class": name_of_class}, value(its))
        yield family
    yield gauge(
        "ml_prediction_error_rate", "Share of predictions of the window that failed.",
        lambda model: sum(model.errors.values()) / model.predictions if model.predictions else None,
    )  # fmt: skip
    for field, (name, text, divisor) in _USAGE.items():
        yield gauge(name, text, lambda model, f=field, d=divisor: model.usage[f] / d if f in model.usage else None)  # type: ignore[misc]
    users = GaugeMetricFamily("ml_active_users", "Different users of the window, estimated.")
    if summary.users:
        users.add_metric([], estimated(summary.users))
    yield users


def _histogram(
    name: str,
    text: str,
    labels: Sequence[str],
    bounds: Sequence[float],
    divisor: float,
    found: Iterable[tuple[Key, Histogram]],
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=labels)
    ends = [*map(str, bounds), "+Inf"]
    for key, histogram in found:
        if not histogram.count:
            continue
        below, buckets = 0, []
        for end, count in zip(ends, histogram.counts, strict=True):
            below += count
            buckets.append((end, below))
        family.add_metric(key, buckets, histogram.sum / divisor)
    return family
