"""The gateway's own daily indices go when they are old, and nothing else does."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch import retention
from gateway.sinks.elasticsearch.client import RequestFailed, connect
from gateway.sinks.elasticsearch.retention import Retention
from schemas import BUILT_IN
from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import GatewayFactory
from tests.sinks.elasticsearch.odd_server import OddServer, Reply, status
from tests.sinks.elasticsearch.running import docs, running, until

pytestmark = pytest.mark.anyio
NOW = datetime(2024, 3, 31, 12, tzinfo=UTC)
DAYS = 30  # so that what happened on 29 February is kept until the end of 30 March
OURS = {"mappings": {"_meta": {"managed_by": "ml-log-gateway", "version": "1"}}}


@asynccontextmanager
async def retaining(url: str, prefix: str = "", days: int = DAYS) -> AsyncIterator[Retention]:
    """A retention that is run by hand."""
    client = connect(Elasticsearch(urls=(url,)))
    try:
        yield Retention(client, prefix, BUILT_IN.indices, days)
    finally:
        await client.close()


def listed(*names: str) -> Reply:
    """The answer to a request for indices that are all ours."""
    index = {"aliases": {}, "mappings": {"_meta": {"managed_by": "ml-log-gateway"}}}
    return Reply(json.dumps(dict.fromkeys(names, index)).encode())


async def test_whole_days(node: EsClient) -> None:
    """An index goes as soon as its newest possible event is older than the retention, of every kind, also closed."""
    old = [f"{node.prefix}{index}-2024.02.29" for index in BUILT_IN.indices]
    kept = [f"{node.prefix}{index}-2024.03.01" for index in BUILT_IN.indices]
    for name in (*old, *kept):
        node.put(f"/{name}", OURS, wait_for_active_shards="0")
    node.post(f"/{old[0]}/_close")
    async with retaining(node.url, node.prefix) as each:
        await each.once(datetime(2024, 3, 30, 23, 59, 59, tzinfo=UTC))
        assert node.indices() == sorted((*old, *kept))
        await each.once(datetime(2024, 3, 31, tzinfo=UTC))
        assert node.indices() == sorted(kept)
        assert each.status() == {"last_run": "2024-03-31T00:00:00+00:00", "deleted": len(old), "last_error": None}
        await each.once(datetime(2024, 3, 31, tzinfo=UTC))  # nothing left to do is nothing wrong
        assert each.status()["deleted"] == len(old)


ANOTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "without our mark": ("ml-metrics-2020.01.01", {}),
    "with another's mark": ("ml-metrics-2020.01.01", {"mappings": {"_meta": {"managed_by": "fleet"}}}),
    "of another prefix": ("x-ml-metrics-2020.01.01", OURS),
    "of no kind of ours": ("ml-other-2020.01.01", OURS),
    "with more behind the day": ("ml-metrics-2020.01.01-reindexed", OURS),
    "with more before the day": ("ml-metrics-old-2020.01.01", OURS),
    "of a month": ("ml-metrics-2020.01", OURS),
    "hidden": ("ml-metrics-2020.01.01", {**OURS, "settings": {"index.hidden": True}}),
    "with an alias": ("ml-metrics-2020.01.01", {**OURS, "aliases": {"kept": {}}}),
    "that an alias of our form means": ("elsewhere", {**OURS, "aliases": {"ml-metrics-2020.01.01": {}}}),
}


@pytest.mark.parametrize("which", ANOTHERS)
async def test_what_is_not_ours_alone_stays(which: str, node: EsClient) -> None:
    """An index that is not exactly one of the gateway's, or that somebody reckons with, is not touched."""
    name, body = ANOTHERS[which]
    aliases: dict[str, Any] = {f"{node.prefix}{alias}": {} for alias in body.get("aliases", {})}
    node.put(f"/{node.prefix}{name}", {**body, "aliases": aliases})
    node.put(f"/{node.prefix}ml-audit-2020.01.01", OURS)
    async with retaining(node.url, node.prefix) as each:
        await each.once(NOW)
        assert each.status()["last_error"] is None
    assert node.indices() == [f"{node.prefix}{name}"]


