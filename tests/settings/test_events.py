"""The settings of what an event may be and what is added, set in the file of a running gateway.

Many at once, since a start costs more than a look.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.gateway_process import Gateway, GatewayFactory
from tests.test_kinds import SENSOR


def stored(process: Gateway, count: int) -> dict[str, dict[str, Any]]:
    """Return all documents by their `n`, each with its index."""
    process.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == count)
    hits = process.http.get("/v1/search", params={"limit": 100}).json()["hits"]
    return {hit["_source"]["n"]: {"index": hit["_index"], **hit["_source"]} for hit in hits}


def test_what_an_event_may_be(gateway: GatewayFactory, tmp_path: Path) -> None:
    """Its age, its time zone, its kind, its fields and its index are as the settings have them."""
    (tmp_path / "sensor.py").write_text(SENSOR)
    process = gateway(
        config={
            "events": {
                "max_age_days": 1000, "max_future_secs": 7200, "naive_timezone": "Asia/Tokyo", "default_kind": "log",
                "index_prefix": "team-",
            },
            "schemas": {
                "files": [str(tmp_path / "sensor.py")],
                "extra_fields": {"model_inference": {"cost": {"type": "number", "minimum": 0}}},
            },
        }
    )  # fmt: skip
    now = datetime.now(UTC).replace(microsecond=0)
    in_tokyo = (now + timedelta(hours=9)).replace(tzinfo=None)
    answer = process.http.post(
        "/v1/events",
        json=[
            {"n": "old", "model_name": "m", "timestamp": (now - timedelta(days=900)).isoformat()},
            {"n": "too old", "model_name": "m", "timestamp": (now - timedelta(days=1100)).isoformat()},
            {"n": "early", "model_name": "m", "timestamp": (now + timedelta(hours=1)).isoformat()},
            {"n": "too early", "model_name": "m", "timestamp": (now + timedelta(hours=3)).isoformat()},
            {"n": "naive", "model_name": "m", "timestamp": in_tokyo.isoformat()},
            {"n": "no kind"},
            {"n": "own kind", "sensor_id": "s"},
            {"n": "own field", "model_name": "m", "cost": -1},
        ],
    )
    assert [(each["index"], each["path"]) for each in answer.json()["errors"]] == [
        (1, "$.timestamp"), (3, "$.timestamp"), (7, "$.cost"),
    ]  # fmt: skip
    found = stored(process, 5)
    assert set(found) == {"old", "early", "naive", "no kind", "own kind"}
    assert datetime.fromisoformat(found["naive"]["@timestamp"]) == now
    assert found["no kind"]["index"].startswith("team-ml-pipeline-")
    assert found["own kind"]["index"].startswith("team-ml-sensors-")


def test_what_is_added(gateway: GatewayFactory) -> None:
    """Levels, categories and error types go by the bounds and patterns of the settings, a model's by its own."""
    process = gateway(
        config={
            "enrichment": {
                "confidence": {"high": 0.5, "medium": 0.2},
                "latency": {"fast": 1000, "normal": 2000, "slow": 3000},
                "error": {"patterns": {"gpu": "cuda"}},
                "models": {"own": {"confidence": {"high": 0.9}}},
            }
        }
    )
    events = [
        {"n": "1", "model_name": "m", "prediction_confidence": 0.6, "inference_time_ms": 999, "error_message": "cuda"},
        {"n": "2", "model_name": "m", "prediction_confidence": 0.3, "inference_time_ms": 1999},
        {"n": "3", "model_name": "m", "prediction_confidence": 0.1, "inference_time_ms": 2999},
        {"n": "4", "model_name": "own", "prediction_confidence": 0.6, "inference_time_ms": 3000},
    ]
    assert process.http.post("/v1/events", json=events).json()["accepted"] == 4
    found = stored(process, 4)
    assert [found[n]["confidence_level"] for n in "1234"] == ["high", "medium", "low", "medium"]
    assert [found[n]["latency_category"] for n in "1234"] == ["fast", "normal", "slow", "very_slow"]
    assert found["1"]["error_type"] == "gpu"
