"""The ML metrics say what the events said, in a form that Prometheus has nothing to say against."""

import asyncio
import subprocess
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.monitoring.figures import Told
from gateway.monitoring.metrics import MlMetrics
from tests.documents import DOCS, Document, code
from tests.monitoring.telling import NOW, Disk, documents, gather, prediction, told

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(disk: Disk) -> tuple[str, Samples]:
    """Return the text and its samples."""
    text = (await MlMetrics(disk.figures).text()).decode()
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            key = each.name, frozenset((name, value) for name, value in each.labels.items() if value)
            assert key not in samples, key
            samples[key] = each.value
    return text, samples


def value(samples: Samples, name: str, **labels: str) -> float | None:
    """Return a sample's value, None where there is none."""
    return samples.get((name, frozenset(labels.items())))


def of_two_models() -> Disk:
    """Return figures of events whose metrics can be worked out by hand."""
    disk = Disk()
    disk.take(
        told(
            NOW,
            prediction(prediction_class="a", true_label="a", prediction_confidence=0.9, inference_time_ms=4,
                       user_id="u"),
            prediction(prediction_class="b", true_label="a", prediction_confidence=0.95, inference_time_ms=70_000),
            prediction(prediction_class="macro", error=True, error_type="validation", user_id="v", cpu_usage=50,
                       memory_usage_mb=1.5, feature_processing_ms=3),
            prediction("n", error=True, error_type="timeout", cpu_usage=20),
        )
    )  # fmt: skip
    logs = [{"service": "api", "endpoint": "/x", "duration": 0.3}]
    disk.take(Told(NOW, gather(documents(logs, "ml-pipeline-2027.01.15")).encode()))
    return disk


@pytest.mark.anyio
async def test_what_the_events_said() -> None:
    """Each metric against the events; what has no value is not there."""
    _, samples = await scraped(of_two_models())
    m: Any = {"model": "m", "version": "1"}
    n: Any = {"model": "n", "version": "1"}
    for name, labels, expected in (
        ("ml_predictions_total", m, 3),
        ("ml_predictions_total", n, 1),
        ("ml_predictions_by_class_total", {**m, "class": "a"}, 1),
        ("ml_prediction_confidence_count", m, 2),
        ("ml_prediction_confidence_sum", m, 1.85),
        ("ml_prediction_confidence_bucket", {**m, "le": "0.85"}, 0),
        ("ml_prediction_confidence_bucket", {**m, "le": "0.9"}, 1),
        ("ml_prediction_confidence_count", n, None),
        ("ml_inference_duration_seconds_bucket", {**m, "le": "0.005"}, 1),
        ("ml_inference_duration_seconds_bucket", {**m, "le": "60.0"}, 1),
        ("ml_inference_duration_seconds_bucket", {**m, "le": "+Inf"}, 2),
        ("ml_inference_duration_seconds_sum", m, 70.004),
        ("ml_feature_processing_seconds_count", m, 1),
        ("ml_prediction_errors_total", {**n, "type": "timeout"}, 1),
        ("ml_input_validation_failures_total", {**m, "stage": "model"}, 1),
        ("ml_input_validation_failures_total", {**m, "stage": "gateway"}, None),
        ("http_request_duration_seconds_bucket", {"service": "api", "endpoint": "/x", "le": "0.5"}, 1),
        ("http_request_duration_seconds_bucket", {"service": "api", "endpoint": "/x", "le": "0.2"}, 0),
        ("ml_model_accuracy", m, 0.5),
        ("ml_model_accuracy", n, None),
        ("ml_labelled_predictions", m, 2),
        ("ml_model_precision", {**m, "class": "a"}, 1),
        ("ml_model_recall", {**m, "class": "a"}, 0.5),
        ("ml_model_f1_score", {**m, "average": "macro"}, 1 / 3),
        ("ml_prediction_error_rate", m, 1 / 3),
        ("ml_prediction_error_rate", n, 1),
        ("ml_active_users", {}, 2),
        ("ml_app_memory_bytes", m, 1_500_000),
        ("ml_cpu_usage_ratio", m, 0.5),
        ("ml_gpu_usage_ratio", m, None),
        ("ml_models_not_told_apart", {}, 0),
    ):
        found = value(samples, name, **labels)
        assert (found is None) == (expected is None) and found == pytest.approx(expected), (name, labels, found)


@pytest.mark.anyio
async def test_labels_are_those_of_the_table() -> None:
    """docs/api.md names each label that a metric has."""
    disk = of_two_models()
    disk.take(told(NOW, prediction(model_load_ms=4, gpu_usage=1)))
    text, _ = await scraped(disk)
    table = Document(DOCS / "api.md").table("## GET /metrics")
    listed = {code(name)[0]: set(code(labels)) for name, _, labels, _ in table}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert listed.pop(name) == {label for each in family.samples for label in each.labels} - {"le"}, name
    assert {name for name in listed if not name.startswith("gateway_")} == set()


@pytest.mark.anyio
async def test_a_window_slides_and_counters_stay() -> None:
    """After the window nothing is told of accuracy, load or users; what was counted is."""
    disk = of_two_models()
    disk.clock.now = NOW + 14 * 60
    assert value((await scraped(disk))[1], "ml_model_accuracy", model="m", version="1") == 0.5
    disk.clock.now = NOW + 15 * 60
    _, samples = await scraped(disk)
    gone = {name for name, _ in samples if name.startswith(("ml_model_", "ml_app", "ml_cpu", "ml_active", "ml_label"))}
    assert gone == set()
    assert value(samples, "ml_predictions_total", model="m", version="1") == 3


@pytest.mark.process
def test_promtool_has_nothing_to_say() -> None:
    """Neither of names nor of help nor of types."""
    text, _ = asyncio.run(scraped(of_two_models()))
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.anyio
async def test_a_hundred_models_hold_nobody_up() -> None:
    """While a scrape of 100 models with 10 classes is made the event loop goes on; and there are no more of them."""
    disk = Disk()
    for minute in range(15):
        disk.clock.now = NOW + minute * 60
        disk.take(
            told(
                disk.clock.now,
                *(
                    prediction(f"m{model}", prediction_class=str(n), true_label=str(n), prediction_confidence=n / 10)
                    for model in range(120)
                    for n in range(10)
                ),
            )
        )
    metrics, longest, last = MlMetrics(disk.figures), 0.0, time.monotonic()
    making = asyncio.create_task(metrics.text())
    while not making.done():
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert longest < 0.25  # of a busy machine; all of it takes longer than that
    text = (await making).decode()
    assert sum(line.startswith("ml_predictions_total") for line in text.splitlines()) == 101
    assert 'ml_predictions_total{model="other",version=""} 3000.0' in text
    assert "ml_models_not_told_apart 20.0" in text
    assert await metrics.text() is await metrics.text()
