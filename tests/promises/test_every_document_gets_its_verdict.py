"""Promise 4: every document gets its own verdict, whatever becomes of its neighbours."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.sinks.elasticsearch import backoff
from tests.elasticsearch_node.client import EsClient
from tests.sinks.elasticsearch.odd_server import Oddity, OddServer, body, page, status
from tests.sinks.elasticsearch.running import Doc, docs, running, until

pytestmark = pytest.mark.anyio
DAY = "2024.01.15"
SOUND, SHUT, BLOCKED = f"ml-metrics-{DAY}", f"ml-training-{DAY}", f"data-quality-{DAY}"
STORM = [
    Oddity(lambda reply: replace(reply, sent=len(reply.body) // 2)),
    Oddity(lambda reply: replace(reply, delay=0.4)),
    Oddity(lambda reply: replace(reply, body=reply.body[:-5])),
    body(b'{"errors":false,"items":[]}'),
    page(400),
    page(413),
    *(status(number) for number in (400, 401, 403, 404, 429, 500, 502, 503, 504)),
]
BUSY = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}
CLOSED = {"status": 400, "error": {"type": "index_closed_exception", "reason": "closed"}}
REFUSED = {"status": 400, "error": {"type": "document_parsing_exception", "reason": "wrong"}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short."""
    monkeypatch.setattr(backoff, "FIRST_SECS", 0.01)
    monkeypatch.setattr(backoff, "LONGEST_SECS", 0.05)


@pytest.fixture
def node(es: EsClient) -> Iterator[EsClient]:
    """The real Elasticsearch; the gateway's templates of this test are deleted afterwards."""
    yield es
    es.http.delete(f"/_index_template/ml-log-gateway-{es.prefix}*")


async def test_on_the_real_node(node: EsClient, tmp_path: Path) -> None:
    """Sound, repeated, poisoned and mendable documents, in open and shut indices: each ends where it must."""
    prefix = node.prefix
    poison = [Doc(f"poison{at}", b'{"model_name": {"not": "text"}}', f"{prefix}{SOUND}") for at in range(20)]
    twice = [Doc(f"twice{at}", b'{"model_name": "a", "model_name": "b"}', f"{prefix}{SOUND}") for at in range(20)]
    there = docs(20, prefix, SOUND)
    mixed = [
        *docs(100, prefix, SOUND, start=20),
        *docs(30, prefix, SHUT, start=1),
        *docs(30, prefix, BLOCKED, start=1),
        *poison,
        *twice,
        *there,
    ]
    random.Random(4).shuffle(mixed)
    async with running(tmp_path, node.url, prefix=prefix, max_batch_events=25, index_retry_secs=2) as rig:
        await rig.append([*there, *docs(1, prefix, SHUT), *docs(1, prefix, BLOCKED)])
        await rig.settled()
        node.post(f"/{prefix}{SHUT}/_close")
        node.put(f"/{prefix}{BLOCKED}/_settings", {"index.blocks.write": True})
        for start in range(0, len(mixed), 22):
            await rig.append(mixed[start : start + 22])
        await until(lambda: rig.status["parked"] == 60)
        assert (rig.books["indexed"], rig.books["duplicates"], rig.books["dead_letters"]) == (142, 20, 20)
        node.put(f"/{prefix}{BLOCKED}/_settings", {"index.blocks.write": None})
        await until(lambda: rig.status["parked"] == 30)
        await rig.append(docs(1, prefix, SOUND, start=500))  # so it is the closed one alone
        books = await rig.settled()
        letters = await rig.letters()
    assert (books["indexed"], books["duplicates"], books["dead_letters"]) == (173, 20, 50)
    by_reason = {reason: [each for each in letters if each["reason"] == reason] for reason in ("mapping", "sink")}
    assert [each["data"] for each in by_reason["mapping"]] == [each.source for each in poison]
    assert {each["data"] for each in by_reason["sink"]} == {each.source for each in mixed if each.index.endswith(SHUT)}
    assert len(by_reason["sink"]) == 30
    assert (node.count(f"{prefix}{SOUND}"), node.count(f"{prefix}{BLOCKED}")) == (141, 31)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.waits
async def test_in_a_storm(seed: int, tmp_path: Path) -> None:
    """Whatever odd answers come, each document ends once: indexed, or a dead letter with its bytes."""
    draw = random.Random(seed)
    documents = docs(400)
    refused = {each.id for each in draw.sample(documents, 15)}
    troubled = {each.id: draw.randrange(1, 6) for each in draw.sample(documents, 60)}
    asked: dict[str, int] = {}

    def item(name: str, _: bytes) -> dict[str, Any] | None:
        asked[name] = asked.get(name, 0) + 1
        if asked[name] <= troubled.get(name, 0):
            return draw.choice([BUSY, CLOSED])
        return REFUSED if name in refused else None

    async with OddServer() as server:
        server.item = item
        server.odd += [draw.choice(STORM) for _ in range(30)]
        async with running(tmp_path, server.url, max_batch_events=40, request_timeout_secs=0.2) as rig:
            for start in range(0, 400, 25):
                await rig.append(documents[start : start + 25])
                if draw.random() < 0.15:
                    await rig.restart()
            books = await rig.settled(40)
            letters = await rig.letters()
        taken = {name for _, name in server.documents}
    assert taken == {each.id for each in documents} - refused
    assert sorted(each["data"] for each in letters) == sorted(each.source for each in documents if each.id in refused)
    assert books["dead_letters"] == len(refused)
    assert books["indexed"] + books["duplicates"] == 400 - len(refused)
