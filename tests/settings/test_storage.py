"""The settings of spool, dead letters, log and sinks, each seen where it takes effect."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Store
from gateway.store.embedded import EmbeddedStore
from tests.gateway_process import ROOT, GatewayFactory
from tests.settings.starting import EVENT, listening
from tests.sinks.elasticsearch.odd_server import Oddity, OddServer, Reply
from tests.sinks.elasticsearch.running import docs, running, until

NOBODY = "http://127.0.0.1:1"


@pytest.mark.process
def test_data_dir(tmp_path: Path) -> None:
    """What the gateway keeps is there."""
    (tmp_path / "gateway.yaml").write_text("data_dir: elsewhere\ntcp: {port: 0}\nhttp: {port: 0}\n")
    command = [sys.executable, "-m", "gateway", "check", "--connect"]
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    assert (tmp_path / "elsewhere" / "lock").exists()


def test_a_small_spool(gateway: GatewayFactory) -> None:
    """It is cut into files of segment_bytes, and at max_bytes there is 429."""
    config = {"spool": {"max_bytes": 4 << 20, "segment_bytes": 1 << 16}, "elasticsearch": {"urls": [NOBODY]}}
    process = gateway(config=config)
    body = b'{"model_name":"m","x":"%s"}' % (b"y" * 50_000)
    statuses = [process.http.post("/v1/events", content=body).status_code for _ in range(100)]
    assert sorted(set(statuses)) == [200, 429]
    assert 60 < statuses.count(200) < 85  # 4 MiB of 50,000 bytes each
    assert process.status()["spool"]["segments"] > 30
    answer = process.http.post("/v1/events", content=body)
    assert "spool.max_bytes" in answer.text


def test_a_full_disk(gateway: GatewayFactory) -> None:
    """With less room than min_free_bytes nothing is taken."""
    process = gateway(config={"spool": {"min_free_bytes": 1 << 60}}, ready=False)
    listening(process, "127.0.0.1", process.http_port)
    answer = process.http.post("/v1/events", content=EVENT)
    assert (answer.status_code, "spool.min_free_bytes" in answer.text) == (429, True)


@pytest.mark.parametrize("level", ["warning", "error"])
def test_dead_letters_and_log(gateway: GatewayFactory, level: str) -> None:
    """With no room for bytes an error is logged; the warning beside it only at its level; both as text."""
    process = gateway(config={"dead_letters": {"max_bytes": 0}, "log": {"level": level, "format": "console"}})
    process.send_tcp(b"broken\n")
    deadline = time.monotonic() + 10
    while "The dead letters are full" not in process.output():
        assert time.monotonic() < deadline, process.output_tail()
        time.sleep(0.05)
    assert ("Events were refused" in process.output()) is (level == "warning")
    assert not any(line.startswith("{") for line in process.output().splitlines())


@pytest.mark.parametrize("secs", [0, 2])
def test_drain_timeout_secs(gateway: GatewayFactory, secs: int) -> None:
    """A stop waits this long for a sink that is away, and no longer."""
    process = gateway(config={"drain_timeout_secs": secs, "elasticsearch": {"urls": [NOBODY]}})
    process.http.post("/v1/events", content=EVENT)
    process.wait_until(lambda now: now["sinks"]["elasticsearch"]["state"] == "retrying")
    started = time.monotonic()
    assert process.stop() == 0
    assert secs <= time.monotonic() - started < secs + 6  # by default it is 10


def test_store_beside_elasticsearch(gateway: GatewayFactory) -> None:
    """Both are sinks; what the store would delete at once is refused."""
    config = {"elasticsearch": {"urls": [NOBODY]}, "store": {"enabled": True, "retention_days": 5}}
    process = gateway(config=config)
    process.wait_until(lambda now: set(now["sinks"]) == {"elasticsearch", "embedded"})
    old = {"model_name": "m", "timestamp": (datetime.now(UTC) - timedelta(days=10)).isoformat()}
    assert "store.retention_days" in process.http.post("/v1/events", json=old).text


@pytest.mark.anyio
async def test_engine_of_the_store(tmp_path: Path) -> None:
    """DuckDB is given its memory and threads."""
    store = EmbeddedStore(tmp_path / "store.duckdb", Store(memory_limit="100MiB", threads=3))
    await store.open()
    asked = store._connection.execute("SELECT current_setting('memory_limit'), current_setting('threads')")
    assert asked.fetchone() == ("100.0 MiB", 3)
    await store.close()


@pytest.mark.anyio
@pytest.mark.waits
async def test_bulks(tmp_path: Path) -> None:
    """Bulks hold no more events or bytes than is set, and no more of them are on their way."""
    async with OddServer() as server:
        server.always = Oddity(lambda reply: Reply(reply.body, delay=0.05))  # long enough to overlap
        async with running(tmp_path / "events", server.url, max_batch_events=7, max_in_flight=3) as rig:
            await rig.append(docs(100))
            await rig.settled()
        assert max(each.body.count(b"\n") for each in server.bulks) == 2 * 7
        assert server.busiest == 3
    async with OddServer() as server, running(tmp_path / "bytes", server.url, max_batch_bytes=2000) as rig:
        await rig.append(docs(100))
        await rig.settled()
        assert 1000 < max(len(each.body) for each in server.bulks) <= 2000


@pytest.mark.anyio
@pytest.mark.waits
async def test_times_of_bulks(tmp_path: Path) -> None:
    """A batch waits flush_after_secs for more; a bulk without an answer is sent again after request_timeout_secs."""
    async with OddServer() as server:
        settings: dict[str, Any] = {"flush_after_secs": 1, "request_timeout_secs": 0.5}
        async with running(tmp_path, server.url, **settings) as rig:
            started = time.monotonic()
            await rig.append(docs(1))
            await rig.settled()
            assert 0.9 < server.bulks[0].at - started < 3
            server.odd.append(Oddity(lambda _: Reply(delay=30)))
            await rig.append(docs(1, start=1))
            await until(lambda: len(server.bulks) == 3, 10)
            assert 0.4 < server.gaps()[-1] < 3
