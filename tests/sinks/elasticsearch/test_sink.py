"""From the spool into the real Elasticsearch: each document once, in its index, and the books say so."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.sinks.elasticsearch import sink as sink_module
from gateway.spool.state import State
from tests.elasticsearch_node.client import EsClient
from tests.sinks.elasticsearch.odd_server import OddServer
from tests.sinks.elasticsearch.running import Doc, docs, running, until

pytestmark = pytest.mark.anyio
METRICS = "ml-metrics-2024.01.15"


def at_fault(prefix: str, name: str = "poison") -> Doc:
    """A document that Elasticsearch refuses for what it is."""
    return Doc(name, b'{ "model_name": {"not": "a text"}, "note": "as sent" }', f"{prefix}{METRICS}")


async def test_each_document_in_its_daily_index(node: EsClient, tmp_path: Path) -> None:
    """Documents of a record go to the indices that they name, under their ids, as they are."""
    prefix = node.prefix
    days = [f"ml-metrics-2024.01.{day}" for day in (14, 15, 16)] + ["data-quality-2024.01.15"]
    documents = [each for day in days for each in docs(7, prefix, day)]
    async with running(tmp_path, node.url, prefix=prefix) as rig:
        await rig.append(documents)
        books = await rig.settled()
    assert books == {
        "indexed": 28, "duplicates": 0, "waiting": 0, "dead_letters": 0, "skipped": 0, "damaged": 0
    }  # fmt: skip
    assert node.indices() == sorted(f"{prefix}{day}" for day in days)
    found = node.search(body={"size": 100})["hits"]["hits"]
    assert {(each["_index"], each["_id"]) for each in found} == {(each.index, each.id) for each in documents}


async def test_books_balance_at_every_moment(node: EsClient, tmp_path: Path) -> None:
    """While documents are written the sink's books add up to what the spool accepted, whenever one looks."""
    looks = 0
    async with running(tmp_path, node.url, prefix=node.prefix, max_batch_events=50) as rig:
        assert rig.books["waiting"] == 0

        async def look() -> None:
            nonlocal looks
            while True:
                assert sum(rig.books.values()) == sum(each.accepted for each in rig.spool.counts.values())
                looks += 1
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        for start in range(0, 1000, 100):
            await rig.append([*docs(99, node.prefix, start=start), at_fault(node.prefix, f"poison{start}")])
        books = await rig.settled()
        assert not looking.done()
        looking.cancel()
    assert looks > 100
    assert (books["indexed"], books["dead_letters"]) == (990, 10)
    assert node.count() == 990


async def test_waiting_is_counted_from_the_first_event(tmp_path: Path) -> None:
    """What Elasticsearch has never answered for is in the books as waiting."""
    async with running(tmp_path, "http://127.0.0.1:1") as rig:
        await rig.append(docs(7))
        assert rig.books["waiting"] == 7
        await until(lambda: rig.status["state"] == "retrying")
        assert rig.books["waiting"] == 7


async def test_a_duplicate_is_a_success(node: EsClient, tmp_path: Path) -> None:
    """What is there already counts as a duplicate, and nothing is written twice."""
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        await rig.append(docs(10, node.prefix))
        await rig.settled()
        await rig.append(docs(15, node.prefix))
        books = await rig.settled()
    assert (books["indexed"], books["duplicates"]) == (15, 10)
    assert node.count() == 15


async def test_a_poisoned_document_harms_no_neighbour(node: EsClient, tmp_path: Path) -> None:
    """It becomes one dead letter with Elasticsearch's reason and its own bytes; its neighbours are indexed once."""
    poison = at_fault(node.prefix)
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        await rig.append([*docs(5, node.prefix), poison, *docs(5, node.prefix, start=5)])
        books = await rig.settled()
        [letter] = await rig.letters()
    assert (books["indexed"], books["duplicates"], books["dead_letters"]) == (10, 0, 1)
    assert node.count() == 10
    assert (letter["reason"], letter["rule"], letter["source"]) == (
        "mapping",
        "document_parsing_exception",
        "elasticsearch",
    )
    assert (letter["data"], letter["index_name"]) == (poison.source, poison.index)
    assert "failed to parse field [model_name]" in letter["message"]


async def test_a_repeated_key_is_mended(node: EsClient, tmp_path: Path) -> None:
    """Of repeated keys the last counts; the document is indexed, not refused."""
    twice = Doc("twice", b'{"model_name": "first", "model_name": "last"}', f"{node.prefix}{METRICS}")
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        await rig.append([*docs(3, node.prefix), twice])
        books = await rig.settled()
    assert (books["indexed"], books["duplicates"], books["dead_letters"]) == (4, 0, 0)
    assert node.get(f"/{twice.index}/_doc/twice")["_source"] == {"model_name": "last"}


