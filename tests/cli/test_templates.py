"""``gateway templates``: what Elasticsearch is told about an event's fields, shown, put in place, verified."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas import BUILT_IN
from tests.cli.test_check import check
from tests.elasticsearch_node.client import EsClient
from tests.sinks.elasticsearch.odd_server import OddServer

DAY = "2024.01.15"
pytestmark = pytest.mark.process


def templates(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``gateway templates`` in a folder of its own."""
    return check(folder, *arguments, word="templates", **env)


def env(es: EsClient) -> dict[str, str]:
    """The settings that name the test's Elasticsearch."""
    return {"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix}


def name(es: EsClient, index: str = "ml-metrics") -> str:
    """A template's name."""
    return f"ml-log-gateway-{es.prefix}{index}"


@pytest.mark.parametrize("word", ["show", "apply", "verify"])
def test_help(word: str, tmp_path: Path) -> None:
    """Each word explains itself with an example."""
    ended = templates(tmp_path, word, "--help")
    assert ended.returncode == 0
    assert f"gateway templates {word}" in ended.stdout.partition("Example:")[2]


@pytest.mark.parametrize("word", ["apply", "verify"])
def test_no_elasticsearch(word: str, tmp_path: Path) -> None:
    """Without an address one sentence says what to set."""
    ended = templates(tmp_path, word)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("gateway: No Elasticsearch is set: name one with elasticsearch.urls")
    ended = templates(tmp_path, word, ELASTICSEARCH_URL="http://127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr.startswith("gateway: Elasticsearch at 127.0.0.1:1 cannot be reached")
    assert "Traceback" not in ended.stderr


def test_what_is_shown_can_be_pasted(es: EsClient, tmp_path: Path) -> None:
    """Each body that `show` prints is taken by Elasticsearch under its name, and `verify` finds nothing wrong then."""
    (tmp_path / "other.yaml").write_text(f"events: {{index_prefix: {es.prefix}}}\nelasticsearch: {{shards: 2}}\n")
    ended = templates(tmp_path, "show", "--config", "other.yaml")
    assert (ended.returncode, ended.stderr) == (0, "")
    shown = json.loads(ended.stdout)
    assert set(shown) == {name(es, index) for index in BUILT_IN.indices}
    for each, body in shown.items():
        es.put(f"/_index_template/{each}", body)
    ended = templates(tmp_path, "verify", "--config", "other.yaml", ELASTICSEARCH_URL=es.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [f"✓ {each}" for each in shown]


def test_apply_tells_of_each(es: EsClient, tmp_path: Path) -> None:
    """Templates are created, then unchanged, updated when a setting changes, and a user's own is left alone."""

    def applied(**more: str) -> tuple[dict[str, str], str]:
        ended = templates(tmp_path, "apply", **env(es), **more)
        assert (ended.returncode, ended.stderr) == (0, "")
        lines = ended.stdout.splitlines()
        said = {line.split()[-1]: line[:10].strip() for line in lines if line.endswith(BUILT_IN.indices)}
        assert list(said) == [name(es, index) for index in BUILT_IN.indices]
        return said, "\n".join(line for line in lines if not line.endswith(BUILT_IN.indices))

    assert set(applied()[0].values()) == {"created"}
    assert set(applied()[0].values()) == {"unchanged"}
    es.put(f"/_index_template/{name(es)}", {"index_patterns": [f"{es.prefix}mine-*"]})
    said, more = applied(GATEWAY_ELASTICSEARCH__SHARDS="2")
    assert said.pop(name(es)) == "left alone"
    assert set(said.values()) == {"updated"}
    assert "it is your own. To have the gateway's, delete it and apply again." in more
    es.delete(f"/_index_template/{name(es)}")
    assert applied(GATEWAY_ELASTICSEARCH__SHARDS="2")[0][name(es)] == "created"


def verified(es: EsClient, folder: Path, **more: str) -> tuple[int, list[str], list[str]]:
    """The exit code, what is sound, what is wrong."""
    ended = templates(folder, "verify", **env(es), **more)
    sound, wrong = ended.stdout.splitlines(), ended.stderr.splitlines()
    assert all(line.startswith("✓ ") for line in sound)
    assert all(line.startswith("✗ ") for line in wrong)
    return ended.returncode, [line[2:] for line in sound], [line[2:] for line in wrong]


def test_verify_names_what_is_wrong(es: EsClient, tmp_path: Path) -> None:
    """A missing, a changed, an unsuitable own and an overruled template are told, each with what to do."""
    templates(tmp_path, "apply", **env(es))
    es.delete(f"/_index_template/{name(es, 'ml-audit')}")
    [found] = es.get(f"/_index_template/{name(es, 'ml-labels')}")["index_templates"]
    by_hand = found["index_template"]
    by_hand["template"]["mappings"]["properties"]["true_label"] = {"type": "text"}
    es.put(f"/_index_template/{name(es, 'ml-labels')}", by_hand)
    own = {"index_patterns": [f"{es.prefix}ml-alerts-*"], "priority": 300, "composed_of": [f"{es.prefix}part"]}
    es.put(
        f"/_component_template/{es.prefix}part",
        {"template": {"mappings": {"properties": {"@timestamp": {"type": "keyword"}}}}},
    )
    es.put(f"/_index_template/{name(es, 'ml-alerts')}", own)
    es.put(f"/_index_template/{es.prefix}wide", {"index_patterns": ["x-*", f"{es.prefix}ml-m*-2*"], "priority": 201})
    code, sound, wrong = verified(es, tmp_path)
    assert code == 1
    assert wrong == [
        f"The template {name(es, 'ml-labels')} is not as wanted (other settings, another version, by hand): "
        "run `gateway templates apply`.",
        f"The template {name(es, 'ml-audit')} is not there: run `gateway templates apply`.",
        f"The template {name(es, 'ml-alerts')} is your own, but @timestamp is keyword, date is wanted: change it, "
        "or delete it and run `gateway templates apply`.",
        f"The template {es.prefix}wide (priority 201) is used instead of {name(es)}: "
        "lower its priority, or narrow its index_patterns.",
    ]
    assert len(sound) == len(BUILT_IN.indices) - 3
    es.delete(f"/_index_template/{es.prefix}wide")
    es.delete(f"/_index_template/{name(es, 'ml-alerts')}")
    templates(tmp_path, "apply", **env(es))
    assert verified(es, tmp_path)[::2] == (0, [])


def test_verify_names_indices_that_map_a_field_otherwise(es: EsClient, tmp_path: Path) -> None:
    """Indices that another shipper made are named with field, type found and type wanted, also closed ones."""
    foreign: dict[str, Any] = {"model_name": {"type": "text"}, "prediction_confidence": {"type": "float"}}
    nested = {"mlflow_event": {"properties": {"event_type": {"type": "text"}}}}
    for day in ("2024.01.13", DAY, "2024.01.14"):
        es.put(f"/{es.prefix}ml-metrics-{day}", {"mappings": {"properties": foreign}})
    es.post(f"/{es.prefix}ml-metrics-{DAY}/_close")
    es.put(f"/{es.prefix}ml-training-{DAY}", {"mappings": {"properties": nested}})
    es.put(f"/{es.prefix}ml-metrics-archive", {"mappings": {"properties": foreign}})  # no daily index
    templates(tmp_path, "apply", **env(es))
    es.post(f"/{es.prefix}ml-metrics-2024.01.16/_doc", {"model_name": "m", "extra": 1})
    code, sound, wrong = verified(es, tmp_path)
    assert code == 1
    advice = "no index changes its mapping; reindex or delete it, or wait for the next day's."
    assert wrong == [
        f"{es.prefix}ml-training-{DAY}: mlflow_event.event_type is text, keyword is wanted: {advice}",
        f"{es.prefix}ml-metrics-2024.01.13 and 2 more until {es.prefix}ml-metrics-{DAY}: model_name is text, "
        f"keyword is wanted, prediction_confidence is float, double is wanted: {advice}",
    ]
    assert sound[-1] == f"{es.prefix}ml-metrics-*: known fields as wanted in 1 of 4 daily indices"


@pytest.mark.anyio
async def test_with_lifecycle_management(tmp_path: Path) -> None:
    """The policy is put in place, told and verified with the templates; `show` names it in each of them."""
    async with OddServer() as odd:
        odd.policies = {}
        ilm = {
            "ELASTICSEARCH_URL": odd.url,
            "GATEWAY_ELASTICSEARCH__ILM": "true",
            "GATEWAY_ELASTICSEARCH__RETENTION_DAYS": "30",
        }
        shown = await asyncio.to_thread(lambda: templates(tmp_path, "show", **ilm))
        for body in json.loads(shown.stdout).values():
            assert body["template"]["settings"]["index"]["lifecycle"]["name"] == "ml-log-gateway-retention"
        missing = await asyncio.to_thread(lambda: templates(tmp_path, "verify", **ilm))
        assert "✗ The policy ml-log-gateway-retention is not there: run `gateway templates apply`." in missing.stderr
        applied = await asyncio.to_thread(lambda: templates(tmp_path, "apply", **ilm))
        assert applied.stdout.splitlines()[0] == "created    ml-log-gateway-retention"
        assert "ml-log-gateway-retention" in odd.policies
        found = await asyncio.to_thread(lambda: templates(tmp_path, "verify", **ilm))
        assert found.stdout.splitlines()[0] == "✓ ml-log-gateway-retention deletes indices after 30 days"


def test_without_lifecycle_management(es: EsClient, tmp_path: Path) -> None:
    """A server that has none is told as such; `apply` ends with it and changes nothing."""
    ilm = {"GATEWAY_ELASTICSEARCH__ILM": "true", "GATEWAY_ELASTICSEARCH__RETENTION_DAYS": "30"}
    ended = templates(tmp_path, "apply", **env(es), **ilm)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("gateway: Index lifecycle management cannot be used")
    assert es.http.get(f"/_index_template/{name(es)}").status_code == 404
    _, _, wrong = verified(es, tmp_path, **ilm)
    assert wrong[0].startswith("Index lifecycle management cannot be used")
