"""The benchmark harness measures real runs and refuses figures of runs that lost or doubled events."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import events, ids
from benchmarks.events import Shape, bad_positions
from benchmarks.figures import Figures
from benchmarks.measure import cores, tree
from benchmarks.processes import Wrong, sink
from benchmarks.report import targets as targets_table
from benchmarks.run import check_books
from benchmarks.targets import TARGETS
from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import ROOT
from tests.programs import missing

EVERYWHERE = cores(pinned=False).others


def bench(*words: str, module: str = "benchmarks", timeout: float = 50) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said, wrong = process.communicate(timeout=timeout)
        finally:
            process.terminate()  # and with it what it started
    return subprocess.CompletedProcess(command, process.returncode, said, wrong)


def result_in(folder: Path) -> tuple[Path, dict[str, Any]]:
    (file,) = folder.glob("*.json")
    return file, json.loads(file.read_text())


@pytest.mark.process
def test_a_run_is_measured_and_written_down(tmp_path: Path) -> None:
    """The file says what was measured and on what, and prints as the same tables; a picture is beside it."""
    words = ("--events", "2000", "--repeat", "1", "--only", "both", "--only", "ceiling", "--results", str(tmp_path))
    ended = bench(*words)
    assert ended.returncode == 0, ended.stderr
    file, result = result_in(tmp_path)
    (run,) = result["runs"]
    assert run["events"] == 6000
    assert run["events_per_sec"] == pytest.approx(6000 / run["secs"], rel=0.1)
    assert 0 <= run["cpu_secs_per_million"] < 1000
    assert 30 < run["peak_mib"] < 2000
    figures = result["figures"]
    assert 0 < figures["ready"]["median"] < 30
    assert 30 < figures["idle"]["median"] < 500
    assert figures["ceiling rate"]["median"] > run["events_per_sec"]
    assert [row["what"] for row in result["targets"]] == [target.what for target in TARGETS]
    assert {"cpu", "cores", "memory_gib", "kernel", "python", "commit", "file_system"} <= set(result["machine"])
    assert bench("--table", str(file)).stdout == ended.stdout
    picture = ET.parse(tmp_path / "bench.svg").getroot()  # noqa: S314 - our own
    text = " ".join(each.text or "" for each in picture.iter())
    assert "TCP, not pinned" in text
    assert result["machine"]["cpu"] in text
    assert result["date"][:10] in text


@pytest.mark.slow
@pytest.mark.elasticsearch
@pytest.mark.timeout(300)
def test_every_target_gets_a_figure(tmp_path: Path, elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All groups run, with a real Elasticsearch; nothing of theirs stays in it."""
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    words = ("--events", "2000", "--repeat", "1", "--secs", "1", "--results", str(tmp_path))
    ended = bench(*words, timeout=240)
    assert ended.returncode == 0, ended.stderr
    _, result = result_in(tmp_path)
    missing = [row["what"] for row in result["targets"] if row["figure"] is None]
    has_workers = "workers: this gateway has none" not in ended.stderr
    assert missing == ([] if has_workers else ["workers 2 against 1, CPU per event"])
    assert all(
        run["refused"] == (400 if run["name"] == "20 % bad lines" else 20)
        for run in result["runs"]
        if "bad" in run["name"]
    )


@pytest.mark.process
def test_a_group_that_fails_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an Elasticsearch the rest is written down, the failure with it, and the exit code is 1."""
    monkeypatch.setenv("ELASTICSEARCH_URL", "http://127.0.0.1:1")
    words = ("--events", "500", "--repeat", "1", "--only", "elasticsearch", "--only", "ceiling")
    ended = bench(*words, "--results", str(tmp_path))
    assert ended.returncode == 1
    assert "elasticsearch failed" in ended.stdout
    assert "Traceback" not in ended.stderr
    _, result = result_in(tmp_path)
    assert set(result["failed"]) == {"elasticsearch"}
    assert "ceiling rate" in result["figures"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_profile_finds_the_steps(tmp_path: Path) -> None:
    """A flame graph is written; the steps' costs are those of the whole."""
    ended = bench("--events", "20000", "--results", str(tmp_path), module="benchmarks.profile", timeout=100)
    if "Permission" in ended.stderr:
        missing("py-spy may not look at processes here")
    assert ended.returncode == 0, ended.stderr
    rows = [line.strip("|").split("|") for line in ended.stdout.splitlines() if line.startswith("|")][2:]
    *steps, everything = [float(row[1]) for row in rows]
    assert sum(steps) == pytest.approx(everything, abs=0.1)
    assert sum(cost > 0 for cost in steps) >= 4
    picture = ET.parse(tmp_path / "profile.svg").getroot()  # noqa: S314 - our own
    assert any("gateway/pipeline" in (each.text or "") for each in picture.iter())


@pytest.mark.parametrize(
    "words", [["--events", "0"], ["--events", "5000001"], ["--repeat", "0"], ["--only", "nothing"]]
)
@pytest.mark.process
def test_what_makes_no_sense_is_refused(words: list[str]) -> None:
    """A number out of range or an unknown group ends with exit code 2 before anything is started."""
    ended = bench(*words)
    assert ended.returncode == 2
    assert words[0] in ended.stderr


