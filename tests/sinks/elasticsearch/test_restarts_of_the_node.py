"""Elasticsearch stops and starts in mid-stream."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.node import ElasticsearchNode
from tests.sinks.elasticsearch.running import docs, running, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_gone_and_back(how: str, elasticsearch_node: ElasticsearchNode, tmp_path: Path) -> None:
    """What comes before, while and after the node is gone is there once, and the books say so all the time."""
    node = elasticsearch_node
    es = EsClient(node.url, "t-gone-")
    sent = 0
    async with running(tmp_path / "gateway", node.url, prefix=es.prefix, max_batch_events=50) as rig:

        async def some(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                await rig.append(docs(30, es.prefix, start=sent))
                sent += 30
                await asyncio.sleep(0)

        await some(40)
        await until(lambda: rig.books["indexed"] > 0)
        await some(40)
        ending = asyncio.create_task(asyncio.to_thread(getattr(node, how)))
        while not ending.done():
            await some(1)
            await asyncio.sleep(0.02)
        await ending
        await until(lambda: rig.status["state"] == "retrying")
        await some(20)
        await asyncio.sleep(0.5)  # what was answered at the last moment is noted
        waiting, used = rig.books["waiting"], time.process_time()
        await asyncio.sleep(2)
        assert time.process_time() - used < 0.2
        assert rig.books["waiting"] == waiting > 0
        await asyncio.to_thread(node.start)
        await some(20)
        books = await rig.settled(60)
        assert await rig.letters() == []
        assert rig.status["state"] == "ok"
    assert books["indexed"] + books["duplicates"] == sent
    assert es.count() == sent
    es.close()


async def test_another_node_takes_its_place(elasticsearch_node: ElasticsearchNode, tmp_path: Path) -> None:
    """When an empty node answers at the address, the templates are there before its first document."""
    es = EsClient(elasticsearch_node.url, "t-new-")
    async with running(tmp_path / "gateway", elasticsearch_node.url, prefix=es.prefix) as rig:
        await rig.append(docs(5, es.prefix))
        await rig.settled()
        await asyncio.to_thread(elasticsearch_node.stop)
        fresh = ElasticsearchNode(tmp_path / "fresh" / "data", port=elasticsearch_node.port, heap="512m")
        await rig.append(docs(5, es.prefix, start=5))
        await until(lambda: rig.status["state"] == "retrying")
        try:
            await asyncio.to_thread(fresh.start)
            assert (await rig.settled(60))["indexed"] == 10
            index = f"{es.prefix}ml-metrics-2024.01.15"
            assert es.get(f"/{index}/_mapping")[index]["mappings"]["_meta"]["managed_by"] == "ml-log-gateway"
            assert es.count() == 5
        finally:
            await asyncio.to_thread(fresh.stop)
    es.close()
