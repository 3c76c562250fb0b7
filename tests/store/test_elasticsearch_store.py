"""What questions to Elasticsearch leave to the bulks, which go through the same client."""

import asyncio
from typing import Any

import pytest

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.client import connect
from gateway.store.elasticsearch import ElasticsearchStore
from gateway.store.query import Query

pytestmark = pytest.mark.anyio


async def test_many_questions_at_once() -> None:
    """However many ask, a bulk finds a connection at once."""
    settings = Elasticsearch(urls=("http://127.0.0.1:1",))
    client = connect(settings)
    under_way, most = 0, 0

    async def search(**arguments: Any) -> dict[str, Any]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return {"hits": {"total": {"value": 0}, "hits": []}}

    client.search = search  # type: ignore[method-assign, assignment]
    store = ElasticsearchStore(client)
    await asyncio.gather(*(store.search(Query()) for _ in range(30)))
    (node,) = client.transport.node_pool.all()
    assert 1 < most <= node.config.connections_per_node - settings.max_in_flight - 2  # two for the rest
    await client.close()
