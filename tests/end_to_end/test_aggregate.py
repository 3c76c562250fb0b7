"""Events over TCP, their figures over HTTP."""

import json
import random
import statistics
import time
from collections import defaultdict
from typing import Any

import httpx
import pytest

from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import Gateway, GatewayFactory

EVENTS = 600


def aggregate(gateway: Gateway, **params: Any) -> dict[str, Any]:
    """Return the answer once all events are in it; they show within two seconds."""
    deadline = time.monotonic() + 10
    while True:
        answer = gateway.http.get("/v1/aggregate", params=params)
        if answer.status_code == httpx.codes.OK and answer.json()["total"] == EVENTS:
            found: dict[str, Any] = answer.json()
            return found
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def test_latency_per_model(gateway: GatewayFactory) -> None:
    """In the embedded store, figures of each model's latency are those of the events that were sent."""
    check(gateway())


def test_latency_per_model_in_elasticsearch(gateway: GatewayFactory, es: EsClient) -> None:
    """In Elasticsearch they are the same."""
    check(gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix}))


def check(running: Gateway) -> None:
    """Send events, then compare count, mean and 95th percentile for each model."""
    chance = random.Random(5)
    sent = defaultdict(list)
    lines = []
    for n in range(EVENTS):
        model, taken = chance.choice(["fraud", "churn", "vision"]), chance.lognormvariate(3, 1)
        sent[model].append(taken)
        # A numeric string is a number in both stores.
        event = {"model_name": model, "inference_time_ms": str(taken) if n % 2 else taken, "gpu": n % 4}
        lines.append(json.dumps(event).encode() + b"\n")
    running.send_tcp(b"".join(lines))

    metrics = ["count", "avg:inference_time_ms", "p95:inference_time_ms"]
    answer = aggregate(running, index="*ml-metrics-*", by="model_name", metric=metrics)
    assert [bucket["key"] for bucket in answer["buckets"]] == sorted(sent, key=lambda model: (-len(sent[model]), model))
    for bucket in answer["buckets"]:
        taken_ms = sent[bucket["key"]]
        assert bucket["count"] == len(taken_ms)
        assert bucket["avg:inference_time_ms"] == pytest.approx(statistics.fmean(taken_ms))
        percentile = statistics.quantiles(taken_ms, n=100, method="inclusive")[94]
        assert bucket["p95:inference_time_ms"] == pytest.approx(percentile)

    by_gpu = aggregate(running, by="gpu")["buckets"]
    assert by_gpu == [{"key": gpu, "count": EVENTS // 4} for gpu in range(4)]
    over_time = aggregate(running, interval="1d", by="model_name")["buckets"]
    assert sum(bucket["count"] for bucket in over_time) == EVENTS
