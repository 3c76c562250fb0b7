"""Index templates: derived from the schemas, kept as wanted, never a user's own."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch import upkeep
from gateway.sinks.elasticsearch.client import RequestFailed, connect
from gateway.sinks.elasticsearch.templates import MANAGED_BY, Outcome, apply, wanted
from gateway.sinks.elasticsearch.upkeep import Upkeep
from gateway.telemetry import Telemetry
from schemas import BUILT_IN
from tests.elasticsearch_node.client import EsClient
from tests.sinks.elasticsearch.odd_server import OddServer, Reply, status
from tests.sinks.elasticsearch.running import docs, running, until

pytestmark = pytest.mark.anyio


async def applied(es: EsClient, *, exactly: bool = False, **settings: Any) -> dict[str, Outcome]:
    """Apply the templates with settings; return what was done, by index."""
    wish = Elasticsearch(urls=(es.url,), **settings)
    client = connect(wish)
    try:
        done = await apply(client, es.prefix, wanted(wish, es.prefix, BUILT_IN), exactly=exactly)
    finally:
        await client.close()
    return {name.removeprefix(f"{MANAGED_BY}-{es.prefix}"): outcome for name, outcome in done.items()}


def template(es: EsClient, index: str = "ml-metrics") -> dict[str, Any]:
    """Return a template as Elasticsearch has it."""
    name = f"{MANAGED_BY}-{es.prefix}{index}"
    [found] = es.get(f"/_index_template/{name}")["index_templates"]
    body: dict[str, Any] = found["index_template"]
    return body


async def test_one_for_each_index(node: EsClient) -> None:
    """Every kind of index has its template, with the prefix in name and pattern, and it is as wanted."""
    indices = BUILT_IN.indices
    assert await applied(node) == dict.fromkeys(indices, Outcome.CREATED)
    assert await applied(node, exactly=True) == dict.fromkeys(indices, Outcome.UNCHANGED)
    for index in indices:
        assert template(node, index)["index_patterns"] == [f"{node.prefix}{index}-*"]
    assert len(wanted(Elasticsearch(), node.prefix, BUILT_IN)) == len(indices)
    assert template(node) == wanted(Elasticsearch(), node.prefix, BUILT_IN)[f"{MANAGED_BY}-{node.prefix}ml-metrics"]


async def test_changed_settings_change_the_template(node: EsClient) -> None:
    """What is set for shards, replicas and refresh is what the next new index has."""
    await applied(node)
    done = await applied(node, shards=3, auto_expand_replicas="0-2", refresh_interval="7s")
    assert set(done.values()) == {Outcome.UPDATED}
    name = f"{node.prefix}ml-metrics-2024.01.15"
    node.put(f"/{name}")
    index = node.get(f"/{name}/_settings")[name]["settings"]["index"]
    assert (index["number_of_shards"], index["auto_expand_replicas"], index["refresh_interval"]) == ("3", "0-2", "7s")


async def test_a_users_own_stays(node: EsClient) -> None:
    """A template of our name without our mark is left as it is and named; the others are made."""
    name = f"{MANAGED_BY}-{node.prefix}ml-metrics"
    node.put(f"/_index_template/{name}", {"index_patterns": [f"{node.prefix}mine-*"], "priority": 7})
    done = await applied(node, exactly=True)
    assert [index for index, outcome in done.items() if outcome is Outcome.LEFT_ALONE] == ["ml-metrics"]
    assert template(node)["index_patterns"] == [f"{node.prefix}mine-*"]
    assert template(node, "ml-training")["_meta"]["managed_by"] == MANAGED_BY


async def test_what_was_changed_by_hand(node: EsClient) -> None:
    """A change that kept our mark stays while the gateway runs, and goes when it is applied exactly."""
    await applied(node)
    body = template(node)
    changed = body | {"template": body["template"] | {"mappings": {"properties": {"model_name": {"type": "text"}}}}}
    node.put(f"/_index_template/{MANAGED_BY}-{node.prefix}ml-metrics", changed)
    assert (await applied(node))["ml-metrics"] is Outcome.UNCHANGED
    assert (await applied(node, exactly=True))["ml-metrics"] is Outcome.UPDATED
    assert template(node) == body


async def test_unchanged_is_only_read(odd: OddServer, node: EsClient) -> None:
    """Templates that are as wanted are not written again."""
    settings = Elasticsearch(urls=(odd.url,))
    present = [
        {"name": name, "index_template": {"_meta": body["_meta"]}}
        for name, body in wanted(settings, "p-", BUILT_IN).items()
    ]
    odd.templates = present
    client = connect(settings)
    try:
        done = await apply(client, "p-", wanted(settings, "p-", BUILT_IN))
        assert set(done.values()) == {Outcome.UNCHANGED}
        assert [(each.method, each.path) for each in odd.requests] == [("GET", f"/_index_template/{MANAGED_BY}-p-*")]
        await apply(client, "q-", wanted(settings, "q-", BUILT_IN))
        assert [each.method for each in odd.requests[2:]] == ["PUT"] * len(present)
    finally:
        await client.close()


@pytest.mark.parametrize("answer", [b"[]", b'{"index_templates":[1]}', b'{"index_templates":null}', b"{}", b'"x"'])
async def test_an_odd_answer_is_waited_out(answer: bytes, odd: OddServer) -> None:
    """An answer about templates that is none counts as a request that failed."""
    settings = Elasticsearch(urls=(odd.url,))
    odd.templates_answer = Reply(answer)
    client = connect(settings)
    try:
        with pytest.raises(RequestFailed, match="request for templates that is not one"):
            await apply(client, "", wanted(settings, "", BUILT_IN))
    finally:
        await client.close()


@pytest.mark.usefixtures("quick")
async def test_no_document_before_its_template(odd: OddServer, tmp_path: Path) -> None:
    """While the templates cannot be put in place no document is sent, and the status says why and what to do."""
    odd.templates_answer = status(403, "unauthorized").change(Reply())
    async with running(tmp_path, odd.url) as rig:
        await rig.append(docs(5))
        await until(lambda: len(odd.requests) > 5)
        assert odd.bulks == []
        assert rig.status["state"] == "retrying"
        assert rig.status["last_error"].startswith(
            "The index templates are not in place (elasticsearch.manage_templates): Elasticsearch answered 403"
        )
        odd.templates_answer = None
        assert (await rig.settled())["indexed"] == 5


@pytest.mark.usefixtures("quick")
async def test_checked_again_after_trouble(odd: OddServer, tmp_path: Path) -> None:
    """After trouble the templates are looked at before the next document: the server may be a new, empty one."""
    async with running(tmp_path, odd.url) as rig:
        await rig.append(docs(5))
        await rig.settled()
        odd.odd.append(status(503))
        await rig.append(docs(5, start=5))
        await rig.settled()
    order = ["bulk" if "_bulk" in each.path else each.method for each in odd.requests]
    puts = ["PUT"] * len(BUILT_IN.indices)
    look = ["GET", *puts]  # this server keeps none
    assert order == [*look, *look, "bulk", "bulk", *look, "bulk"]  # at the start, for a new index, after trouble


async def test_not_managed_means_not_asked(odd: OddServer, tmp_path: Path) -> None:
    """With manage_templates off no request speaks of templates."""
    async with running(tmp_path, odd.url, manage_templates=False) as rig:
        await asyncio.sleep(0.3)
        assert odd.requests == []
        await rig.append(docs(5))
        assert (await rig.settled())["indexed"] == 5
    assert {each.path.partition("?")[0] for each in odd.requests} == {"/_bulk"}


@pytest.mark.usefixtures("quick")
async def test_a_users_own_is_named_once(odd: OddServer, tmp_path: Path) -> None:
    """However often the templates are checked, a user's own is named in the log once."""
    odd.templates = [{"name": f"{MANAGED_BY}-ml-metrics", "index_template": {"_meta": {"managed_by": "me"}}}]
    with capture_logs() as logs:
        async with running(tmp_path, odd.url) as rig:
            for number in range(3):
                odd.odd.append(status(503))  # after which they are checked again
                await rig.append(docs(5, start=5 * number))
                await rig.settled()
    named = [each for each in logs if "not the gateway's" in each["event"]]
    assert [each["templates"] for each in named] == [[f"{MANAGED_BY}-ml-metrics"]]
    assert not any("ml-metrics" in each.path for each in odd.requests if each.method == "PUT")


