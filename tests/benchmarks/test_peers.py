"""The peers' configurations are sound, and what they make of events is compared, not assumed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.events import lines
from benchmarks.expected import documents
from benchmarks.peers.compare import compare
from benchmarks.peers.peers import PEERS, Peer
from enrichers import DEFAULT_PATTERNS
from tests.benchmarks.test_bench import bench, result_in

each_peer = pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)


@each_peer
@pytest.mark.process
@pytest.mark.timeout(150)
def test_the_program_takes_its_configuration(peer: Peer, tmp_path: Path) -> None:
    """Where the program is installed it finds no fault with the configuration."""
    if (program := peer.program()) is None:
        pytest.skip(f"{peer.name} is not installed, so that its configuration is not checked (${peer.variable})")
    assert peer.complaint(program, tmp_path) is None


@each_peer
def test_a_configuration_is_filled_in(peer: Peer, tmp_path: Path) -> None:
    """Ports, and every sort of error that the gateway knows, are in it; no word is left to be filled in."""
    peer.configure(tmp_path, 20_001, 20_002)
    text = "".join(file.read_text() for file in tmp_path.iterdir())
    assert "20001" in text
    assert "20002" in text
    assert all(name in text for name in DEFAULT_PATTERNS)
    assert "__" not in text
    for file in tmp_path.glob("*.y*ml"):
        assert isinstance(yaml.safe_load(file.read_text()), dict)


def as_peer(made: list[bytes], change: Any) -> list[bytes]:
    told = documents(made).splitlines()
    pairs = [(json.loads(action), json.loads(source)) for action, source in zip(told[::2], told[1::2], strict=True)]
    for action, source in pairs:
        change(action["create"], source)
    return [json.dumps(each).encode() for pair in pairs for each in pair]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _, source: source.update({"received_at": "now"}), "the same fields in 20 documents"),
        (
            lambda _, source: source.update({"prediction_accuracy": round(source["prediction_accuracy"])}),
            "the same fields",
        ),
        (lambda _, source: source.update({"@timestamp": source["timestamp"].replace("Z", "+00:00")}), "the same"),
        (lambda _, source: source.update({"@timestamp": "2026-01-01T00:00:00Z"}), "differ: @timestamp (20) of 20"),
        (lambda _, source: source.update({"prediction_correct": "true"}), "differ: prediction_correct (20) of 20"),
        (lambda _, source: source.pop("received_at"), "missing: received_at (20) of 20"),
        (lambda _, source: source.update({"host": "x"}), "besides: host (20) of 20"),
        (lambda action, _: action.update({"_index": "logstash"}), "20 in another index of 20"),
        (lambda _, source: source.update({"event_id": "x"}), "no document could be compared"),
    ],
)
def test_documents_are_compared(change: Any, said: str) -> None:
    """What a peer leaves out, adds or makes otherwise is told; how it spells a number or its own time is not."""
    made = lines(20, 1)
    assert str(compare(made, as_peer(made, change))).startswith(said)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_peers_that_are_installed_are_measured(tmp_path: Path) -> None:
    """The gateway and each installed peer get the same events; who is not installed is said to be not."""
    words = ("--events", "2000", "--repeat", "1", "--results", str(tmp_path))
    ended = bench(*words, module="benchmarks.peers", timeout=280)
    assert ended.returncode == 0, ended.stderr
    _, result = result_in(tmp_path)
    installed = {peer.name for peer in PEERS if peer.program()}
    assert {*result["not_installed"]} == {peer.name for peer in PEERS} - installed
    ours, *peers = result["systems"].items()
    assert {name for name, _ in peers} == installed
    assert ours[1]["documents"][0]["said"] == "the same fields in 2,000 documents"
    for name, figures in result["systems"].items():
        assert "failed" not in figures, f"{name}: {figures}"
        sys.stdout.write(f"{name}: {figures['documents'][0]['said']}\n")
        assert figures["documents"][0]["compared"] == 2000
        assert not figures["documents"][0]["missing"]
        assert not figures["documents"][0]["differ"]
