"""Which kind an event is, where it goes and what is stored."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pipeline.blocks import new_digest, refuse, store

DAY = "2026.06.15"


@pytest.mark.parametrize(
    ("event", "index", "stored_type"),
    [
        ({"type": "model_training", "epoch": 1}, "ml-training", "model_training"),
        ({"type": "model_training", "event_type": "scaling_start"}, "ml-training", "model_training"),
        ({"event_type": "scaling_start", "model_name": "a"}, "ml-training", "model_training"),
        ({"type": "model_inference", "model_name": "a"}, "ml-metrics", "model_inference"),
        ({"model_name": "a", "check_name": "b", "message": "c"}, "ml-metrics", "model_inference"),
        ({"type": "data_quality"}, "data-quality", "data_quality"),
        ({"check_name": "nulls", "level": "INFO"}, "data-quality", "data_quality"),
        ({"dataset_name": "d"}, "data-quality", "data_quality"),
        ({"type": "log"}, "ml-pipeline", "log"),
        ({"message": "m"}, "ml-pipeline", "log"),
        ({"level": "INFO"}, "ml-pipeline", "log"),
        ({"@version": "1"}, "ml-pipeline", "log"),
        ({"type": "log", "model_name": "a"}, "ml-pipeline", "log"),
        ({"type": "label", "request_id": "r", "true_label": 1}, "ml-labels", "label"),
        ({"type": "operation", "status": "start"}, "ml-operations", "operation"),
        ({"type": "audit", "actor": "me"}, "ml-audit", "audit"),
        ({"type": "lineage", "node_id": "n"}, "ml-lineage", "lineage"),
        ({"type": "alert", "name": "n"}, "ml-alerts", "alert"),
        # Unknown types are kept, and treated as missing.
        ({"type": "logstash", "message": "m"}, "ml-pipeline", "logstash"),
        ({"type": "mine", "model_name": "a"}, "ml-metrics", "mine"),
        ({"type": "", "model_name": "a"}, "ml-metrics", ""),
        ({"type": 7, "model_name": "a"}, "ml-metrics", 7),
        ({"type": ["log"], "model_name": "a"}, "ml-metrics", ["log"]),
        ({"type": "LOG", "model_name": "a"}, "ml-metrics", "LOG"),
        # null is absent.
        ({"type": None, "model_name": "a"}, "ml-metrics", "model_inference"),
        ({"event_type": None, "model_name": None, "message": "m"}, "ml-pipeline", "log"),
    ],
)
def test_choice(event: dict[str, Any], index: str, stored_type: Any) -> None:
    """A known type decides, else the first row of the contract's table that fits."""
    (stored,) = store(event)
    assert (f"{index}-{DAY}", stored_type) == (stored.index, stored.document["type"])


@pytest.mark.parametrize(
    "event", [{}, {"foo": 1}, {"type": "mine"}, {"model_name": None}, {"type": None, "level": None}]
)
def test_no_kind(event: dict[str, Any]) -> None:
    """An event that no row fits is refused, with the deciding keys as hint; default_kind log takes it."""
    refusal = refuse(event)
    assert (refusal.reason, refusal.path, refusal.rule) == ("schema", "$", "kind_unknown")
    for key in ("event_type", "model_name", "check_name", "dataset_name", "message", "level", "@version"):
        assert key in (refusal.hint or "")
    (stored,) = store(event, digest=new_digest(default_kind="log"))
    assert (f"ml-pipeline-{DAY}", event.get("type") or "log") == (stored.index, stored.document["type"])


@pytest.mark.parametrize(
    ("event", "path", "rule"),
    [
        ({"type": "model_inference"}, "$.model_name", "missing"),
        ({"type": "model_inference", "model_name": None}, "$.model_name", "string_type"),
        ({"type": "label", "true_label": 1}, "$.request_id", "missing"),
        ({"type": "label", "request_id": "r"}, "$.true_label", "missing"),
        ({"model_name": "a", "prediction_confidence": 1.7}, "$.prediction_confidence", "less_than_equal"),
        ({"model_name": "a", "inference_time_ms": -1}, "$.inference_time_ms", "greater_than_equal"),
        ({"model_name": "a", "inference_time_ms": True}, "$.inference_time_ms", "float_type"),
        ({"model_name": "a", "error": "yes"}, "$.error", "bool_type"),
        ({"message": "a", "labels": {"x": []}}, "$.labels.x", "string_type"),
        ({"type": "model_training", "metrics": {"rmse": "x"}}, "$.metrics.rmse", "float_type"),
        ({"type": "operation", "status": "paused"}, "$.status", "literal_error"),
        ({"type": "lineage", "inputs": ["a", None]}, "$.inputs[1]", "string_type"),
        *[({"model_name": "a", name: 1}, f"$.{name}", "reserved_name") for name in
          ("_id", "_index", "_source", "_type", "_routing")],
        *[({"event_type": "a_start", name: 1}, f"$.{name}", "reserved_name") for name in ("_id", "_routing")],
    ],
)  # fmt: skip
def test_refused_fields(event: dict[str, Any], path: str, rule: str) -> None:
    """A field that breaks its schema is refused with its path and rule, reason schema."""
    refusal = refuse(event)
    assert ("schema", path, rule) == (refusal.reason, refusal.path, refusal.rule)