async def test_documents_find_the_mapping(node: EsClient, tmp_path: Path) -> None:
    """The first document of an index comes after its template: a field it does not hold is mapped already."""
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        await rig.append(docs(1, node.prefix))
        await rig.settled()
    index = f"{node.prefix}ml-metrics-2024.01.15"
    mappings = node.get(f"/{index}/_mapping")[index]["mappings"]
    assert mappings["_meta"]["managed_by"] == MANAGED_BY
    assert mappings["properties"]["prediction_confidence"] == {"type": "double"}
    assert mappings["properties"]["@timestamp"] == {"type": "date"}


async def test_what_was_named_under_another_prefix_has_its_template_too(node: EsClient, tmp_path: Path) -> None:
    """Events in the spool from before a change of the prefix find their mapping as well."""
    async with running(tmp_path, node.url, prefix=f"{node.prefix}new-") as rig:
        await rig.append(docs(1, f"{node.prefix}old-"))
        await rig.settled()
    index = f"{node.prefix}old-ml-metrics-2024.01.15"
    assert node.get(f"/{index}/_mapping")[index]["mappings"]["_meta"]["managed_by"] == MANAGED_BY


async def test_an_index_of_no_known_kind(odd: OddServer, tmp_path: Path) -> None:
    """Events of a kind that is gone are taken, and no template is made for a prefix that nobody has set."""
    async with running(tmp_path, odd.url, prefix="p-") as rig:
        await rig.append(docs(3, index="p-ml-sensors-2024.01.15"))
        assert (await rig.settled())["indexed"] == 3
    put = [each.path.rpartition("/")[2] for each in odd.requests if each.method == "PUT"]
    assert set(put) == {f"{MANAGED_BY}-p-{index}" for index in BUILT_IN.indices}


