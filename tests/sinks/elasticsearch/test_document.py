"""What docs/elasticsearch.md says is so, as far as a test can see."""

import json
import re
from pathlib import Path

from gateway.settings import DeadLetters, Elasticsearch
from gateway.sinks.elasticsearch import backoff, client
from gateway.spool.shelf import NO_ROOM
from schemas import BUILT_IN

TEXT = (Path(__file__).parents[3] / "docs" / "elasticsearch.md").read_text()


def test_the_role() -> None:
    """The role descriptor is JSON, and names the indices of all kinds."""
    [shown] = re.findall(r"```json\n(.+?)```", TEXT, re.S)
    role = json.loads(shown)["ml-log-gateway"]
    [indices] = role["indices"]
    assert role["cluster"] == ["monitor", "manage_index_templates"]
    assert sorted(indices["names"]) == sorted({f"{kind.index}-*" for kind in BUILT_IN.kinds.values()})
    assert indices["privileges"] == ["auto_configure", "create_doc", "read"]


def test_settings_are_those_there_are() -> None:
    """Each setting named is one of this sink, and the figures are the defaults."""
    named = set(re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", TEXT.partition("## Privileges")[0], re.M))
    assert {name for pair in named for name in pair if name} <= set(Elasticsearch.model_fields)
    assert Elasticsearch().index_retry_secs == 3600
    assert "max_bytes" in DeadLetters.model_fields
    assert (backoff.FIRST_SECS, backoff.LONGEST_SECS, backoff.LONGEST_HINT_SECS) == (0.2, 30, 60)
    assert client.SHARD_SECS == 10
    template = BUILT_IN.index_template(
        "ml-metrics", pattern="", shards=1, auto_expand_replicas="", refresh_interval="", version=1
    )
    assert template["priority"] == 200
    assert "no more room" in NO_ROOM
