"""Where `gateway verify` has its events looked for, when the places do not answer as they should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from gateway.operations import verification
from gateway.operations.verification import InElasticsearch, Verification
from gateway.settings import Elasticsearch, Settings
from gateway.sinks.elasticsearch.client import connect
from tests.sinks.elasticsearch.odd_server import OddServer, Reply, Request

pytestmark = pytest.mark.anyio
ID = "0123456789abcdef"


class Server(OddServer):
    """Gives one answer to every request for documents, and one for indices."""

    documents_answer = Reply(b'{"docs":[]}')
    mappings_answer = Reply(b"{}")

    def _reply(self, request: Request) -> Reply:
        self.requests.append(request)
        if "/_mget" in request.path:
            return self.documents_answer
        return self.mappings_answer if "/_mapping" in request.path else Reply()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server that answers as it is told."""
    async with Server() as running:
        yield running


async def asked(server: Server, *, remove: bool = False) -> Any:
    """Ask all the places of a gateway that has Elasticsearch alone."""
    settings = Elasticsearch(urls=(server.url,))
    client = connect(settings)
    asking = Verification(Settings(elasticsearch=settings))
    assert (await asking.arrived(ID, None))["sinks"]["elasticsearch"]["error"] is not None  # not opened yet
    asking.places["elasticsearch"] = InElasticsearch(client, "")
    try:
        answer = await (asking.remove if remove else asking.arrived)(ID, None)
    finally:
        await client.close()
    assert list(answer["sinks"]) == ["elasticsearch"]
    return answer["sinks"]["elasticsearch"]


def of_each(answer: dict[str, Any]) -> Reply:
    """The same answer for each document that is asked for."""
    return Reply(orjson.dumps({"docs": [answer] * 6}))


async def test_no_index_is_no_trouble(server: Server) -> None:
    """Before the first event there is no index."""
    server.documents_answer = of_each({"error": {"type": "index_not_found_exception", "reason": "no such index"}})
    assert await asked(server) == {"arrived": [], "error": None}


async def test_a_key_that_may_not_read(server: Server) -> None:
    """Elasticsearch's reason is told."""
    reason = "action [indices:data/read/mget[shard]] is unauthorized"
    server.documents_answer = of_each({"error": {"type": "security_exception", "reason": reason}})
    answer = await asked(server)
    assert answer == {"arrived": None, "error": f"Elasticsearch does not give the documents: {reason}."}


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b'{"docs":[]}', b'{"docs":[1,2,3,4,5,6]}', b'{"docs":7}'])
async def test_odd_answers(server: Server, body: bytes) -> None:
    """What is no answer is told to be none."""
    server.documents_answer = Reply(body)
    answer = await asked(server)
    assert answer["arrived"] is None
    assert "that is not one" in answer["error"]


async def test_only_marked_indices_of_earlier_days_are_deleted(server: Server) -> None:
    """Neither another mark, nor another name, nor a day to come makes an index one to delete."""
    server.documents_answer = of_each({"found": False})
    ours = {"mappings": {"_meta": {"managed_by": "ml-log-gateway"}}}
    server.mappings_answer = Reply(
        orjson.dumps(
            {
                "ml-verify-2024.01.01": ours,
                "ml-verify-2024.01.02": {"mappings": {"_meta": {"managed_by": "others"}}},
                "ml-verify-2024.01.03-old": ours,
                "ml-verify-": ours,
                "ml-metrics-2024.01.01": ours,
                "ml-verify-2999.01.01": ours,
                "ml-verify-2024.01.04": None,
            }
        )
    )
    assert await asked(server, remove=True) == {"removed": 0, "error": None}
    deleted = [each.path for each in server.requests if each.method == "DELETE"]
    assert deleted == ["/ml-verify-2024.01.01"]
    server.mappings_answer = Reply(b"[]")
    assert "that is not one" in (await asked(server, remove=True))["error"]


async def test_no_answer_in_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that does not answer holds nobody up."""
    monkeypatch.setattr(verification, "ASK_SECS", 0.2)
    server.documents_answer = Reply(delay=5)
    async with asyncio.timeout(3):
        assert await asked(server) == {"arrived": None, "error": "It gave no answer within 0.2 s."}