async def test_what_cannot_be_mended_keeps_its_bytes(node: EsClient, tmp_path: Path) -> None:
    """A document that is refused also without its repeated key is a dead letter with the bytes it came with."""
    source = b'{"user_id": 1, "user_id": 2, "model_name": {"a": 1}}'
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        await rig.append([Doc("twice", source, f"{node.prefix}{METRICS}")])
        await rig.settled()
        [letter] = await rig.letters()
    assert letter["data"] == source
    assert "failed to parse field [model_name]" in letter["message"]


async def test_drains_within_seconds(node: EsClient, tmp_path: Path) -> None:
    """What is in the spool when the sink is told to drain is in Elasticsearch when it has."""
    async with running(tmp_path, node.url, prefix=node.prefix, flush_after_secs=60) as rig:
        for start in range(0, 2000, 100):
            await rig.append(docs(100, node.prefix, start=start))
        began = time.monotonic()
        await rig.sink.drain(20)
        assert time.monotonic() - began < 10
        assert rig.books["indexed"] == 2000
    assert node.count() == 2000


async def test_draining_a_dead_server_ends(tmp_path: Path) -> None:
    """A drain that cannot succeed ends with its time, and loses nothing."""
    async with running(tmp_path, "http://127.0.0.1:1") as rig:
        await rig.append(docs(10))
        began = time.monotonic()
        await rig.sink.drain(0.5)
        assert 0.5 <= time.monotonic() - began < 3
        assert rig.books["waiting"] == 10


async def test_restarted_in_the_middle(node: EsClient, tmp_path: Path) -> None:
    """However often the sink is broken off and begun again, each document is there once and is counted once."""
    async with running(tmp_path, node.url, prefix=node.prefix, max_in_flight=1, max_batch_events=10) as rig:
        for start in range(0, 900, 30):
            await rig.append([*docs(29, node.prefix, start=start), at_fault(node.prefix, f"poison{start}")])
        breaks = 0
        while rig.books["waiting"]:
            await asyncio.sleep(0.1)
            await rig.restart()
            breaks += 1
        books = await rig.settled()
        assert len(await rig.letters()) == 30
    assert breaks >= 2
    assert books["indexed"] + books["duplicates"] == 870
    assert books["dead_letters"] == 30
    assert node.count() == 870


async def test_only_settled_records_are_let_go(odd: OddServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor on disk is never behind a document that the server does not have."""
    right, wrong = State.commit, []

    def looking(state: State, reader: str, folder: str, cursor: Any, *rest: Any) -> int:
        if cursor.indexed + cursor.duplicates > len(odd.documents):
            wrong.append(cursor)
        return right(state, reader, folder, cursor, *rest)

    monkeypatch.setattr(State, "commit", looking)
    async with running(tmp_path, odd.url, max_batch_events=10) as rig:
        for start in range(0, 600, 30):
            await rig.append(docs(30, start=start))
        await rig.settled()
    assert wrong == []
    assert len(odd.documents) == 600


async def test_what_waits_behind_a_stuck_record_is_bounded(
    odd: OddServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a record that is stuck no more than so many are on their way, and those hold no documents."""
    monkeypatch.setattr(sink_module, "MAX_ON_THE_WAY", 20)
    busy = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}
    [slow] = docs(1)
    stuck = True
    odd.item = lambda name, _: busy if stuck and name == slow.id else None
    async with running(tmp_path, odd.url, flush_after_secs=0.01) as rig:
        await rig.append([slow])
        await until(lambda: odd.bulks)
        for start in range(100, 100 + 60):
            await rig.append(docs(1, start=start, pad=10_000))
            await asyncio.sleep(0.01)
        way = rig.sink._progress._on_the_way
        await until(lambda: len(way) > 20)
        await asyncio.sleep(0.3)
        assert len(way) < 61
        assert sum(each.held for each in way) == 0
        stuck = False
        assert (await rig.settled())["indexed"] == 61


async def test_an_unforeseen_error_is_told(odd: OddServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nothing foresaw stops the sink visibly; after a restart the events are there once."""
    async with running(tmp_path, odd.url) as rig:
        with monkeypatch.context() as patch:
            patch.setattr(rig.sink._sender, "_rule", lambda *_: 1 / 0)
            odd.item = lambda name, _: {"status": 429, "error": {"type": "x", "reason": "y"}}
            await rig.append(docs(5))
            await until(lambda: rig.status["state"] == "stopped")
            assert "restart the gateway" in rig.status["last_error"]
        odd.item = lambda _name, _source: None
        await rig.restart()
        assert (await rig.settled())["indexed"] == 5
