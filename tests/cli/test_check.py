"""``gateway check``: every mistake at once, before a start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.ports import free_port
from tests.gateway_process import ROOT

pytestmark = pytest.mark.process


def check(folder: Path, *arguments: str, word: str = "check", **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``gateway check``, or another word, in a folder of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY", "ELASTICSEARCH"))}
    return subprocess.run(
        [sys.executable, "-m", "gateway", word, *arguments],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_sound_settings(tmp_path: Path) -> None:
    """The defaults are sound: exit code 0 and nothing on stderr."""
    ended = check(tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "✓ The settings are sound.\n"


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    """Three mistakes in the file and one in the environment are four sentences, each with its name."""
    (tmp_path / "gateway.yaml").write_text("tcp: {port: 70000, prot: 1}\nevents: {max_age_days: no}\n")
    ended = check(tmp_path, GATEWAY_HTTP__PORT="many")
    assert ended.returncode == 1
    lines = ended.stderr.splitlines()
    assert len(lines) == 4
    for name in ("tcp.port", "tcp.prot", "events.max_age_days", "http.port"):
        assert sum(f"✗ {name}" in line for line in lines) == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("events: {naive_timezone: Mars/Olympus}", "'Mars/Olympus' is not a time zone"),
        ("enrichment: {confidence: {high: 0.5, medium: 0.7}}", "enrichment.confidence"),
        ("enrichment: {models: {m: {latency: {fast: 500}}}}", "enrichment.models.m.latency"),
        ("tcp: {tls: {certificate: none.pem, key: none.pem}}", "tcp.tls"),
    ],
)
def test_settings_that_do_not_fit_together(tmp_path: Path, settings: str, told: str) -> None:
    """What is sound alone but not together is told by its name."""
    (tmp_path / "gateway.yaml").write_text(settings)
    ended = check(tmp_path)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_mistakes_of_all_sorts_are_told_at_once(tmp_path: Path) -> None:
    """A value of the wrong type hides neither what does not fit together nor a file that is not there."""
    (tmp_path / "gateway.yaml").write_text(
        "tcp: {tls: {certificate: none.pem, key: none.pem}}\n"
        "spool: {max_bytes: many}\n"
        "events: {naive_timezone: Mars}\n"
        "enrichment: {latency: {fast: 500}}\n"
        "schemas: {files: [none.py]}\n"
        "elasticsearch: {urls: ['https://127.0.0.1:1'], ca_certs: none.pem}\n"
    )
    ended = check(tmp_path, "--connect", GATEWAY_HTTP__PORT="many")
    assert (ended.returncode, ended.stdout) == (1, "")
    lines = ended.stderr.splitlines()
    told = [
        "http.port", "spool.max_bytes", "'Mars'", "enrichment.latency", "tcp.tls", "none.py", "elasticsearch.ca_certs",
    ]  # fmt: skip
    assert [sum(each in line for line in lines) for each in told] == [1] * len(lines), lines


def test_an_open_listener_is_warned_of(tmp_path: Path) -> None:
    """Listening beyond loopback without key and TLS is allowed, with a warning each."""
    ended = check(tmp_path, GATEWAY_TCP__HOST="0.0.0.0", GATEWAY_HTTP__HOST="0.0.0.0")
    assert ended.returncode == 0
    assert [line[:1] for line in ended.stdout.splitlines()] == ["✓", "!", "!"]


def test_connect(tmp_path: Path, es: EsClient) -> None:
    """With --connect ports, data directory and Elasticsearch are tried, each with its own line."""
    ports = {"GATEWAY_TCP__PORT": str(free_port()), "GATEWAY_HTTP__PORT": str(free_port())}
    well = check(tmp_path, "--connect", ELASTICSEARCH_URL=es.url, **ports)
    assert well.returncode == 0, well.stderr
    assert [line.split(":")[0] for line in well.stdout.splitlines()[1:]] == [
        "✓ data directory",
        "✓ tcp",
        "✓ http",
        "✓ elasticsearch",
    ]
    ill = check(tmp_path, "--connect", ELASTICSEARCH_URL="http://127.0.0.1:1", **ports)
    assert ill.returncode == 1
    (line,) = ill.stderr.splitlines()
    assert line.startswith("✗ elasticsearch: ")
    assert "127.0.0.1:1" in line


def test_serve_tells_the_same_mistakes(tmp_path: Path) -> None:
    """A start with wrong settings ends with exit code 1 and the same sentences, without a stack trace."""
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "serve"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "GATEWAY_TCP__PRT": "1", "GATEWAY_HTTP__PORT": "-1"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 1
    assert {line.split()[1] for line in ended.stderr.splitlines()} == {"http.port:", "tcp.prt"}
