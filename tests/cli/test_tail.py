"""``gateway tail``: what comes in, an event a line; live and coloured in a terminal, plain elsewhere, over restarts."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from gateway.cli.events_shown import line
from tests.elasticsearch_node.ports import free_port
from tests.gateway_process import ROOT, Gateway, GatewayFactory

process = pytest.mark.process
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("GATEWAY", "ELASTICSEARCH", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"))
}


class Tail:
    """``gateway tail``; ``columns``: in a terminal so wide."""

    def __init__(self, folder: Path, *arguments: str, columns: int = 0, **env: str) -> None:
        if columns:
            self._ours, theirs = pty.openpty()
            subprocess.run(["stty", "cols", str(columns), "rows", "24"], stdin=theirs, check=True)
        else:
            self._ours, theirs = os.pipe()
        errors, their_errors = os.pipe()
        self._ends = {self._ours: "", errors: ""}
        self._errors = errors
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "tail", *arguments],
            cwd=folder,
            env={**CLEAN, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **env},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=their_errors,
            start_new_session=True,
        )
        os.close(theirs)
        os.close(their_errors)

    @property
    def text(self) -> str:
        """What was printed."""
        return self._ends[self._ours].replace("\r\n", "\n")

    @property
    def errors(self) -> str:
        """What was told."""
        return self._ends[self._errors]

    def wait(self, pattern: str, secs: float = 20, *, errors: bool = False) -> str:
        """Return all that was printed, or told, once it has a pattern."""
        deadline = time.monotonic() + secs
        while not re.search(pattern, self.errors if errors else plain(self.text)):
            assert time.monotonic() < deadline, (self.text[-2000:], self.errors)
            for end in select.select(list(self._ends), [], [], 0.2)[0]:
                self._ends[end] += os.read(end, 65536).decode()
        return self.text

    def end(self) -> int:
        """Press Ctrl-C; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(10)
        while select.select([self._errors], [], [], 0)[0] and (data := os.read(self._errors, 65536)):
            self._ends[self._errors] += data.decode()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for end in self._ends:
            os.close(end)


@contextmanager
def tail(running: Gateway, *arguments: str, columns: int = 0) -> Iterator[Tail]:
    """Run it, and go on when it follows."""
    before = connections(running)
    shown = Tail(running.folder, *arguments, columns=columns, **running.env)
    try:
        while connections(running) <= before:
            assert shown.process.poll() is None, shown.errors
            time.sleep(0.05)
        time.sleep(0.2)  # its request is answered
        yield shown
    finally:
        shown.close()


def connections(running: Gateway) -> int:
    """Return how many connections the gateway has."""
    return int(running.status()["sources"]["http"]["connections"])


def plain(text: str) -> str:
    """Take out what colours text."""
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text)


def post(running: Gateway, *events: dict[str, Any]) -> None:
    body = "\n".join(map(json.dumps, events)).encode()
    running.http.post("/v1/events", content=body).raise_for_status()


@process
@pytest.mark.parametrize("columns", [60, 160])
def test_in_a_terminal(gateway: GatewayFactory, columns: int) -> None:
    """An event a line, with colours, no wider than the terminal; Ctrl-C ends it with 0 and no trace."""
    running = gateway()
    with tail(running, columns=columns) as shown:
        post(
            running,
            {"model_name": "churn", "model_version": "3", "prediction_confidence": 0.5, "inference_time_ms": 2500,
             "prediction_class": "stay", "true_label": "leave"},
            {"message": "no connection " * 20, "level": "ERROR", "service": "checkout"},
        )  # fmt: skip
        text = shown.wait("checkout.*\n")
        first, second = plain(text).splitlines()
        assert "\x1b[31m" in text
        assert re.match(r"\d\d:\d\d:\d\d\S* prediction churn 3 +✗ stay, label leave", first)
        assert "0.50 low" in first
        assert re.match(r"\d\d:\d\d:\d\d\S* log        checkout +ERROR  no connection .*…$", second)
        assert max(cell_len(first), cell_len(second)) <= columns
        assert shown.end() == 0
        assert shown.errors == ""


