"""100,000 events of all kinds over four connections, into the real Elasticsearch."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.cli.traffic import Scenario, Traffic
from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import GatewayFactory

EVENTS = 100_000
INDEX_OF = {
    "model_inference": "ml-metrics",
    "model_training": "ml-training",
    "data_quality": "data-quality",
    "log": "ml-pipeline",
    "label": "ml-labels",
    "operation": "ml-operations",
    "audit": "ml-audit",
    "lineage": "ml-lineage",
    "alert": "ml-alerts",
}
TYPES = {
    "ml-metrics": {
        "model_name": "keyword",
        "prediction_confidence": "double",
        "prediction_class": "keyword",
        "inference_time_ms": "double",
        "prediction_correct": "boolean",
        "prediction_accuracy": "double",
        "confidence_level": "keyword",
        "latency_category": "keyword",
        "error": "boolean",
        "error_type": "keyword",
        "error_message": "text",
        "@timestamp": "date",
        "received_at": "date",
    },
    "ml-training": {"epoch": "long", "event_category": "keyword", "run_id": "keyword"},
    "data-quality": {"score": "double", "passed": "boolean", "row_count": "long"},
}


def events() -> list[dict[str, Any]]:
    """Two days of events, the newest a minute ago."""
    traffic = Traffic(20260101, Scenario.ERRORS)
    now = datetime.now(UTC) - timedelta(minutes=1)
    return [
        traffic.event(now - timedelta(seconds=1.7 * (EVENTS - number)), number / EVENTS) for number in range(EVENTS)
    ]


def expected_index(event: dict[str, Any]) -> str:
    """The index by the contract's table, worked out from the event alone."""
    kind = event.get("type")
    if kind not in INDEX_OF:
        kind = "model_training" if "event_type" in event else "model_inference" if "model_name" in event else None
    assert kind is not None, event
    if kind == "label":
        when = event.get("labelled_at") or datetime.now(UTC).isoformat()
    else:
        when = event.get("@timestamp") or event["timestamp"]
    return f"{INDEX_OF[kind]}-{datetime.fromisoformat(when).astimezone(UTC):%Y.%m.%d}"


def expected_enrichment(event: dict[str, Any]) -> dict[str, Any]:
    """The contract's rules, written once more from its table."""
    added: dict[str, Any] = {}
    confidence, latency = event.get("prediction_confidence"), event.get("inference_time_ms")
    if confidence is not None:
        added["confidence_level"] = "high" if confidence >= 0.85 else "medium" if confidence >= 0.7 else "low"
    if latency is not None:
        bounds = ((50, "fast"), (200, "normal"), (1000, "slow"))
        added["latency_category"] = next((name for bound, name in bounds if latency < bound), "very_slow")
    predicted, truth = event.get("prediction_class"), event.get("true_label")
    if predicted is not None and truth is not None:
        correct = json.dumps(predicted).strip('"') == json.dumps(truth).strip('"')
        added |= {"prediction_correct": correct, "prediction_accuracy": float(correct)}
    if event.get("error") or event.get("error_message"):
        added["error"] = True
    return added


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mixed_events_over_four_connections(gateway: GatewayFactory, es: EsClient) -> None:
    """All are there, in the right indices with the right types and enrichments; sent again they add nothing."""
    running = gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    sent = events()
    lines = [json.dumps(event).encode() for event in sent]
    bodies = [b"\n".join(lines[part::4]) + b"\n" for part in range(4)]

    def send_all() -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda body: running.send_tcp(body, timeout=120), bodies))

    send_all()
    status = running.wait_until(
        lambda now: now["books"]["received"] == EVENTS and now["books"]["sinks"]["elasticsearch"]["waiting"] == 0, 120
    )
    assert status["books"]["refused"] == 0
    assert status["books"]["difference"] == 0
    assert status["books"]["sinks"]["elasticsearch"]["indexed"] == EVENTS

    wanted = Counter(f"{es.prefix}{expected_index(event)}" for event in sent)
    es.refresh()
    assert {index: es.count(index) for index in es.indices()} == dict(wanted)

    for index, types in TYPES.items():
        for mapping in es.get(f"/{es.prefix}{index}-*/_mapping").values():
            properties = mapping["mappings"]["properties"]
            assert {name: properties[name]["type"] for name in types} == types

    predictions = {event["event_id"]: event for event in sent if expected_index(event).startswith("ml-metrics")}
    compared = 0
    for source in es.sources(f"{es.prefix}ml-metrics-*"):
        event = predictions[source["event_id"]]
        assert {name: source.get(name) for name in expected_enrichment(event)} == expected_enrichment(event)
        assert {name: source[name] for name in event} == event
        compared += 1
    assert compared == 10_000

    accuracy = es.search(f"{es.prefix}ml-metrics-*", {"aggs": {"a": {"avg": {"field": "prediction_accuracy"}}}})
    judged = [
        each["prediction_accuracy"]
        for e in predictions.values()
        if "prediction_accuracy" in (each := expected_enrichment(e))
    ]
    assert accuracy["aggregations"]["a"]["value"] == pytest.approx(sum(judged) / len(judged), abs=1e-9)

    send_all()
    status = running.wait_until(
        lambda now: now["books"]["received"] == 2 * EVENTS and now["books"]["sinks"]["elasticsearch"]["waiting"] == 0,
        120,
    )
    assert status["books"]["sinks"]["elasticsearch"]["duplicates"] == EVENTS
    assert es.count() == EVENTS
    assert status["books"]["difference"] == 0


def test_the_queries_of_mlflow_users(gateway: GatewayFactory, es: EsClient) -> None:
    """An MLflow pipeline event is found by pipeline, category and a number within its details."""
    running = gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    now = datetime.now(UTC).isoformat()
    event = {
        "timestamp": now,
        "event_type": "model_training_error",
        "details": {"rmse": 0.61, "model": "rf"},
        "source": "mlflow_pipeline",
    }
    running.send_tcp(json.dumps(event).encode() + b"\n")
    running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["indexed"] == 1)
    queries = ("pipeline:mlflow", "event_category:model_training_error", "mlflow_event.details.rmse:>0.5")
    for query in queries:
        (source,) = es.sources(f"{es.prefix}ml-training-*", {"query": {"query_string": {"query": query}}})
        assert source["mlflow_event"] == event
        assert set(source) == {
            "@timestamp", "received_at", "type", "pipeline", "event_category", "mlflow_event",
        }  # fmt: skip
