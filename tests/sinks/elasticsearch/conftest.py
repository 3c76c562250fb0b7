"""What the tests of the Elasticsearch sink share."""

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.sinks.elasticsearch import backoff
from tests.elasticsearch_node.client import EsClient
from tests.sinks.elasticsearch.odd_server import OddServer


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits begin ten times shorter and grow to a tenth of a second, where a test is not about them."""
    monkeypatch.setattr(backoff, "FIRST_SECS", 0.02)
    monkeypatch.setattr(backoff, "LONGEST_SECS", 0.1)


@pytest.fixture
async def odd() -> AsyncIterator[OddServer]:
    """A server that misbehaves as told."""
    async with OddServer() as server:
        yield server


@pytest.fixture
def node(es: EsClient) -> Iterator[EsClient]:
    """The real Elasticsearch; the gateway's templates of this test are deleted afterwards."""
    yield es
    es.http.delete(f"/_index_template/ml-log-gateway-{es.prefix}*")
