"""Elasticsearch's own lifecycle management deletes old indices, where the settings say so.

The Elasticsearch of the tests has no such module: where one is needed a small fake stands for it.
"""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from tests.elasticsearch_node.client import EsClient
from tests.sinks.elasticsearch.odd_server import OddServer, Reply, status
from tests.sinks.elasticsearch.running import docs, running, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick")]
NAME = "ml-log-gateway-retention"
ILM: dict[str, Any] = {"retention_days": 30, "ilm": True}


def order(odd: OddServer) -> list[str]:
    """What was asked, in short."""
    short = {"/_ilm/policy/": "policy", "/_index_template/": "template", "/_bulk": "bulk"}
    return [
        next((f"{each.method} {word}" for start, word in short.items() if each.path.startswith(start)), each.path)
        for each in odd.requests
    ]


def templates_put(odd: OddServer) -> dict[str, dict[str, Any]]:
    """The index settings of the templates last put, by their names."""
    return {
        each.path.rpartition("/")[2]: orjson.loads(each.body)["template"]["settings"]["index"]
        for each in odd.requests
        if each.method == "PUT" and each.path.startswith("/_index_template/")
    }


async def test_policy_then_templates_then_documents(odd: OddServer, tmp_path: Path) -> None:
    """The policy is there before the templates that name it, and they before the first document."""
    odd.policies = {}
    async with running(tmp_path, odd.url, **ILM) as rig:
        await rig.append(docs(5))
        assert (await rig.settled())["indexed"] == 5
        assert rig.status["last_error"] is None
        assert "retention" not in rig.status
    assert list(dict.fromkeys(order(odd))) == [
        "GET policy", "PUT policy", "GET template", "PUT template", "POST bulk",
    ]  # fmt: skip
    policy = json.loads(odd.policies[NAME])["policy"]
    # An index's age counts from the beginning of its day, so the day itself comes on top.
    assert policy["phases"] == {"delete": {"min_age": "31d", "actions": {"delete": {}}}}
    assert policy["_meta"]["managed_by"] == "ml-log-gateway"
    for settings in templates_put(odd).values():
        assert settings["lifecycle"] == {"name": NAME, "parse_origination_date": "true"}
    assert not [each for each in odd.requests if each.method == "DELETE"]


async def test_a_changed_retention_changes_the_policy(odd: OddServer, tmp_path: Path) -> None:
    """The policy is written again when retention_days is another, and only then."""
    odd.policies = {}
    for number, (days, writes) in enumerate(((30, 1), (30, 1), (7, 2))):
        async with running(tmp_path / str(number), odd.url, retention_days=days, ilm=True) as rig:
            await rig.append(docs(5, start=5 * number))
            await rig.settled()
        assert order(odd).count("PUT policy") == writes
    assert json.loads(odd.policies[NAME])["policy"]["phases"]["delete"]["min_age"] == "8d"


async def test_a_users_own_policy_stays_and_is_used(odd: OddServer, tmp_path: Path) -> None:
    """A policy of our name without our mark is left as it is, told once, and named by the templates."""
    own = b'{"policy":{"phases":{"warm":{"actions":{}}}}}'
    odd.policies = {NAME: own}
    with capture_logs() as logs:
        async with running(tmp_path, odd.url, **ILM) as rig:
            for number in range(2):
                odd.odd.append(status(503))  # after which all is looked at again
                await rig.append(docs(5, start=5 * number))
                await rig.settled()
    assert odd.policies == {NAME: own}
    assert {settings["lifecycle"]["name"] for settings in templates_put(odd).values()} == {NAME}
    assert [each["templates"] for each in logs if "not the gateway's" in each["event"]] == [[NAME]]


async def test_a_server_without_it(es: EsClient, tmp_path: Path) -> None:
    """Events are stored with their templates all the same; log and status say in one sentence what is wrong."""
    with capture_logs() as logs:
        async with running(tmp_path, es.url, prefix=es.prefix, **ILM) as rig:
            for number in range(2):
                await rig.append(docs(5, es.prefix, start=5 * number))
                await rig.settled()
            assert rig.books["indexed"] == 10
            assert rig.status["state"] == "ok"
            told = rig.status["last_error"]
    assert told.startswith("Index lifecycle management cannot be used, so no index made now will be deleted: ")
    assert "elasticsearch.ilm: false" in told
    assert [each["event"] for each in logs if each["log_level"] == "error"] == [told]
    [settings] = es.get(f"/{es.prefix}ml-metrics-2024.01.15/_settings").values()
    assert "lifecycle" not in settings["settings"]["index"]
    mapping = es.get(f"/{es.prefix}ml-metrics-2024.01.15/_mapping")
    assert mapping[f"{es.prefix}ml-metrics-2024.01.15"]["mappings"]["_meta"]["managed_by"] == "ml-log-gateway"


async def test_a_passing_trouble_is_waited_out(odd: OddServer, tmp_path: Path) -> None:
    """When the policy cannot be put in place for now, no document is sent and no template without it is made."""
    odd.policies = {}
    odd.policies_answer = status(503).change(Reply())
    async with running(tmp_path, odd.url, **ILM) as rig:
        await rig.append(docs(5))
        await until(lambda: order(odd).count("GET policy") > 3)
        assert set(order(odd)) == {"GET policy"}
        assert rig.status["state"] == "retrying"
        odd.policies_answer = None
        assert (await rig.settled())["indexed"] == 5
    assert all("lifecycle" in settings for settings in templates_put(odd).values())


async def test_templates_get_the_policy_once_it_may_be_used(odd: OddServer, tmp_path: Path) -> None:
    """After a missing privilege is granted the templates name the policy, and the trouble is no longer told."""
    odd.policies = {}
    odd.policies_answer = status(403).change(Reply())
    async with running(tmp_path, odd.url, **ILM) as rig:
        await rig.append(docs(5))
        await rig.settled()
        assert "answered 403" in rig.status["last_error"]
        assert not any("lifecycle" in settings for settings in templates_put(odd).values())
        odd.policies_answer = None
        odd.odd.append(status(503))  # after which all is looked at again, as it is every minute
        await rig.append(docs(5, start=5))
        await rig.settled()
        assert "lifecycle" not in str(rig.status["last_error"])
    assert all("lifecycle" in settings for settings in templates_put(odd).values())


async def test_not_managed_means_not_asked(odd: OddServer, tmp_path: Path) -> None:
    """With manage_templates off policy and templates are somebody else's, and nothing is deleted."""
    async with running(tmp_path, odd.url, manage_templates=False, **ILM) as rig:
        await rig.append(docs(5))
        await rig.settled()
    assert set(order(odd)) == {"POST bulk"}