@pytest.mark.parametrize("size", [200, 440, 2000])
def test_events_are_all_different(size: int) -> None:
    """Each event is one line of JSON of about that size with an id of its own, also between two seeds."""
    made = [line for seed in (1, 2) for line in events.lines(500, seed, Shape(size))]
    loaded = [json.loads(line) for line in made]
    assert len({each["event_id"] for each in loaded}) == len(made)
    assert [each["timestamp"] for each in loaded[:500]] == sorted(each["timestamp"] for each in loaded[:500])
    assert sum(map(len, made)) / len(made) == pytest.approx(size, rel=0.05)


def test_bad_events_are_refused_and_no_others() -> None:
    """As many lines as were asked for are bad, and the gateway takes exactly the rest."""
    from benchmarks.expected import documents

    shape = Shape(bad=0.2)
    made = events.lines(300, 1, shape)
    taken = {json.loads(each)["event_id"] for each in documents(made).splitlines()[1::2]}
    good = [line for number, line in enumerate(made) if number not in bad_positions(300, shape)]
    assert len(good) == 240
    assert taken == {json.loads(line)["event_id"] for line in good}


@pytest.mark.process
def test_the_counting_sink_counts_documents() -> None:
    """It answers a bulk as it is asked to, in pieces, compressed or announced; while away it takes nothing."""
    bulk = b'{"create":{"_index":"a","_id":"1"}}\n{"x":1,"due_ns":1}\n' * 3
    with sink(EVERYWHERE) as counts, httpx.Client(base_url=counts.url, trust_env=False) as client:
        assert client.get("/").headers["x-elastic-product"] == "Elasticsearch"
        assert client.get("/_index_template/ml-*").status_code == 404
        assert client.put("/_index_template/ml-metrics", json={}).json() == {"acknowledged": True}
        counts.ask("keep/2")
        counts.ask("stamp")
        length = {"content-length": str(2 * len(bulk))}
        for content in (bulk + bulk, iter((bulk, bulk))):
            answer = client.post("/_bulk?filter_path=errors,items.*.status", content=content, headers=length).json()
            assert answer["errors"] is False
            assert answer["items"] == [{"create": {"status": 201}}] * 6
        assert client.post("/_bulk?filter_path=errors", content=bulk).json() == {"errors": False}
        assert client.post("/_bulk", content=gzip.compress(bulk), headers={"content-encoding": "gzip"}).is_success
        assert counts.ask()["documents"] == 18
        assert counts.kept() == bulk.splitlines()[:4]
        assert len(counts.latencies_ms()) == 18
        counts.ask("away")
        assert client.post("/_bulk", content=bulk).status_code == 503
        counts.ask("back")
        assert client.post("/_bulk", content=bulk).is_success
        assert counts.ask()["documents"] == 21


@pytest.mark.process
def test_ctrl_c_ends_everything_that_was_started(tmp_path: Path) -> None:
    """An interrupted run leaves no process and no figures behind."""
    command = [sys.executable, "-m", "benchmarks", "--only", "both", "--results", str(tmp_path / "results")]
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


def books(received: int, refused: int, indexed: int, difference: int = 0) -> dict[str, Any]:
    sinks = {"elasticsearch": {"indexed": indexed, "duplicates": 0}}
    return {"received": received, "refused": refused, "difference": difference, "sinks": sinks}


@pytest.mark.parametrize(
    ("after", "documents"),
    [
        (books(17, 3, 14), 3),
        (books(17, 3, 14), 5),
        (books(16, 3, 14), 4),
        (books(17, 2, 14), 4),
        (books(17, 3, 13), 4),
        (books(17, 3, 14, 1), 4),
    ],
)
def test_a_run_that_lost_or_doubled_events_fails(after: dict[str, Any], documents: int) -> None:
    """Figures of a run whose sink or books are off are never written down."""
    before = books(12, 2, 10)
    with pytest.raises(Wrong):
        check_books(before, after, 5, 1, documents)
    check_books(before, books(17, 3, 14), 5, 1, 4)


def test_what_is_missed_is_printed_as_missed() -> None:
    """Each row says whether must and aim are kept; a missed one is named again below, with its reason."""
    figures = Figures()
    figures.add("TCP, 4 connections cpu", 6.0, 6.5)
    figures.add("ready", 1.6)
    figures.add("elasticsearch ratio", 0.95)
    table = targets_table({"targets": [target.row(figures) for target in TARGETS]})
    by_name = {row.split("|")[1].strip(): row for row in table if row.startswith("| ")}
    assert by_name["CPU per event, TCP, one core"].endswith("| ≤ 8 | ≤ 5 | 6.25 CPU-s a million | ✓ |")
    assert by_name["start to ready"].endswith("| ≤ 1.5 | ≤ 0.8 | 1.60 s | ✗ |")
    assert by_name["real Elasticsearch, documents/s against a direct loader"].endswith(
        "| ≥ 0.8 | ≥ 0.9 ✓ | 0.95 × | ✓ |"
    )
    assert by_name["events/s on one core"].endswith("| – | not measured |")
    missed = table[table.index("Missed:") :]
    assert [line for line in missed if line.startswith("- ")] == [line for line in missed if "start to ready" in line]


@pytest.mark.elasticsearch
def test_forms_of_ids(es: EsClient) -> None:
    """Each form of `_id` is loaded and measured, and what was written is gone again."""
    found = ids.measure(es.url, 50, 2)
    assert {form: len(turns) for form, turns in found.items()} == dict.fromkeys(ids.FORMS, 1)
    assert all(rate > 0 for ((_, rate),) in found.values())
    assert es.get("/_cat/indices/*-ml-metrics-*-0", format="json", expand_wildcards="all") == []
