"""A real Elasticsearch that says 429 because its memory is full."""

from pathlib import Path

import pytest

from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.node import ElasticsearchNode
from tests.sinks.elasticsearch.running import docs, running, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180), pytest.mark.usefixtures("quick")]


def breaker(es: EsClient, **limits: str | None) -> None:
    """Set the limits of circuit breakers; this request is let through by all of them."""
    es.put("/_cluster/settings", {"persistent": {name.replace("__", "."): value for name, value in limits.items()}})


async def test_no_memory_for_large_bodies_or_for_any(elasticsearch_node: ElasticsearchNode, tmp_path: Path) -> None:
    """Bodies that are too large for the memory there is are sent in halves; while there is none everything waits."""
    es = EsClient(elasticsearch_node.url, "t-breaker-")
    try:
        async with running(tmp_path / "gateway", es.url, prefix=es.prefix, max_batch_bytes=800_000) as rig:
            breaker(es, network__breaker__inflight_requests__limit="400kb")
            for start in range(0, 1000, 100):
                await rig.append(docs(100, es.prefix, start=start, pad=5000))
            await until(lambda: "circuit_breaking_exception" in (rig.status["last_error"] or ""))
            books = await rig.settled(60)
            assert (books["indexed"], books["dead_letters"], rig.status["state"]) == (1000, 0, "ok")
            breaker(es, network__breaker__inflight_requests__limit="1b")
            await rig.append(docs(100, es.prefix, start=1000))
            await until(lambda: rig.status["state"] == "retrying")
            assert "429 to " in rig.status["last_error"]
            breaker(es, network__breaker__inflight_requests__limit=None)
            books = await rig.settled(60)
        assert (books["indexed"] + books["duplicates"], books["dead_letters"]) == (1100, 0)
        assert es.count() == 1100
    finally:
        es.close()
