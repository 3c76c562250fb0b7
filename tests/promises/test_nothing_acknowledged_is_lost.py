"""Promises 2 and 3: whatever kills the gateway, each acknowledged event is in the stores once.

At full speed, with kills among 200,000 events; at a moderate one, in `tests.crash`, with kills, power cuts
and an Elasticsearch in trouble at drawn moments, and with death between every two steps of the write path.
"""

import json
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crash.lane import Lane
from tests.crash.soak import soak, table
from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.node import ElasticsearchNode
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


def test_through_kills_and_power_cuts(elasticsearch_node: ElasticsearchNode, tmp_path: Path) -> None:
    """A short `make soak`: two gateways, and the Elasticsearch of one, are ended again and again."""
    assert soak(tmp_path, elasticsearch_node, seconds=80, kills=30, seed=20261121, rate=200)


def test_death_at_every_step(elasticsearch_node: ElasticsearchNode, tmp_path: Path) -> None:
    """A gateway with both stores dies between every two steps of an event's way, by a kill or a power cut."""
    lane = Lane(
        "both", tmp_path, seed=2, now=datetime.now(UTC), elasticsearch=elasticsearch_node.url, embedded=True, rate=60
    )
    with httpx.Client(base_url=elasticsearch_node.url, timeout=30, trust_env=False) as node:

        def block(on: bool) -> None:
            node.put("/_all/_settings", json={"index.blocks.write": on or None}).raise_for_status()

        try:
            lane.start()
            missed = lane.lives.march(block, threading.Event())
            result = lane.finish()
        finally:
            lane.close()
    print(table([result]))  # noqa: T201 - for the report of a failure
    assert result.sound, result.problems
    assert missed == []