@process
def test_in_a_pipe(gateway: GatewayFactory) -> None:
    """Plain and whole, what was asked for alone; with --json a line of JSON that is the stored document."""
    running = gateway()
    chosen = ("--where", "model_name:churn", "--where", "error:true", "-q", "TIMED", "--index", "ml-metrics-*")
    with tail(running, *chosen) as text, tail(running, *chosen, "--json", "-n", "2") as as_json:
        wanted = [
            {"model_name": "churn", "error_message": f"it timed out {'x' * 200} \x1b[2J\x9b1m\u202e", "n": number}
            for number in range(2)
        ]
        post(running, wanted[0], {"model_name": "churn"}, {"message": "it timed out", "error": "true"}, wanted[1])
        printed = text.wait("\n.*\n")
        assert as_json.process.wait(10) == 0
        hits = [json.loads(each) for each in as_json.wait("\n.*\n").splitlines()]
        assert text.end() == 0
    assert [each["_source"]["n"] for each in hits] == [0, 1]
    assert hits[0]["_source"]["error_message"] == wanted[0]["error_message"]
    for each in (printed, as_json.text):
        assert each.replace("\n", "").isprintable()
    assert [each.count("x" * 200) for each in printed.splitlines()] == [1, 1]
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 4)
    found = running.http.get(
        "/v1/search", params={"index": "ml-metrics-*", "where": "error:true", "q": "timed"}
    ).json()["hits"]
    assert sorted(found, key=lambda hit: hit["_source"]["n"]) == hits


@process
def test_over_a_restart(gateway: GatewayFactory) -> None:
    """That the gateway is away, and is back, is said once; it goes on with what it has not shown yet."""
    running = gateway(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1"})
    with tail(running, "--json") as shown:
        post(running, *({"model_name": "m", "n": number} for number in range(50)))
        running.kill()
        shown.wait(r"is away: trying again\.\n", errors=True)
        time.sleep(1.2)
        running.restart()
        post(running, {"model_name": "m", "n": 50})
        printed = shown.wait('"n":50,.*\n')
        assert [json.loads(each)["_source"]["n"] for each in printed.splitlines()] == list(range(51))
        assert shown.end() == 0
        assert shown.errors.splitlines() == [
            f"gateway: The gateway at {running.url} is away: trying again.",
            f"gateway: Connected to the gateway at {running.url} again.",
        ]


@process
def test_mistakes(tmp_path: Path, gateway: GatewayFactory) -> None:
    """No gateway, a wrong filter and a missing key are told in a sentence each; a closed pipe is no mistake."""

    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", "tail", *arguments], cwd=tmp_path, capture_output=True, text=True,
            env={**CLEAN, "PYTHONPATH": str(ROOT), **env}, timeout=40, check=False,
        )  # fmt: skip

    port = free_port()
    ended = run(GATEWAY_HTTP__PORT=str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"gateway: No gateway answers at http://127.0.0.1:{port} (")
    assert run("-n", "0").returncode == 2
    running = gateway(env={"GATEWAY_HTTP__API_KEYS": "a-key"})
    for arguments, env, told in (
        (("--where", "x"), running.env, "where must be FIELD:VALUE, not 'x'."),
        (("--url", running.url), {}, "A key is needed"),
    ):
        ended = run(*arguments, **env)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
        assert told in ended.stderr
    running.http.headers["authorization"] = "Bearer a-key"
    with tail(running) as shown:
        post(running, {"model_name": "m"})
        shown.wait("prediction m\n")
        os.close(shown._ours)
        del shown._ends[shown._ours]
        post(running, {"model_name": "m"})
        post(running, {"model_name": "m"})
        assert shown.process.wait(10) == 0
        assert not select.select([shown._errors], [], [], 0)[0] or os.read(shown._errors, 1000) == b""


STAMPS = {"@timestamp": "2026-11-21T10:00:03.25Z", "received_at": "2026-11-21T10:00:04Z"}