async def test_a_data_stream_stays(odd: OddServer) -> None:
    """An index that is part of a data stream is not touched, whatever its name and mark."""
    index = {"aliases": {}, "mappings": {"_meta": {"managed_by": "ml-log-gateway"}}, "data_stream": "metrics"}
    odd.indices_answer = Reply(json.dumps({"ml-metrics-2020.01.01": index}).encode())
    async with retaining(odd.url) as each:
        await each.once(NOW)
    assert [request.method for request in odd.requests] == ["GET"]


async def test_one_by_one_and_by_exact_name(odd: OddServer) -> None:
    """Each deletion names one index and nothing that could mean more."""
    names = [f"ml-metrics-2020.01.0{day}" for day in range(1, 4)]
    odd.indices_answer = listed(*names)
    async with retaining(odd.url) as each:
        await each.once(NOW)
    assert [each.path for each in odd.requests if each.method == "DELETE"] == [f"/{name}" for name in names]


async def test_one_that_cannot_be_deleted(node: EsClient) -> None:
    """An index with a block holds up no other, is told once, and goes when the block is gone."""
    blocked, other = (f"{node.prefix}ml-metrics-2020.01.0{day}" for day in (1, 2))
    for name in (blocked, other):
        node.put(f"/{name}", OURS)
    node.put(f"/{blocked}/_settings", {"index.blocks.read_only": True})
    async with retaining(node.url, node.prefix) as each:
        with capture_logs() as logs:
            for _ in range(3):
                await each.once(NOW)
        assert node.indices() == [blocked]
        [told] = [log["event"] for log in logs if log["log_level"] == "warning"]
        assert each.status()["last_error"] == told
        assert told.startswith(f"The old index {blocked} cannot be deleted, trying again in an hour: ")
        assert "403" in told
        assert "docs/elasticsearch.md" in told
        node.put(f"/{blocked}/_settings", {"index.blocks.read_only": None})
        await each.once(NOW)
        assert each.status() == {"last_run": NOW.isoformat(), "deleted": 2, "last_error": None}
    assert node.indices() == []


async def test_another_gateway_was_first(odd: OddServer) -> None:
    """An index that is gone when its turn comes is no trouble."""
    odd.indices_answer = listed("ml-metrics-2020.01.01")
    odd.deletions["/ml-metrics-2020.01.01"] = status(404).change(Reply())
    async with retaining(odd.url) as each:
        await each.once(NOW)
        assert each.status() == {"last_run": NOW.isoformat(), "deleted": 0, "last_error": None}


async def test_a_clock_that_is_ahead(node: EsClient, odd: OddServer) -> None:
    """While one of the two clocks is ahead, this machine's or Elasticsearch's, nothing young is deleted."""
    now = datetime.now(UTC)
    young, old = (f"{node.prefix}ml-metrics-{now - timedelta(days=back):%Y.%m.%d}" for back in (2, DAYS + 2))
    for name in (young, old):
        node.put(f"/{name}", OURS)
    async with retaining(node.url, node.prefix) as each:
        await each.once(now + timedelta(days=365))
    assert node.indices() == [young]
    names = [f"ml-metrics-{NOW - timedelta(days=back):%Y.%m.%d}" for back in (2, DAYS + 2)]
    odd.indices_answer = listed(*names)
    async with retaining(odd.url) as each:
        await each.once(NOW)  # long ago for the other side
    assert [each.path for each in odd.requests if each.method == "DELETE"] == [f"/{names[1]}"]


@pytest.mark.parametrize("answer", [b"[]", b"{}", b"null", b'[{"epoch":"soon"}]', b'[{"epoch":1e400}]', b"[1]"])
async def test_without_a_time_nothing_is_deleted(answer: bytes, odd: OddServer) -> None:
    """What cannot be understood as a time is said, and is no reason to delete anything."""
    odd.indices_answer, odd.time_answer = listed("ml-metrics-2020.01.01"), Reply(answer)
    async with retaining(odd.url) as each:
        with pytest.raises(RequestFailed):
            await each.once(NOW)
    assert {request.method for request in odd.requests} == {"GET"}


@pytest.mark.parametrize("answer", [b"[]", b"null", b'{"ml-metrics-2020.01.01":1}', b'{"ml-metrics-2020.01.01":{}}'])
async def test_an_odd_answer_deletes_nothing(answer: bytes, odd: OddServer) -> None:
    """What cannot be understood is no reason to delete anything."""
    odd.indices_answer = Reply(answer)
    async with retaining(odd.url) as each:
        try:
            await each.once(NOW)
        except RequestFailed as error:
            assert "is not one" in str(error)
    assert {request.method for request in odd.requests} == {"GET"}


