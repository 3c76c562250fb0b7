"""A node of the cluster dies in mid-stream: the gateway goes on with the others, and loses and doubles nothing."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.cluster import ElasticsearchCluster
from tests.elasticsearch_node.node import ElasticsearchNode
from tests.gateway_process import Gateway, GatewayFactory

SENDERS = 2
BATCH = 100
PAUSE_SECS = 0.1
MORE = 3000  # events that have to be indexed before something else happens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Load:
    """Senders that each number their events, and send a batch again until it is acknowledged."""

    def __init__(self, running: Gateway) -> None:
        self._running = running
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]
        self.acknowledged = [0] * SENDERS
        self.failures: list[str] = []
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop the senders."""
        self._ending.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _send(self, sender: int) -> None:
        days = [datetime.now(UTC) - timedelta(days=back) for back in range(3)]
        with httpx.Client(base_url=self._running.url, timeout=30, trust_env=False) as client:
            while not self._ending.is_set():
                first = self.acknowledged[sender]
                events: list[dict[str, Any]] = [
                    {
                        "timestamp": days[number % 3].isoformat(),
                        "event_id": f"{sender}-{number}",
                        "model_name": "cluster",
                        "sender": sender,
                        "number": number,
                    }
                    for number in range(first, first + BATCH)
                ]
                answer = client.post("/v1/events", content=b"\n".join(json.dumps(each).encode() for each in events))
                if answer.status_code == httpx.codes.OK:
                    self.acknowledged[sender] += BATCH
                else:
                    self.failures.append(answer.text)
                time.sleep(PAUSE_SECS)


def books(status: dict[str, Any]) -> dict[str, Any]:
    """The sink's part of the books."""
    mine: dict[str, Any] = status["books"]["sinks"]["elasticsearch"]
    return mine


def goes_on(running: Gateway) -> None:
    """Return when so many more events are indexed."""
    before = books(running.wait_until(lambda now: bool(books(now))))["indexed"]
    running.wait_until(lambda now: books(now)["indexed"] >= before + MORE, 180)


def numbers(es: EsClient, sender: int, count: int) -> list[int]:
    """The numbers of a sender's events, as often as they are stored."""
    found = []
    for first in range(0, count, 5000):
        within = [{"term": {"sender": sender}}, {"range": {"number": {"gte": first, "lt": first + 5000}}}]
        found += [int(each["number"]) for each in es.sources(body={"query": {"bool": {"filter": within}}})]
    return found


def test_a_node_is_killed(
    elasticsearch_cluster: ElasticsearchCluster, gateway: GatewayFactory, index_prefix: str
) -> None:
    """Of three nodes first another than the master is killed, then the master; each comes back while events flow."""
    cluster = elasticsearch_cluster
    running = gateway(env={"ELASTICSEARCH_URL": ",".join(cluster.urls), "GATEWAY_EVENTS__INDEX_PREFIX": index_prefix})

    def kill(node: ElasticsearchNode) -> None:
        node.kill()
        goes_on(running)  # with the two that are left
        node.start()
        cluster.wait_green()
        goes_on(running)

    load = Load(running)
    try:
        goes_on(running)
        cluster.wait_green()
        master = cluster.master()
        kill(next(node for node in cluster.nodes if node is not master))
        kill(cluster.master())
    finally:
        load.end()
    status = running.wait_until(lambda now: books(now)["waiting"] == 0, 120)
    cluster.wait_green()
    sent = sum(load.acknowledged)
    assert load.failures == []
    assert status["books"]["difference"] == 0
    assert status["books"]["accepted"] == sent
    assert books(status)["indexed"] + books(status)["duplicates"] == sent
    es = EsClient(cluster.urls[0], index_prefix)
    try:
        assert es.count() == sent
        for sender, count in enumerate(load.acknowledged):
            assert sorted(numbers(es, sender, count)) == list(range(count))
    finally:
        es.close()