@pytest.mark.parametrize(
    ("index", "fields", "shown"),
    [
        ("p-ml-metrics", {"model_name": "m"}, "prediction m"),
        ("ml-metrics", {"model_name": "m", "error": True, "error_type": "timeout"}, "prediction m timeout"),
        (
            "ml-metrics",
            {"model_name": "m", "prediction_class": 1, "true_label": "1", "prediction_correct": True,
             "prediction_confidence": "0.9", "confidence_level": "high", "inference_time_ms": 25,
             "latency_category": "fast", "region": "eu"},
            "prediction m ✓ 1 0.90 high 25 ms fast eu",
        ),
        (
            "ml-training",
            {"model_name": "m", "epoch": 3, "metrics": {"loss": 0.25}, "status": "running"},
            "training m epoch 3 loss=0.25 running",
        ),
        (
            "ml-training",
            {"pipeline": "mlflow", "event_category": "scaling_error", "mlflow_event": {"details": {"rows": 5}}},
            "mlflow mlflow scaling_error rows=5",
        ),
        (
            "data-quality",
            {"dataset_name": "d", "check_name": "c", "column": "x", "passed": False, "score": 0.5},
            "quality d ✗ c of x score 0.5",
        ),
        ("ml-pipeline", {"service": "s", "level": "warn", "message": "a\nb"}, r"log s warn a\nb"),
        ("ml-labels", {"request_id": "r", "true_label": "x"}, "label r true label x"),
        ("ml-operations", {"operation": "o", "status": "progress", "progress": 0.4}, "operation o progress 40%"),
        ("ml-audit", {"actor": "a", "action": "deploy", "resource": "m", "outcome": "ok"}, "audit a deploy m ok"),
        ("ml-lineage", {"name": "n", "node_type": "model", "inputs": ["a", "b"]}, "lineage n model from a, b"),
        (
            "ml-alerts",
            {"name": "n", "severity": "critical", "status": "firing", "metric": "p95", "value": 9, "threshold": 2},
            "alert n critical firing p95 9 against 2",
        ),
        ("own-kind", {"name": "n", "a": [1, True]}, "own-kind n name=n a=[1,true]"),
    ],
)  # fmt: skip
def test_what_matters(index: str, fields: dict[str, Any], shown: str) -> None:
    """Of each kind the line has who it is about and what matters."""
    hit = {"_index": f"{index}-2026.11.21", "_id": "x", "_source": {**fields, **STAMPS}}
    assert re.sub(" +", " ", line(hit, "p-", None).plain) == f"10:00:03.25 {shown}"


def test_whatever_is_sent() -> None:
    """No value of any field breaks a line or steers the terminal, and a time of another day has its day."""
    odd: list[Any] = [None, True, 0, -1.5e300, "", "\x1b[2J\r\n漢字" * 50, [1, {"a": []}], {"b": {"c": None}}]
    of_texts = ["model_name", "model_version", "confidence_level", "level", "message", "status", "event_category"]
    of_texts += ["error_message", "severity", "prediction_class", "dataset_name", "latency_category", "outcome"]
    of_others = ["prediction_correct", "passed", "metrics", "progress", "mlflow_event", "inputs", "error", "true_label"]
    of_others += ["prediction_confidence", "inference_time_ms", "value", "threshold", "duration"]
    kinds = ["ml-metrics", "ml-training", "data-quality", "ml-pipeline", "ml-labels", "ml-operations", "ml-audit"]
    kinds += ["ml-lineage", "ml-alerts", "own"]
    for kind in kinds:
        for value in odd:
            for width in (1, 20, 60, 160, None):
                source = {**dict.fromkeys(of_texts + of_others, value), **STAMPS, "@timestamp": "2026-11-20T10:00:03Z"}
                found = line({"_index": f"{kind}-2026.11.21", "_id": "x", "_source": source}, "", width)
                assert found.plain.isprintable()
                assert width is None or cell_len(found.plain) <= width
                assert width is not None or found.plain.startswith("2026-11-20 10:00:03")
