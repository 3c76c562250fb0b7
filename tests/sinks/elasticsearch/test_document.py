"""What docs/elasticsearch.md says is so, as far as a test can see."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import DeadLetters, Elasticsearch
from gateway.sinks.elasticsearch import backoff, client
from gateway.sinks.elasticsearch.room import MESSAGE
from schemas import KINDS
from schemas.mapping import index_template

TEXT = (Path(__file__).parents[3] / "docs" / "elasticsearch.md").read_text()
ROLES: list[dict[str, Any]] = [
    json.loads(each)["ml-log-gateway"] for each in re.findall(r"```json\n(.+?)```", TEXT, re.S)
]


@pytest.mark.parametrize(("at", "cluster"), [(0, ["monitor", "manage_index_templates"]), (1, ["monitor"])])
def test_roles(at: int, cluster: list[str]) -> None:
    """The role descriptors are JSON, and name the indices of all kinds."""
    [indices] = ROLES[at]["indices"]
    assert ROLES[at]["cluster"] == cluster
    assert sorted(indices["names"]) == sorted({f"{kind.index}-*" for kind in KINDS.values()})
    assert indices["privileges"] == ["auto_configure", "create_doc", "read"]


def test_settings_are_those_there_are() -> None:
    """Each setting named is one of this sink, and the figures are the defaults."""
    named = set(re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", TEXT.partition("## Privileges")[0], re.M))
    assert {name for pair in named for name in pair if name} <= set(Elasticsearch.model_fields)
    assert Elasticsearch().index_retry_secs == 3600
    assert "max_bytes" in DeadLetters.model_fields
    assert (backoff.FIRST_SECS, backoff.LONGEST_SECS, backoff.LONGEST_HINT_SECS) == (0.2, 30, 600)
    assert client.SHARD_SECS == 10
    template = index_template(
        "ml-metrics", pattern="", shards=1, auto_expand_replicas="", refresh_interval="", version=1
    )
    assert template["priority"] == 200
    assert "no more room" in MESSAGE
