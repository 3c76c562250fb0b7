"""Both stores, for suites that run on each."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch

from gateway.spool.record import Documents
from gateway.store.elasticsearch import ElasticsearchStore
from gateway.store.embedded import EmbeddedStore
from schemas import BUILT_IN
from tests.contract.stores import ASKED_LATE, Subject
from tests.elasticsearch_node.client import EsClient
from tests.store.documents import SETTINGS, fill


@pytest.fixture(params=["embedded", pytest.param("elasticsearch", marks=ASKED_LATE)])
def subject_of(request: pytest.FixtureRequest) -> Any:
    """The fixture that makes the store, asked for late so that Elasticsearch starts only when it is used."""
    return request.getfixturevalue(f"{request.param}_subject")


@pytest.fixture
async def embedded_subject(tmp_path: Path) -> AsyncIterator[Subject]:
    """The embedded store in a file of its own."""
    store = EmbeddedStore(tmp_path / "store.duckdb", SETTINGS)
    await store.open()

    async def add(groups: list[Documents]) -> None:
        await fill(store, groups)

    yield Subject(store, add, "")
    await store.close()


@pytest.fixture
async def elasticsearch_subject(es: EsClient) -> AsyncIterator[Subject]:
    """The real Elasticsearch under a prefix of its own, with the gateway's templates."""
    for index in BUILT_IN.indices:
        body = BUILT_IN.index_template(
            index,
            pattern=f"{es.prefix}{index}-*",
            shards=2 if index == "ml-training" else 1,
            auto_expand_replicas="0-1",
            refresh_interval="1s",
            version=1,
        )
        es.put(f"/_index_template/{es.prefix}{index}", body)
    client = AsyncElasticsearch(es.url)

    async def add(groups: list[Documents]) -> None:
        answer = es.post("/_bulk", b"".join(bytes(each.data) for each in groups), refresh="true")
        assert not answer["errors"], answer

    yield Subject(ElasticsearchStore(client, es.prefix), add, es.prefix)
    await client.close()
