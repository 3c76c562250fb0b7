"""Where the events go: each yields what the gateway is told, and a function that counts what has arrived."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.machine import ROOT
from tests.elasticsearch_node.client import EsClient, new_prefix
from tests.elasticsearch_node.node import ElasticsearchNode

END_SECS = 10


@dataclass(frozen=True)
class Sink:
    """A sink that runs; ``count`` is told the gateway's address and returns the documents in the sink."""

    name: str
    count: Callable[[str], int]
    env: dict[str, str] = field(default_factory=dict)


@contextmanager
def embedded() -> Iterator[Sink]:
    """The embedded store, asked through the gateway."""

    def count(gateway_url: str) -> int:
        found = httpx.get(f"{gateway_url}/v1/search", params={"limit": 1}, timeout=60, trust_env=False)
        return int(found.raise_for_status().json()["total"])

    yield Sink("embedded", count)


@contextmanager
def counting() -> Iterator[Sink]:
    """A process that takes bulks and counts: what is measured is the gateway alone."""
    command = [sys.executable, "-m", "benchmarks.counting_sink"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            with closing(EsClient(url, "")) as client:
                yield Sink("elasticsearch", lambda _: int(client.get("/_count")["count"]), {"ELASTICSEARCH_URL": url})
        finally:
            process.stdin.close()  # which ends it
            try:
                process.wait(END_SECS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def elasticsearch() -> Iterator[Sink]:
    """The Elasticsearch of ELASTICSEARCH_URL, else a node of its own; what was written is deleted."""
    with _node() as url, closing(EsClient(url, new_prefix())) as client:
        env = {"ELASTICSEARCH_URL": url, "GATEWAY_EVENTS__INDEX_PREFIX": client.prefix}
        try:
            yield Sink("elasticsearch", lambda _: client.count(), env)
        finally:
            client.clean()


@contextmanager
def _node() -> Iterator[str]:
    if given := os.environ.get("ELASTICSEARCH_URL", "").split(",")[0].strip():
        yield given.rstrip("/")
        return
    with TemporaryDirectory(prefix="bench-elasticsearch-") as folder, ElasticsearchNode(Path(folder) / "data") as node:
        yield node.url


SINKS = {"counting": counting, "embedded": embedded, "elasticsearch": elasticsearch}