@pytest.mark.parametrize(
    ("trouble", "word"), [(status(403).change(Reply()), "403"), (Reply(sent=0), "cannot be reached")]
)
async def test_it_never_holds_up_documents(
    trouble: Reply, word: str, odd: OddServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While old indices cannot be looked for, events flow; it is told once, tried until it works, and then again."""
    monkeypatch.setattr(retention, "RETRY_SECS", 0.02)
    monkeypatch.setattr(retention, "EVERY_SECS", 0.02)
    odd.indices_answer = trouble
    with capture_logs() as logs:
        async with running(tmp_path, odd.url, retention_days=30) as rig:
            await rig.append(docs(5))
            assert (await rig.settled())["indexed"] == 5
            await until(lambda: len([each for each in odd.requests if "expand_wildcards" in each.path]) > 3)
            assert rig.status["state"] == "ok"
            assert word in rig.status["retention"]["last_error"]
            odd.indices_answer = listed("ml-metrics-2020.01.01")
            await until(lambda: rig.status["retention"]["deleted"] > 2)  # it is listed each time
            assert rig.status["retention"]["last_error"] is None
    assert len([each for each in logs if "elasticsearch.retention_days): " in each["event"]]) == 1


async def test_off_unless_set(odd: OddServer, tmp_path: Path) -> None:
    """Without retention_days nothing is asked or deleted, and the status says nothing of it."""
    async with running(tmp_path, odd.url) as rig:
        await rig.append(docs(5))
        await rig.settled()
        assert "retention" not in rig.status
    assert not [each for each in odd.requests if "expand_wildcards" in each.path or each.method == "DELETE"]


def daily(prefix: str, first: int, last: int) -> list[str]:
    """The names of an index for days before today."""
    now = datetime.now(UTC)
    return [f"{prefix}ml-metrics-{now - timedelta(days=back):%Y.%m.%d}" for back in range(first, last)]


def test_killed_while_it_deletes(gateway: GatewayFactory, es: EsClient) -> None:
    """What kill -9 in the middle leaves is deleted by the next start; what is young stays and takes its events."""
    old, young = daily(es.prefix, 12, 42), daily(es.prefix, 2, 5)
    for name in (*old, *young):
        es.put(f"/{name}", OURS, wait_for_active_shards="0")
    running = gateway(
        env={
            "ELASTICSEARCH_URL": es.url,
            "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix,
            "GATEWAY_ELASTICSEARCH__RETENTION_DAYS": "10",
        },
    )
    running.wait_until(lambda now: now["sinks"]["elasticsearch"]["retention"]["deleted"] > 0)
    running.kill()
    assert len(es.indices()) > len(young), "the kill came too late to tell anything"
    running.restart()
    running.wait_until(lambda now: now["sinks"]["elasticsearch"]["retention"]["last_run"] is not None)
    assert es.indices() == sorted(young)
    when = datetime.now(UTC) - timedelta(days=9)
    answer = running.http.post("/v1/events", json={"model_name": "m", "timestamp": when.isoformat()})
    assert answer.json()["accepted"] == 1
    running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["indexed"] == 1)
    assert es.count() == 1


@pytest.mark.parametrize("max_age_days", ["90", "null"])
def test_events_that_would_be_gone_at_once_are_refused(
    max_age_days: str, gateway: GatewayFactory, es: EsClient
) -> None:
    """Whatever events.max_age_days says, an event older than the retention is refused as `clock`, with its setting."""
    running = gateway(
        config=f"events: {{index_prefix: {es.prefix}, max_age_days: {max_age_days}}}\n"
        f"elasticsearch: {{urls: ['{es.url}'], retention_days: 10}}\n"
    )
    when = datetime.now(UTC) - timedelta(days=10, seconds=1)
    answer = running.http.post("/v1/events", json={"model_name": "m", "timestamp": when.isoformat()})
    [error] = answer.json()["errors"]
    assert error["message"] == "The event is older than 10 days (elasticsearch.retention_days)."
    assert error["hint"].endswith("raise elasticsearch.retention_days.")
    running.wait_until(lambda now: now["books"]["dead_letters"] == 1)