async def test_deleted_while_it_runs(node: EsClient, tmp_path: Path) -> None:
    """Templates that somebody deletes are put back before the first document of an index that is not there yet."""
    templates = f"/_index_template/{MANAGED_BY}-{node.prefix}*"
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        for number, day in enumerate(("14", "15", "16"), 1):
            await rig.append(docs(3, node.prefix, f"ml-metrics-2024.01.{day}"))
            assert (await rig.settled())["indexed"] == 3 * number
            node.delete(templates)
        assert node.http.get(templates).json() == {"index_templates": []}
    for index in node.indices():
        assert node.get(f"/{index}/_mapping")[index]["mappings"]["_meta"]["managed_by"] == MANAGED_BY
    assert len(node.indices()) == 3


async def test_as_many_days_as_may_be(odd: OddServer) -> None:
    """However many indices there were, the names that are remembered stay few."""
    settings = Elasticsearch(urls=(odd.url,))
    client = connect(settings)
    each = Upkeep(client, settings, "", BUILT_IN, Telemetry())
    for number in range(3 * upkeep.MOST_KNOWN):
        each.cover({f"ml-metrics-{number}"})
    await client.close()
    assert len(each._known) <= upkeep.MOST_KNOWN + 1


async def test_trouble_while_they_are_looked_at(odd: OddServer) -> None:
    """A server that comes back as another while the templates are put in place is looked at once more."""
    settings = Elasticsearch(urls=(odd.url,))
    client = connect(settings)
    each = Upkeep(client, settings, "", BUILT_IN, Telemetry())
    odd.templates_answer = Reply(b'{"index_templates":[]}', delay=0.2)
    try:
        looking = asyncio.create_task(each.ensure())
        await until(lambda: odd.requests)
        each.recheck()
        await looking
        for _ in range(2):
            await each.ensure()
    finally:
        await client.close()
    assert [each.method for each in odd.requests].count("GET") == 2


@pytest.mark.parametrize(
    ("index", "prefix"),
    [
        ("ml-metrics-2026.01.31", ""),
        ("data-quality-2026.01.31", ""),
        ("team-ml-labels-2026.01.31", "team-"),
        ("ml-ml-audit-2026.01.31", "ml-"),
    ],
)
async def test_the_prefix_of_an_index(index: str, prefix: str) -> None:
    """It is what stands before one of the known names."""
    assert BUILT_IN.split(index)[0] == prefix