def test_did_you_mean() -> None:
    """A required field that was misspelt is named."""
    refusal = refuse({"type": "model_inference", "modelName": "a"})
    assert refusal.hint == '"modelName" was sent: did you mean "model_name"?'


def test_strictness() -> None:
    """String fields take numbers, number fields numeric strings; null stays null in optional fields."""
    (stored,) = store({"model_name": 3, "inference_time_ms": "25", "prediction_confidence": None, "region": 1.5})
    document = stored.document
    assert tuple(document[name] for name in ("model_name", "inference_time_ms", "prediction_confidence", "region")) == (
        "3",
        25,
        None,
        "1.5",
    )
    assert document["latency_category"] == "fast"
    assert "confidence_level" not in document


def test_mlflow_document() -> None:
    """Of an MLflow event exactly the contract's six fields are stored, the event as sent among them."""
    event = {
        "timestamp": "2026-06-15T10:00:00Z",
        "event_type": "model_training_success",
        "details": {"rmse": "0.7", "n": 3, "none": None},
        "source": "mlflow_pipeline",
        "own": [1],
    }
    (stored,) = store(event)
    assert {
        "@timestamp": "2026-06-15T10:00:00Z",
        "received_at": "2026-06-15T12:00:00Z",
        "type": "model_training",
        "pipeline": "mlflow",
        "event_category": "model_training_success",
        "mlflow_event": event,
    } == stored.document
    assert stored.index == f"ml-training-{DAY}"


@pytest.mark.parametrize(
    ("times", "day", "at"),
    [
        ({}, "2026.06.15", "2026-06-15T12:00:00Z"),
        ({"labelled_at": "2026-06-10T23:30:00-02:00"}, "2026.06.11", "2026-06-11T01:30:00Z"),
        ({"labelled_at": 1781085600}, "2026.06.10", "2026-06-10T10:00:00Z"),
        ({"labelled_at": None}, "2026.06.15", "2026-06-15T12:00:00Z"),
        ({"timestamp": "2026-06-10T10:00:00Z"}, "2026.06.15", "2026-06-10T10:00:00Z"),
        ({"labelled_at": "2026-06-11", "@timestamp": "2026-06-10T10:00:00Z"}, "2026.06.11", "2026-06-10T10:00:00Z"),
    ],
)
def test_labels(times: dict[str, Any], day: str, at: str) -> None:
    """A label goes to the day of labelled_at, else of its receipt; a time that was sent is its @timestamp."""
    (stored,) = store({"type": "label", "request_id": "r", "true_label": 1, **times})
    assert (f"ml-labels-{day}", at) == (stored.index, stored.document["@timestamp"])
    if times.get("labelled_at") is not None:
        assert stored.document["labelled_at"].replace("-", ".").startswith(day)


@pytest.mark.parametrize(
    ("times", "path", "reason"),
    [
        ({"labelled_at": "soon"}, "$.labelled_at", "schema"),
        ({"labelled_at": True}, "$.labelled_at", "schema"),
        ({"labelled_at": "2020-01-01T00:00:00Z"}, "$.labelled_at", "clock"),
        ({"labelled_at": "2026-06-15T13:00:00Z"}, "$.labelled_at", "clock"),
        ({"timestamp": "soon"}, "$.timestamp", "schema"),
    ],
)
def test_bad_label_times(times: dict[str, Any], path: str, reason: str) -> None:
    """A label's times are held to the same rules as every event's."""
    refusal = refuse({"type": "label", "request_id": "r", "true_label": 1, **times})
    assert (path, reason) == (refusal.path, refusal.reason)


@pytest.mark.parametrize("sent", [{}, {"type": "label"}, {"type": "model_inference", "model_name": "a"}])
def test_forced_kind(sent: dict[str, Any]) -> None:
    """What comes to the labels' route is a label, whatever it says."""
    (stored,) = store({"request_id": "r", "true_label": "x", **sent}, kind="label")
    assert (f"ml-labels-{DAY}", "label") == (stored.index, stored.document["type"])


def test_the_index_day_is_the_events() -> None:
    """Beyond midnight in its zone, an event goes to its UTC day."""
    (stored,) = store({"model_name": "a", "timestamp": "2026-06-15T00:30:00+02:00"})
    assert stored.index == "ml-metrics-2026.06.14"


def test_the_contracts_line() -> None:
    """The line that the contract shows is accepted as it stands."""
    line = b'{"timestamp":"2024-01-15T10:00:00Z","model_name":"test","inference_time_ms":25}'
    (stored,) = store(line, digest=new_digest(max_age_days=None))
    assert stored.index == "ml-metrics-2024.01.15"
    assert refuse(line).reason == "clock"
