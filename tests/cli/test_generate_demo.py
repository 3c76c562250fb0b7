"""`make demo`: the gateway and a sender together, from one word to one Ctrl-C."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.elasticsearch_node.ports import free_port
from tests.gateway_process import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")]


class Demo:
    """`make demo` in a folder that has the Makefile, with ports of its own and this Python's environment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.output = folder / "output.txt"
        self.tcp_port, self.http_port = free_port(), free_port()
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        bin_folder = folder / "venv" / "bin"
        bin_folder.mkdir(parents=True)
        for name, words in (("python", ""), ("gateway", "-m gateway")):
            (bin_folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
            (bin_folder / name).chmod(0o755)
        installed = folder / "venv" / "run.installed"
        installed.touch()
        later = time.time() + 10  # newer than what it is made of: nothing is to be installed
        os.utime(installed, (later, later))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "ELASTIC"))}
        own = {"GATEWAY_TCP__PORT": str(self.tcp_port), "GATEWAY_HTTP__PORT": str(self.http_port)}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                ["make", "--no-print-directory", "demo", "VENV=venv"],
                cwd=self._folder,
                env=inherited | own | {"PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def made(self) -> "subprocess.Popen[bytes]":
        """The process of make."""
        assert self.process is not None
        return self.process

    def pids(self, word: str = "") -> list[int]:
        """Give the processes of this demo whose command line has the word."""
        found = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
        pids = []
        for line in found.splitlines():
            pid, _, args = line.strip().partition(" ")
            if f"-m gateway {word}" in args and self._is_ours(int(pid)):
                pids.append(int(pid))
        return pids

    def _is_ours(self, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/cwd").resolve() == self._folder.resolve()
        except OSError:
            return False

    def wait_for_events(self) -> None:
        """Wait until the gateway has taken some."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                status = httpx.get(f"http://127.0.0.1:{self.http_port}/status", trust_env=False, timeout=5).json()
            except httpx.HTTPError:
                status = {"books": {"accepted": 0}}
            if status["books"]["accepted"] > 30:
                assert status["books"]["refused"] == 0
                return
            assert self.made.poll() is None, self.said()
            time.sleep(0.1)
        raise AssertionError(self.said())

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def ended(self) -> int:
        """Wait until it has ended, and everything with it; return make's exit code."""
        code = self.made.wait(25)
        assert self.pids() == [], self.said()
        return code

    def close(self) -> None:
        """End what still runs of it."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    if not Path("/proc").exists():
        pytest.skip("finds its processes in /proc")
    demo = Demo(tmp_path)
    yield demo
    demo.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_both(demo: Demo, number: signal.Signals) -> None:
    """Events arrive; Ctrl-C, or SIGTERM to make, ends first the sender, with nothing lost, then the gateway."""
    demo.start()
    demo.wait_for_events()
    assert f"Sending 50 events/s until Ctrl-C: open http://127.0.0.1:{demo.http_port}/" in demo.said()
    assert f"http://127.0.0.1:{demo.http_port}/v1/events" in demo.said()
    if number == signal.SIGINT:
        os.killpg(demo.made.pid, number)  # as a terminal does
    else:
        demo.made.send_signal(number)
    assert demo.ended() in {0, -number, 128 + number}
    said = demo.said()
    assert said.index("Sent ") < said.index("Stopping: ")
    assert "Traceback" not in said
    assert "closed the connection" not in said


@pytest.mark.parametrize("word", ["serve", "generate"])
def test_one_dies_the_other_ends(demo: Demo, word: str) -> None:
    """When the gateway or the sender is killed, the other one ends too, and make fails."""
    demo.start()
    demo.wait_for_events()
    (pid,) = demo.pids(word)
    os.kill(pid, signal.SIGKILL)
    assert demo.ended() == 2
    assert "Traceback" not in demo.said()


def test_port_in_use(demo: Demo) -> None:
    """Where another program has the port, make fails with the gateway's one sentence, and sends it nothing."""
    with socket.create_server(("127.0.0.1", demo.tcp_port)) as other:
        demo.start()
        assert demo.ended() == 2
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()
    assert f"Cannot listen on 127.0.0.1:{demo.tcp_port}" in demo.said()
    assert "Sen" not in demo.said()
    assert "Traceback" not in demo.said()
