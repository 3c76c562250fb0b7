"""The documents' snapshot recipe does what it says, and retention lives with a snapshot that runs."""

import json
import random
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.client import connect
from gateway.sinks.elasticsearch.retention import Retention
from schemas import BUILT_IN
from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.node import ElasticsearchNode
from tests.gateway_process import ROOT, GatewayFactory
from tests.programs import need

SECTION = (
    (ROOT / "docs" / "elasticsearch.md").read_text(encoding="utf-8").partition("## Snapshots")[2].partition("\n## ")[0]
)
COMMANDS = re.findall(r"^    (.+)$", SECTION, re.MULTILINE)
OURS = {"mappings": {"_meta": {"managed_by": "ml-log-gateway"}}}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def server(elasticsearch_node: ElasticsearchNode) -> Iterator[EsClient]:
    """A node that may write snapshots below the test's folder."""
    client = EsClient(elasticsearch_node.url, "")
    yield client
    client.close()


def test_the_recipe(server: EsClient, gateway: GatewayFactory, tmp_path: Path) -> None:
    """Pasted one after the other, the commands save and restore what the gateway stored: the counts are the same."""
    need("curl")
    running = gateway(env={"ELASTICSEARCH_URL": server.url})
    events = [{"model_name": "m", "number": number} for number in range(300)]
    events += [{"check_name": "c", "score": 0.5}, {"message": "a line"}]
    running.http.post("/v1/events", json=events).raise_for_status()
    running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["indexed"] == len(events))
    server.refresh("ml-*,data-quality-*")
    printed = []
    for command in COMMANDS:
        assert command.startswith("curl ")
        line = command.replace("127.0.0.1:9200", server.url.removeprefix("http://"))
        line = line.replace("/mnt/snapshots", str(tmp_path))
        ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"
        printed.append(json.loads(ended.stdout))
    assert printed[0] == {"acknowledged": True}
    assert printed[1]["snapshot"]["state"] == "SUCCESS"
    assert printed[3] == printed[4] == {"count": len(events)}
    day = f"{datetime.now(UTC):%Y.%m.%d}"
    saved = server.sources(f"ml-metrics-{day}", {"sort": "number"})
    assert server.sources(f"restored-ml-metrics-{day}", {"sort": "number"}) == saved


@pytest.mark.anyio
async def test_retention_while_a_snapshot_runs(server: EsClient, tmp_path: Path) -> None:
    """An old index that is being copied stays and is told; when the snapshot is over it goes."""
    index = "ml-metrics-2020.01.01"
    server.put(f"/{index}", OURS)
    chance = random.Random(1)  # what cannot be compressed: copied in ten seconds, and broken off within them
    lines = b"".join(b'{"create":{}}\n{"text":"%s"}\n' % chance.randbytes(1000).hex().encode() for _ in range(500))
    server.post(f"/{index}/_bulk", lines, refresh="true")
    slow = {"location": str(tmp_path / "slow"), "max_snapshot_bytes_per_sec": "100kb", "compress": False}
    server.put("/_snapshot/slow", {"type": "fs", "settings": slow})
    server.put("/_snapshot/slow/one", {"indices": index})
    client = connect(Elasticsearch(urls=(server.url,)))
    try:
        retention = Retention(client, "", BUILT_IN.indices, 30)
        await retention.once(datetime.now(UTC))
        told = retention.status()["last_error"]
        assert told.startswith(f"The old index {index} cannot be deleted, trying again in an hour: ")
        assert "snapshot" in told
        assert server.count(index) == 500
        server.http.delete("/_snapshot/slow/one", timeout=60)  # ends it
        await retention.once(datetime.now(UTC))
        assert retention.status()["last_error"] is None
        assert server.http.get(f"/{index}").status_code == 404
    finally:
        await client.close()
