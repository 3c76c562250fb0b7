"""``gateway top``: what an operator wants to see, live in a terminal, once elsewhere; it waits for a gateway."""

from __future__ import annotations

import io
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
from rich.console import Console, Group

from gateway.cli import top as command
from tests.elasticsearch_node.ports import free_port
from tests.gateway_process import ROOT, GatewayFactory

pytestmark = pytest.mark.process
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("GATEWAY", "ELASTICSEARCH", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"))
}


def once(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``gateway top`` without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", "top", *arguments],
        cwd=folder,
        env={**CLEAN, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


class Screen:
    """``gateway top`` in a terminal of 80 columns."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        self._ours, theirs = pty.openpty()
        subprocess.run(["stty", "cols", "80", "rows", "24"], stdin=theirs, check=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "top", *arguments],
            cwd=folder,
            env={**CLEAN, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def wait(self, pattern: str, secs: float = 20) -> str:
        """Return what is written from now on, when it has the pattern."""
        text = ""
        deadline = time.monotonic() + secs
        while not re.search(pattern, plain(text)):
            assert time.monotonic() < deadline, plain(text)[-2000:]
            if select.select([self._ours], [], [], 0.5)[0]:
                text += os.read(self._ours, 65536).decode(errors="replace")
        return plain(text)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@contextmanager
def screen(folder: Path, *arguments: str, **env: str) -> Iterator[Screen]:
    shown = Screen(folder, *arguments, **env)
    try:
        yield shown
    finally:
        shown.close()


def plain(text: str) -> str:
    """Take out what colours and places text."""
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text)


def row(text: str, name: str) -> list[str]:
    (found,) = re.findall(rf"^{name} .*$", text, re.MULTILINE)
    return str(found).split()


@pytest.mark.parametrize("arguments", [(), ("--once",)])
def test_one_frame(gateway: GatewayFactory, arguments: tuple[str, ...]) -> None:
    """Elsewhere than in a terminal, one frame tells sources, spool, sinks and books, at 80 columns."""
    running = gateway()
    lines = b'{"model_name":"m"}\n' * 1500 + b"broken\n"
    running.send_tcp(lines)
    running.http.post("/v1/events", content=b'{"model_name":"m"}').raise_for_status()
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 1501)
    running.wait_until(lambda now: now["books"]["dead_letters"] == 1)
    ended = once(running.folder, *arguments, **running.env)
    assert (ended.returncode, ended.stderr) == (0, "")
    text = ended.stdout
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"gateway {running.status()['version']} at {running.url}, up ")
    assert "\n1,502 in · 1,501 stored · 1 refused · 0 missing · 1 dead letters held\n" in text
    assert row(text, "tcp")[1:4] == ["0", "1,501", "1"]
    assert row(text, "http")[2:4] == ["1", "0"]
    assert row(text, "embedded") == ["embedded", "0", "1,501", "0", "ok"]
    assert re.search(r"SPOOL \d+\.\d KiB of 10\.0 GiB on disk, the oldest event waits 0\.0 s", text)


def test_a_sink_in_trouble(gateway: GatewayFactory) -> None:
    """A sink that does not take events is named with its trouble and what waits for it."""
    both = {"ELASTICSEARCH_URL": "http://127.0.0.1:1", "GATEWAY_STORE__ENABLED": "true"}
    running = gateway(env={**both, "GATEWAY_DRAIN_TIMEOUT_SECS": "0.1"})
    running.http.post("/v1/events", content=b'{"model_name":"m"}').raise_for_status()
    running.wait_until(lambda now: now["sinks"]["elasticsearch"]["last_error"])
    text = once(running.folder, "--url", running.url).stdout
    assert "1 in · 0 stored in all sinks · 0 refused · 1 waiting · 0 missing" in text
    name, rate, stored, waiting, _, state = row(text, "elasticsearch")[:6]
    assert (name, rate, stored, waiting, state) == ("elasticsearch", "0", "0", "1", "retrying")
    assert "\nelasticsearch, retrying: " in text
    assert max(map(len, text.splitlines())) <= 80


def test_live(gateway: GatewayFactory) -> None:
    """In a terminal it goes on: with rates, with a sentence while the gateway is away, and on when it is back."""
    running = gateway()
    with screen(running.folder, "--interval", "0.3", **running.env) as shown:
        shown.wait(r"0 in · 0 stored")
        for _ in range(5):
            running.send_tcp(b'{"model_name":"m"}\n' * 200)
            time.sleep(0.2)
        shown.wait(r"tcp +[1-9][\d,]* +[\d,]+ +0 ")
        shown.wait(r"1,000 in · 1,000 stored · 0 refused · 0 missing")
        running.kill()
        text = shown.wait(r"Trying again")
        assert f"✗ No gateway answers at {running.url}" in text
        running.restart()
        running.send_tcp(b'{"model_name":"m"}\n')
        shown.wait(r"1,001 in · 1,001 stored")
        assert shown.process.poll() is None
        shown.process.send_signal(signal.SIGINT)
        assert shown.process.wait(10) == 0


def test_before_the_gateway(gateway: GatewayFactory) -> None:
    """Begun before the gateway, it waits for it."""
    running = gateway(start=False)
    with screen(running.folder, "--interval", "0.2", **running.env) as shown:
        shown.wait(r"No gateway answers")
        running.start()
        running.wait_ready()
        shown.wait(r"0 in · 0 stored · 0 refused · 0 missing")
        shown.process.send_signal(signal.SIGINT)
        assert shown.process.wait(10) == 0


def test_mistakes(tmp_path: Path, gateway: GatewayFactory) -> None:
    """No gateway, a wrong key and a wrong interval are told in a sentence each."""
    port = free_port()
    ended = once(tmp_path, "--once", GATEWAY_HTTP__PORT=str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"gateway: No gateway answers at http://127.0.0.1:{port} (")
    assert ended.stderr.count("\n") == 1
    ended = once(tmp_path, "--interval", "0")
    assert (ended.returncode, "--interval" in ended.stderr) == (2, True)
    running = gateway(env={"GATEWAY_HTTP__API_KEYS": "a-key"})
    ended = once(tmp_path, "--url", running.url)
    assert ended.returncode == 1
    assert "A key is needed" in ended.stderr
    assert once(running.folder, **running.env).returncode == 0


@pytest.mark.parametrize(("difference", "red"), [(0, False), (3, True), (-3, True)])
def test_missing_events_are_red(gateway: GatewayFactory, difference: int, red: bool) -> None:
    """Books that do not balance, which no gateway can be brought to, stand out."""
    status: dict[str, Any] = {**gateway().status(), "at": time.monotonic()}
    status["books"]["difference"] = difference
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system="standard", width=80)
    console.print(Group(*command._parts("http://127.0.0.1", status, status)))
    told = f"{abs(difference)} missing"
    assert (f"\x1b[1;31m{told}" in written.getvalue()) is red
    assert told in plain(written.getvalue())


def test_what_others_wrote_does_not_steer_the_terminal(gateway: GatewayFactory) -> None:
    """A sink's trouble may hold what a sender wrote."""
    running = gateway()
    status: dict[str, Any] = {**running.wait_until(lambda now: "embedded" in now["sinks"]), "at": time.monotonic()}
    status["sinks"]["embedded"]["last_error"] = "odd \x1b]0;title\x07 field"
    written = io.StringIO()
    Console(file=written, width=80).print(Group(*command._parts("http://127.0.0.1", status, status)))
    assert "odd \\x1b]0;title\\x07 field" in written.getvalue()


def test_durations_and_sizes() -> None:
    """They are written as people write them."""
    durations = {0.04: "0.0 s", 59.9: "59.9 s", 60: "1 min 0 s", 3725: "1 h 2 min", 200_000: "2 d 7 h"}
    assert {secs: command._duration(secs) for secs in durations} == durations
    sizes = {0: "0 bytes", 2048: "2.0 KiB", 5 << 20: "5.0 MiB", 10 << 30: "10.0 GiB"}
    assert {size: command._size(size) for size in sizes} == sizes
