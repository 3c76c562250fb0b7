"""Promises 2 and 3: kill -9 in the middle of 200,000 acknowledged events; none missing, none twice."""

import json
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import Gateway, GatewayFactory

EVENTS = 200_000
SENDERS = 4
BATCH = 500
KILLS = 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


def send_all(running: Gateway, sender: int) -> None:
    """Send this sender's share over HTTP, each batch again until it is acknowledged."""
    now = datetime.now(UTC).isoformat()
    share = EVENTS // SENDERS
    with httpx.Client(base_url=running.url, timeout=30, trust_env=False) as client:
        for first in range(0, share, BATCH):
            body = b"\n".join(
                json.dumps(
                    {
                        "timestamp": now,
                        "event_id": f"{sender}-{number}",
                        "model_name": "kill",
                        "prediction_confidence": 0.9,
                        "number": number,
                    }
                ).encode()
                for number in range(first, first + BATCH)
            )
            while True:
                try:
                    answer = client.post("/v1/events", content=body)
                except httpx.TransportError:
                    time.sleep(0.1)
                    continue
                if answer.status_code == httpx.codes.OK:
                    assert answer.json()["accepted"] == BATCH
                    break
                assert answer.status_code in (429, 503), answer.text
                time.sleep(0.1)


def kill_while_sending(running: Gateway) -> None:
    """Send everything while the gateway is killed and started again at drawn moments."""
    draw = random.Random(20260101)
    senders = [threading.Thread(target=send_all, args=(running, number)) for number in range(SENDERS)]
    for thread in senders:
        thread.start()
    for _ in range(KILLS):
        time.sleep(draw.uniform(0.4, 1.5))
        running.kill()
        running.restart()
    for thread in senders:
        thread.join(300)
        assert not thread.is_alive()


def settled(running: Gateway, sink: str) -> dict[str, Any]:
    """Return the books once the sink has taken everything."""
    status = running.wait_until(lambda now: now["books"]["sinks"][sink]["waiting"] == 0, 240)
    books: dict[str, Any] = status["books"]
    assert books["difference"] == 0
    assert books["refused"] == 0
    assert books["accepted"] >= EVENTS
    mine = books["sinks"][sink]
    assert mine["indexed"] + mine["duplicates"] == books["accepted"]
    return books


def test_in_elasticsearch(gateway: GatewayFactory, es: EsClient) -> None:
    """Elasticsearch holds each acknowledged event once, and the books balance."""
    running = gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    kill_while_sending(running)
    settled(running, "elasticsearch")
    assert es.count() == EVENTS
    distinct = {"aggs": {"ids": {"cardinality": {"field": "number", "precision_threshold": 40_000}}}, "size": 0}
    counted = es.search(body=distinct)["aggregations"]["ids"]["value"]
    assert counted == pytest.approx(EVENTS // SENDERS, rel=0.02)


def all_hits(running: Gateway) -> Iterator[dict[str, Any]]:
    """Walk all documents through the pages of /v1/search."""
    params: dict[str, Any] = {"limit": 10_000, "index": "ml-metrics-*"}
    while True:
        answer = running.http.get("/v1/search", params=params)
        answer.raise_for_status()
        page = answer.json()
        yield from page["hits"]
        if page["cursor"] is None:
            return
        params["cursor"] = page["cursor"]


def test_in_the_embedded_store(gateway: GatewayFactory) -> None:
    """The embedded store holds each acknowledged event once, and the books balance."""
    running = gateway()
    kill_while_sending(running)
    books = settled(running, "embedded")
    assert books["sinks"]["embedded"]["indexed"] == EVENTS
    ids = [hit["_source"]["event_id"] for hit in all_hits(running)]
    assert len(ids) == EVENTS
    assert len(set(ids)) == EVENTS
