"""The processes around what is measured: sender, sinks, the endpoint that does nothing, a real Elasticsearch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks.load import Job, Sent
from benchmarks.machine import ROOT
from benchmarks.measure import cpu_secs, on
from tests.elasticsearch_node.node import ElasticsearchNode

END_SECS = 10
POLL_SECS = 0.01


class Wrong(Exception):
    """A run whose figures mean nothing: events are missing, doubled or late."""


@contextmanager
def program(chosen: frozenset[int], *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module of this package on some cores; it ends with its standard input."""
    with on(chosen):
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    with process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(END_SECS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def serving(chosen: frozenset[int], *words: str) -> Iterator[tuple[int, int]]:
    """Run a module that serves; give its process id and its port."""
    with program(chosen, *words) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said:
            raise Wrong(f"{words[0]} did not start: see above")
        yield process.pid, int(said)


class Sender:
    """A sender whose bytes are ready."""

    def __init__(self, process: subprocess.Popen[str], secs: float) -> None:
        self._process = process
        self._secs = secs
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise Wrong("the sender did not start: see above")

    def send(self) -> Sent:
        """Let it send; return when all is answered."""
        said, _ = self._process.communicate("go\n", timeout=self._secs)
        if self._process.returncode or not said:
            raise Wrong("the sender failed: see above")
        return Sent(**json.loads(said))


@contextmanager
def sender(chosen: frozenset[int], job: Job) -> Iterator[Sender]:
    """Start a sender and make it ready."""
    with on(chosen):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load", json.dumps(asdict(job))],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            yield Sender(process, job.patience_secs + job.secs)
        finally:
            process.kill()
            process.wait()  # which Popen does not, behind Ctrl-C


class Sink:
    """A counting sink, or a relay, that runs."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid = pid
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._http = httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def ask(self, word: str = "") -> dict[str, Any]:
        """Ask or tell it something below ``/bench``; return what it has seen."""
        seen: dict[str, Any] = self._http.get(f"/bench/{word}").raise_for_status().json()
        return seen

    def latencies_ms(self) -> list[float]:
        """Return how much later than due each document came, sorted."""
        found = self._http.get("/bench/latencies").raise_for_status().json()
        return sorted(each / 1e6 for each in found)

    def kept(self) -> list[bytes]:
        """Return the lines of the documents that were kept."""
        return self._http.get("/bench/kept").raise_for_status().content.splitlines()

    @property
    def cpu_secs(self) -> float:
        """CPU seconds it has used."""
        return cpu_secs(self._pid)

    def wait(self, documents: int, secs: float) -> dict[str, Any]:
        """Return when it has so many documents in all; raise `Wrong` when they do not come."""
        deadline = time.monotonic() + secs
        while (seen := self.ask())["documents"] < documents:
            if time.monotonic() > deadline:
                raise Wrong(f"{documents} documents were expected, after {secs:g} s there are {seen['documents']}")
            time.sleep(POLL_SECS)
        return seen

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()


@contextmanager
def sink(chosen: frozenset[int], *upstream: str) -> Iterator[Sink]:
    """Run a counting sink, or a relay to the address named."""
    module = "benchmarks.relay" if upstream else "benchmarks.counting_sink"
    with serving(chosen, module, *upstream) as (pid, port):
        running = Sink(pid, port)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def elasticsearch() -> Iterator[str]:
    """Give the Elasticsearch of ELASTICSEARCH_URL, else a node of its own."""
    if given := os.environ.get("ELASTICSEARCH_URL", "").split(",")[0].strip():
        yield given.rstrip("/")
        return
    with TemporaryDirectory(prefix="bench-elasticsearch-") as folder, ElasticsearchNode(Path(folder) / "data") as node:
        yield node.url
