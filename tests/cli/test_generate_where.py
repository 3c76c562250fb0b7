"""Where the events go, and what is said when they do not get there."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gateway.cli.generate import command, connection
from tests.cli.line_server import Server, run
from tests.gateway_process import ROOT, GatewayFactory

pytestmark = pytest.mark.usefixtures("no_settings")


def test_nobody_listens() -> None:
    """A refused connection is one sentence that names the address and what to do, and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = run("--batch", "10", port=port)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert f"127.0.0.1:{port}" in result.stderr
    assert "0 events were sent" in result.stderr
    assert "`make run`" in result.stderr


def test_connection_lost() -> None:
    """A gateway that dies in between is one sentence with the number sent, and exit code 1."""

    def die(peer: socket.socket) -> None:
        peer.recv(1000)

    server = Server(die)
    result = run("--continuous", "--rate", "1000", "--duration", "60", port=server.port)
    server.close()
    said_before, sentence = result.stderr.splitlines()
    assert result.exit_code == 1
    assert said_before == "Sending 1,000 events/s for 60 s."
    assert sentence.startswith(f"127.0.0.1:{server.port} has closed the connection after ")
    assert "events sent" in sentence
    assert "`gateway serve`" in sentence


@pytest.mark.slow
@pytest.mark.process
def test_over_a_restart(gateway: GatewayFactory) -> None:
    """Until Ctrl-C it waits for a gateway that is away, says so once, and goes on at its rate without catching up."""
    running = gateway()
    sender = subprocess.Popen(
        [sys.executable, "-m", "gateway", "generate", "--continuous", "--rate", "100"],
        cwd=ROOT, env=running.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        running.wait_until(lambda now: now["books"]["accepted"] > 50)
        running.kill()
        time.sleep(3)
        running.restart()
        before = running.status()["books"]["accepted"]
        running.wait_until(lambda now: now["books"]["accepted"] > before + 150)
    finally:
        sender.send_signal(signal.SIGINT)
        said, errors = sender.communicate(timeout=20)
    assert sender.returncode == 0, errors
    address = f"127.0.0.1:{running.tcp_port}"
    sending, away, back = errors.splitlines()
    assert sending == f"Sending 100 events/s until Ctrl-C: open {running.url}/"
    assert re.fullmatch(f"The gateway at {address} is away after [0-9]+ events sent, .* Ctrl-C ends\\.", away)
    assert back == f"Connected to {address} again."
    told = re.match(r"Sent ([0-9,]+) events in ([0-9.]+) s", said)
    assert told is not None
    sent, secs = int(told[1].replace(",", "")), float(told[2])
    assert sent <= 100 * secs + 100
    books = running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["waiting"] == 0)["books"]
    assert books["refused"] == 0
    assert books["sinks"]["embedded"]["indexed"] <= sent


def test_unread_rest_is_noticed() -> None:
    """A batch that fits into TCP's buffers is not called sent when its reader dies before the end."""

    def die(peer: socket.socket) -> None:
        peer.recv(10)
        time.sleep(0.3)

    server = Server(die)
    result = run("--batch", "100", port=server.port)
    server.close()
    assert result.exit_code == 1
    assert "closed the connection after 100 events" in result.stderr


def test_silent_peer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that never closes is left after a while, and it is said that arrival is not known."""
    release = threading.Event()

    def hang(peer: socket.socket) -> None:
        release.wait(10)

    monkeypatch.setattr(connection, "_CLOSE_SECS", 0.2)
    server = Server(hang)
    result = run("--batch", "10", port=server.port)
    release.set()
    server.close()
    assert result.exit_code == 1
    assert "not known whether all of the 10 events sent have arrived" in result.stderr


@pytest.mark.parametrize("words", [("--batch", "5"), ("--batch", "20000"), ("--continuous", "--rate", "100")])
def test_http_port_is_noticed(words: tuple[str, ...]) -> None:
    """Sent to a port that speaks HTTP, such as 8080, it is said so, and where to send instead; exit code 1."""

    def serve(peer: socket.socket) -> None:
        peer.recv(100)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\r\nInvalid HTTP request received.")

    server = Server(serve)
    result = run(*words, port=server.port)
    server.close()
    assert result.exit_code == 1
    sentence = f"127.0.0.1:{server.port} speaks HTTP, not JSON lines: use the TCP port (5001, unless tcp.port is set)."
    assert result.stderr.splitlines()[-1] == sentence


def test_own_http_port_is_noticed(gateway: GatewayFactory) -> None:
    """The gateway's own HTTP port is not taken for its TCP port, and takes nothing."""
    running = gateway()
    result = run("--batch", "1000", port=running.http_port)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"127.0.0.1:{running.http_port} speaks HTTP, not JSON lines" in result.stderr
    assert running.status()["books"]["received"] == 0


def test_settings_say_where(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without flags, host and ports are those of gateway.yaml, then of the environment; --config names a file."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "gateway.yaml"
    file.write_text(f"tcp: {{port: {server.port}, host: 0.0.0.0}}\nhttp: {{port: 18123}}\n")
    result = run("--batch", "5")
    assert result.exit_code == 0, result.stderr
    assert len(server.events()) == 5
    assert "first page, http://127.0.0.1:18123/" in result.stdout
    file.rename(tmp_path / "other.yaml")
    for words, page in (((), 8080), (("--config", "other.yaml"), 18123)):
        second = Server()
        monkeypatch.setenv("GATEWAY_TCP__PORT", str(second.port))
        result = run("--batch", "5", *words)
        second.close()
        assert result.exit_code == 0, result.stderr
        assert len(second.events()) == 5
        assert f"first page, http://127.0.0.1:{page}/" in result.stdout


def test_flags_beat_settings(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """--port and --host win over the settings; where that gateway has its pages is not known, and not told."""
    monkeypatch.setenv("GATEWAY_TCP__PORT", "1")
    monkeypatch.setenv("GATEWAY_TCP__HOST", "192.0.2.1")
    monkeypatch.setenv("GATEWAY_HTTP__HOST", "192.0.2.1")
    result = run("--batch", "5", "--host", "localhost", port=server.port)
    assert result.exit_code == 0, result.stderr
    assert "http" not in result.output


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [("GATEWAY_TCP__ENABLED", "false", "tcp.enabled"), ("GATEWAY_TCP__PORT", "0", "--port")],
)
def test_settings_without_a_port(monkeypatch: pytest.MonkeyPatch, name: str, value: str, hint: str) -> None:
    """Settings that name no TCP port end with one sentence, unless --port does."""
    monkeypatch.setenv(name, value)
    result = run("--batch", "5")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert hint in result.stderr


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("::1", "127.0.0.1"),
        ("gateway.example", "gateway.example"),
        ("2001:db8::1", "[2001:db8::1]"),
    ],
)
def test_console_host(host: str, shown: str) -> None:
    """The link at the end leads to the host sent to."""
    assert shown == command._console_host(host)
