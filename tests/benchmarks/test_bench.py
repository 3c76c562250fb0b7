"""The benchmark harness measures real runs and refuses figures of runs that lost or doubled events."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import events
from benchmarks.measure import tree
from benchmarks.run import Wrong, check_books
from benchmarks.sinks import counting
from tests.gateway_process import ROOT

EVENTS = 2000


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said, wrong = process.communicate(timeout=50)
        finally:
            process.terminate()  # and with it what it started
    return subprocess.CompletedProcess(command, process.returncode, said, wrong)


@pytest.mark.process
def test_a_run_is_measured_and_written_down(tmp_path: Path) -> None:
    """Both sources are measured against the counting sink; the file says what on, and prints as the same table."""
    ended = bench(
        "--events", str(EVENTS), "--only", "tcp:counting", "--only", "http:counting", "--results", str(tmp_path)
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    (file,) = tmp_path.iterdir()
    result = json.loads(file.read_text())
    assert [(each["source"], each["sink"]) for each in result["runs"]] == [("tcp", "counting"), ("http", "counting")]
    for each in result["runs"]:
        assert each["events"] == EVENTS
        assert 420 < each["bytes"] / EVENTS < 470
        assert each["events_per_sec"] == pytest.approx(EVENTS / each["seconds"], rel=0.1)
        assert each["events_per_sec"] <= each["accepted_per_sec"]
        assert 0 < each["cpu_secs_per_million"] < 1000
        assert 30 < each["peak_mib"] < 2000
        assert 0 < each["ready_secs"] < 30
    on = result["machine"]
    assert on["cores"] >= 1
    assert on["packages"]["pydantic"]
    assert {"cpu", "memory_gib", "kernel", "python", "commit", "load_average", "file_system"} <= set(on)
    printed = bench("--table", str(file)).stdout
    assert printed == ended.stdout
    assert f"| tcp | counting | {result['runs'][0]['events_per_sec']:,} |" in printed


@pytest.mark.parametrize("words", [["--events", "0"], ["--events", "5000001"], ["--only", "tcp:nowhere"]])
@pytest.mark.process
def test_what_makes_no_sense_is_refused(words: list[str]) -> None:
    """A number out of range or an unknown run ends with exit code 2 before anything is started."""
    ended = bench(*words)
    assert ended.returncode == 2
    assert words[0] in ended.stderr


def test_events_are_all_different() -> None:
    """Each event is one line of JSON with an id of its own, also between warm-up and measurement."""
    made = [json.loads(line) for seed in (1, 2) for line in events.lines(500, seed)]
    assert len({each["event_id"] for each in made}) == len(made)
    assert [each["timestamp"] for each in made[:500]] == sorted(each["timestamp"] for each in made[:500])


@pytest.mark.process
def test_the_counting_sink_counts_documents() -> None:
    """It answers a bulk with an item for each document, also one that comes in pieces, and a count of them all."""
    bulk = b'{"create":{"_index":"a","_id":"1"}}\n{"x":1}\n' * 3
    with counting() as sink, httpx.Client(base_url=sink.env["ELASTICSEARCH_URL"], trust_env=False) as client:
        assert client.get("/").headers["x-elastic-product"] == "Elasticsearch"
        assert client.get("/_index_template/ml-*").status_code == 404
        assert client.put("/_index_template/ml-metrics", json={}).json() == {"acknowledged": True}
        length = {"content-length": str(2 * len(bulk))}
        for content in (bulk + bulk, iter((bulk, bulk))):
            answer = client.post("/_bulk?filter_path=errors", content=content, headers=length).json()
            assert answer == {"errors": False, "items": [{"create": {"status": 201}}] * 6}
        assert sink.count("") == 12


@pytest.mark.process
def test_ctrl_c_ends_everything_that_was_started(tmp_path: Path) -> None:
    """An interrupted run leaves no process and no figures behind."""
    command = [sys.executable, "-m", "benchmarks", "--only", "tcp:counting", "--results", str(tmp_path / "results")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while len(started := tree(process.pid)) < 4:  # with gateway, sink and sender
            assert time.monotonic() < deadline, "the run did not begin"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    deadline = time.monotonic() + 5  # for the system to bury them
    while left := [pid for pid in started if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())


def books(**changed: Any) -> dict[str, Any]:
    return {"accepted": 5, "difference": 0, "sinks": {"elasticsearch": {"indexed": 5}}, **changed}


@pytest.mark.parametrize(
    ("found", "documents"),
    [
        (books(), 4),
        (books(), 6),
        (books(accepted=4), 5),
        (books(difference=1), 5),
        (books(sinks={"elasticsearch": {"indexed": 4}}), 5),
    ],
)
def test_a_run_that_lost_or_doubled_events_fails(found: dict[str, Any], documents: int) -> None:
    """Figures of a run whose sink or books are off are never written down."""
    with pytest.raises(Wrong):
        check_books(found, "elasticsearch", 5, documents)
    check_books(books(), "elasticsearch", 5, 5)
