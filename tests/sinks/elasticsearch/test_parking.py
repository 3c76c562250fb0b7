"""An index that alone is in trouble: put aside, tried again, at last dead letters; the others flow."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.elasticsearch_node.client import EsClient
from tests.sinks.elasticsearch.odd_server import OddServer, status
from tests.sinks.elasticsearch.running import Doc, docs, running, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick")]
SHUT, OPEN = "ml-metrics-2024.01.15", "ml-training-2024.01.15"
CLOSED = {"status": 400, "error": {"type": "index_closed_exception", "reason": "closed"}}


@pytest.mark.parametrize("trouble", ["closed", "write", "read_only_allow_delete"])
async def test_others_flow_and_it_drains(trouble: str, node: EsClient, tmp_path: Path) -> None:
    """While an index is closed or blocked the others are indexed; when it opens all of its documents are, once."""
    index = f"{node.prefix}{SHUT}"
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        await rig.append(docs(5, node.prefix, SHUT))
        await rig.settled()
        if trouble == "closed":
            node.post(f"/{index}/_close")
        else:
            node.put(f"/{index}/_settings", {f"index.blocks.{trouble}": True})
        for start in range(0, 30, 10):
            await rig.append([*docs(10, node.prefix, SHUT, start=start), *docs(10, node.prefix, OPEN, start=start)])
        await until(lambda: rig.status["parked"] == 30)
        await until(lambda: rig.status["troubled_indices"] == [index])
        assert (rig.books["waiting"], rig.status["state"]) == (rig.status["parked"], "retrying")
        assert node.count(f"{node.prefix}{OPEN}") == 30
        assert rig.status["last_error"].startswith(f"The index {index} does not take documents (")
        assert rig.status["in_flight"] == 0
        if trouble == "closed":
            node.post(f"/{index}/_open")
        else:
            node.put(f"/{index}/_settings", {f"index.blocks.{trouble}": None})
        books = await rig.settled()
        assert (rig.status["parked"], rig.status["state"], rig.status["troubled_indices"]) == (0, "ok", [])
        assert await rig.letters() == []
    assert (books["indexed"] + books["duplicates"], books["dead_letters"]) == (65, 0)
    assert node.count(index) == 30


async def test_the_log_tells_of_the_trouble_and_of_its_end(node: EsClient, tmp_path: Path) -> None:
    """Who watches the log alone learns which index takes nothing, why, and when that is over."""
    index = f"{node.prefix}{SHUT}"
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        await rig.append(docs(1, node.prefix, SHUT))
        await rig.settled()
        node.post(f"/{index}/_close")
        with capture_logs() as logs:
            await rig.append(docs(5, node.prefix, SHUT, start=1))
            await until(lambda: rig.status["troubled_indices"] == [index])
            node.post(f"/{index}/_open")
            await rig.settled()
            await until(lambda: len(logs) > 1)
    assert [(each["log_level"], each["indices"]) for each in logs] == [("warning", [index]), ("info", [index])]
    assert logs[0]["last_error"].startswith(f"The index {index} does not take documents (")


async def test_dead_letters_after_the_time(node: EsClient, tmp_path: Path) -> None:
    """After index_retry_secs the documents are dead letters `sink`, with bytes, index and reason."""
    index = f"{node.prefix}{SHUT}"
    async with running(tmp_path, node.url, prefix=node.prefix, index_retry_secs=1) as rig:
        await rig.append([*docs(1, node.prefix, SHUT, start=99), *docs(1, node.prefix, OPEN, start=99)])
        await rig.settled()
        node.post(f"/{index}/_close")
        documents = docs(20, node.prefix, SHUT)
        await rig.append(documents)
        await until(lambda: rig.status["parked"] == 20)
        await rig.append(docs(10, node.prefix, OPEN))
        books = await rig.settled()
        letters = await rig.letters()
    assert (books["indexed"], books["dead_letters"]) == (12, 20)
    assert [each["data"] for each in letters] == [each.source for each in documents]
    assert {(each["reason"], each["rule"], each["index_name"]) for each in letters} == {
        ("sink", "index_closed_exception", index)
    }


FULL = {
    "status": 429,
    "error": {
        "type": "cluster_block_exception",
        "reason": "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has "
        "read-only-allow-delete block];",
    },
}
NOWHERE = {"status": 503, "error": {"type": "unavailable_shards_exception", "reason": "primary shard is not active"}}
NO_MORE_SHARDS = {
    "status": 400,
    "error": {"type": "validation_exception", "reason": "this action would add [2] shards"},
}


@pytest.mark.parametrize("trouble", [FULL, NOWHERE, NO_MORE_SHARDS])
async def test_the_only_index_there_is(trouble: dict[str, Any], odd: OddServer, tmp_path: Path) -> None:
    """With traffic to one index, what may be the trouble of all is not given up; once another is taken it is."""
    odd.item = lambda name, _: trouble if name.startswith(SHUT) else None
    async with running(tmp_path, odd.url, index_retry_secs=0.5) as rig:
        await rig.append(docs(5, index=SHUT))
        await until(lambda: rig.status["parked"] == 5)
        seen = len(odd.bulks)
        await asyncio.sleep(1)
        await until(lambda: len(odd.bulks) > seen + 3)
        assert (rig.status["parked"], rig.books["dead_letters"]) == (5, 0)
        await rig.append(docs(5, index=OPEN))
        await until(lambda: rig.books["dead_letters"] == 5)
        assert rig.books["indexed"] == 5


async def test_the_only_index_is_closed(odd: OddServer, tmp_path: Path) -> None:
    """What somebody did to an index itself is its own trouble, also where there is traffic to no other."""
    odd.item = lambda *_: CLOSED
    async with running(tmp_path, odd.url, index_retry_secs=0.2) as rig:
        await rig.append(docs(5, index=SHUT))
        await until(lambda: rig.books["dead_letters"] == 5)


async def test_the_first_out_of_a_trouble_of_all(odd: OddServer, tmp_path: Path) -> None:
    """When all indices were in trouble for long, and one is out of it first, the others are not given up for that."""
    troubled = {SHUT, OPEN}
    odd.item = lambda name, _: NOWHERE if name.rpartition("-")[0] in troubled else None
    async with running(tmp_path, odd.url, index_retry_secs=2) as rig:
        await rig.append([*docs(5, index=SHUT), *docs(5, index=OPEN)])
        await until(lambda: rig.status["parked"] == 10)
        await asyncio.sleep(2.5)
        troubled.discard(OPEN)
        await until(lambda: rig.books["indexed"] == 5)
        await asyncio.sleep(0.5)
        troubled.clear()
        assert (await rig.settled())["indexed"] == 10


async def test_a_slow_index_is_not_asked_with_the_others(odd: OddServer, tmp_path: Path) -> None:
    """An index for which Elasticsearch waits makes the others wait once; then it is asked alone, until it takes one."""
    nowhere = True
    odd.item = lambda name, _: NOWHERE if nowhere and name.startswith(SHUT) else None
    async with running(tmp_path, odd.url, flush_after_secs=0.01) as rig:
        await rig.append([*docs(5, index=SHUT), *docs(5, index=OPEN)])
        await until(lambda: rig.status["parked"] == 5)
        seen = len(odd.bulks)
        for start in range(5, 50, 5):
            await rig.append([*docs(5, index=SHUT, start=start), *docs(5, index=OPEN, start=start)])
            await asyncio.sleep(0.05)
        await until(lambda: rig.status["parked"] == 50)
        assert not [each for each in odd.bulks[seen:] if SHUT.encode() in each.body and OPEN.encode() in each.body]
        nowhere = False
        assert (await rig.settled())["indexed"] == 100
        seen = len(odd.bulks)
        await rig.append([*docs(5, index=SHUT, start=50), *docs(5, index=OPEN, start=50)])
        await rig.settled()
        assert len(odd.bulks) == seen + 1


async def test_trouble_of_all_is_not_given_up(odd: OddServer, tmp_path: Path) -> None:
    """When no index takes documents it is the cluster: after whatever time there are no dead letters."""
    shut = True
    odd.item = lambda _name, _source: CLOSED if shut else None
    async with running(tmp_path, odd.url, index_retry_secs=0.1) as rig:
        await rig.append([*docs(5, index=SHUT), *docs(5, index=OPEN)])
        await until(lambda: rig.status["parked"] == 10)
        seen = len(odd.bulks)
        await until(lambda: len(odd.bulks) > seen + 6)
        assert (rig.status["parked"], await rig.letters()) == (10, [])
        shut = False
        assert (await rig.settled())["indexed"] == 10


async def test_parked_over_a_restart(odd: OddServer, tmp_path: Path) -> None:
    """What is parked is on disk: after a restart it is tried again, after the templates, and indexed once."""
    odd.item = lambda name, _: CLOSED if name.startswith(SHUT) else None
    async with running(tmp_path, odd.url) as rig:
        await rig.append([*docs(5, index=SHUT), *docs(5, index=OPEN)])
        await until(lambda: rig.status["parked"] == 5)
        odd.item = lambda _name, _source: None
        seen = len(odd.requests)
        await rig.restart()
        books = await rig.settled()
    assert (books["indexed"], books["duplicates"]) == (10, 0)
    assert len(odd.documents) == 10
    assert [("_index_template" in each.path) for each in odd.requests[seen : seen + 2]] == [True, True]


async def test_parked_under_another_prefix(odd: OddServer, tmp_path: Path) -> None:
    """What was parked before a change of the prefix waits for the templates of its own prefix."""
    index = f"old-{SHUT}"
    odd.item = lambda *_: CLOSED
    async with running(tmp_path, odd.url, prefix="old-") as rig:
        await rig.append(docs(5, index=index))
        await until(lambda: rig.status["parked"] == 5)
    odd.item = lambda *_: None
    odd.requests.clear()
    async with running(tmp_path, odd.url, prefix="new-") as rig:
        assert (await rig.settled())["indexed"] == 5
    first_bulk = next(at for at, each in enumerate(odd.requests) if "_bulk" in each.path)
    assert any("-old-ml-metrics" in each.path for each in odd.requests[:first_bulk] if each.method == "PUT")


async def test_a_long_row_drains_at_once(odd: OddServer, tmp_path: Path) -> None:
    """Many parked documents are taken without a pause between, in bulks within the bounds."""
    shut = True
    odd.item = lambda _name, _source: CLOSED if shut else None
    async with running(tmp_path, odd.url, max_batch_bytes=100_000) as rig:
        await rig.append(docs(20, start=5000))  # from which the size of the others cannot be guessed
        for start in range(0, 1000, 100):
            await rig.append(docs(100, start=start, pad=5000))
        await until(lambda: rig.status["parked"] == 1020)
        shut = False
        await until(lambda: rig.status["parked"] < 1020)
        books = await rig.settled(5)
    assert books["indexed"] == 1020
    assert max(len(each.body) for each in odd.bulks) <= 100_000


async def test_a_poisoned_one_among_the_parked(odd: OddServer, tmp_path: Path) -> None:
    """When the index opens, a parked document that is refused becomes a dead letter and the others are indexed."""
    shut = True
    refused = {"status": 400, "error": {"type": "document_parsing_exception", "reason": "wrong"}}
    documents = docs(10)

    def item(name: str, _: bytes) -> dict[str, Any] | None:
        return CLOSED if shut else refused if name == documents[3].id else None

    odd.item = item
    async with running(tmp_path, odd.url) as rig:
        await rig.append(documents)
        await until(lambda: rig.status["parked"] == 10)
        shut = False
        books = await rig.settled()
        [letter] = await rig.letters()
    assert (books["indexed"], books["dead_letters"]) == (9, 1)
    assert (letter["reason"], letter["data"]) == ("mapping", documents[3].source)


async def test_a_repeated_key_among_the_parked(node: EsClient, tmp_path: Path) -> None:
    """A parked document is written once more without its repeated key, as any other."""
    index = f"{node.prefix}{SHUT}"
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        await rig.append(docs(1, node.prefix, SHUT))
        await rig.settled()
        node.post(f"/{index}/_close")
        await rig.append(
            [Doc("twice", b'{"model_name": "a", "model_name": "b"}', index), *docs(2, node.prefix, SHUT, 1)]
        )
        await until(lambda: rig.status["parked"] == 3)
        node.post(f"/{index}/_open")
        books = await rig.settled()
    assert (books["indexed"], books["dead_letters"]) == (4, 0)
    assert node.get(f"/{index}/_doc/twice")["_source"] == {"model_name": "b"}


async def test_a_body_refused_as_a_whole_among_the_parked(odd: OddServer, tmp_path: Path) -> None:
    """One parked document for which whole bodies are refused does not keep the others of its index from being taken."""
    shut = True
    odd.item = lambda _name, _source: CLOSED if shut else None
    documents = docs(9)
    async with running(tmp_path, odd.url, index_retry_secs=3600) as rig:
        await rig.append(documents)
        await until(lambda: rig.status["parked"] == 9)
        odd.refused = documents[0].source
        shut = False
        await until(lambda: rig.status["parked"] == 1)
        assert rig.books["indexed"] == 8
        odd.refused = None
        assert (await rig.settled())["indexed"] == 9


async def test_a_dead_server_leaves_them_parked(odd: OddServer, tmp_path: Path) -> None:
    """While whole requests fail, parked documents neither expire nor vanish."""
    shut = True
    odd.item = lambda name, _: CLOSED if shut and name.startswith(SHUT) else None
    async with running(tmp_path, odd.url, index_retry_secs=0.5) as rig:
        await rig.append([*docs(5, index=SHUT)])
        await until(lambda: rig.status["parked"] == 5)
        odd.always = status(503)
        await rig.append(docs(5, index=OPEN))
        await until(lambda: rig.sink._sender.patience.in_trouble)
        seen = len(odd.bulks)
        await asyncio.sleep(1)
        assert not [each for each in odd.bulks[seen:] if SHUT.encode() in each.body]  # one probes, that is enough
        assert (rig.status["parked"], await rig.letters()) == (5, [])
        shut, odd.always = False, None
        assert (await rig.settled())["indexed"] == 10
