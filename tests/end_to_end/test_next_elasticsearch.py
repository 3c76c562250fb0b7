"""The main job against the next major version of Elasticsearch."""

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from statistics import fmean

import pytest

from gateway.cli.traffic import Scenario, Traffic
from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.node import NEXT_VERSION
from tests.end_to_end.test_mixed_load import TYPES, expected_enrichment, expected_index
from tests.gateway_process import GatewayFactory

EVENTS = 10_000
DAYS = 10

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_the_main_job(gateway: GatewayFactory, next_es: EsClient) -> None:
    """Events of all kinds are indexed, typed, enriched, found, averaged, known again, and deleted when old."""
    es = next_es
    assert es.get("/")["version"]["number"] == NEXT_VERSION
    old = f"{es.prefix}ml-metrics-{datetime.now(UTC) - timedelta(days=DAYS + 2):%Y.%m.%d}"
    es.put(f"/{old}", {"mappings": {"_meta": {"managed_by": "ml-log-gateway"}}})
    running = gateway(
        config={
            "events": {"index_prefix": es.prefix},
            "elasticsearch": {"urls": [es.url], "retention_days": DAYS},
        }
    )
    status = running.wait_until(lambda now: now["sinks"]["elasticsearch"]["retention"]["last_run"] is not None)
    assert status["sinks"]["elasticsearch"]["retention"]["last_error"] is None
    assert es.indices() == []

    traffic = Traffic(20260101, Scenario.ERRORS)
    now = datetime.now(UTC) - timedelta(minutes=1)
    sent = [traffic.event(now - timedelta(seconds=15 * (EVENTS - each)), each / EVENTS) for each in range(EVENTS)]
    lines = b"".join(json.dumps(event).encode() + b"\n" for event in sent)

    def send(times: int) -> None:
        """Send all of it after it was sent so many times, and look what became of it."""
        running.send_tcp(lines)
        status = running.wait_until(
            lambda now: (
                now["books"]["received"] == EVENTS * (1 + times)
                and now["books"]["sinks"]["elasticsearch"]["waiting"] == 0
            ),
            60,
        )
        books = status["books"]["sinks"]["elasticsearch"]
        assert (books["indexed"], books["duplicates"], books["dead_letters"]) == (EVENTS, times * EVENTS, 0)
        assert status["books"]["difference"] == 0

    send(0)
    send(1)
    es.refresh()
    wanted = Counter(f"{es.prefix}{expected_index(event)}" for event in sent)
    assert {index: es.count(index) for index in es.indices()} == dict(wanted)
    for index, types in TYPES.items():
        for mapping in es.get(f"/{es.prefix}{index}-*/_mapping").values():
            properties = mapping["mappings"]["properties"]
            assert {name: properties[name]["type"] for name in types} == types

    predictions = [event for event in sent if expected_index(event).startswith("ml-metrics")]
    name = Counter(event["model_name"] for event in predictions).most_common(1)[0][0]
    of_model = [event for event in predictions if event["model_name"] == name]
    where = {"index": f"{es.prefix}ml-metrics-*", "where": f"model_name:{name}"}
    found = running.http.get("/v1/search", params={**where, "limit": 1000}).json()
    assert found["total"] == len(of_model)
    by_id = {event["event_id"]: event for event in of_model}
    for hit in found["hits"]:
        event = by_id[hit["_source"]["event_id"]]
        assert {**hit["_source"], **event, **expected_enrichment(event)} == hit["_source"]
    answer = running.http.get("/v1/aggregate", params={**where, "metric": "avg:prediction_confidence"}).json()
    confidences = [
        event["prediction_confidence"] for event in of_model if event.get("prediction_confidence") is not None
    ]
    assert answer["buckets"][0]["avg:prediction_confidence"] == pytest.approx(fmean(confidences), abs=1e-9)

    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "templates", "verify", "--config", str(running.config_file)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
