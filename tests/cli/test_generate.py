import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
import typer
from typer.testing import CliRunner, Result

from gateway.cli import generate as module
from gateway.cli.generate import generate
from gateway.cli.traffic import Scenario

app = typer.Typer()
app.command()(generate)


class Server:
    """A TCP server that keeps every line and the time it came; `behave` replaces its reading."""

    def __init__(self, behave: Callable[[socket.socket], None] | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._behave = behave or self._read
        self.port: int = self._listener.getsockname()[1]
        self.data = b""
        self.times: list[float] = []
        self.first = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return
        with peer:
            self._behave(peer)

    def _read(self, peer: socket.socket) -> None:
        while data := peer.recv(65536):
            self.data += data
            self.times.extend([time.monotonic()] * data.count(b"\n"))
            self.first.set()

    def events(self) -> list[dict[str, Any]]:
        assert self.data.endswith(b"\n")
        return [orjson.loads(line) for line in self.data.splitlines()]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def run(*words: str, port: int | None = None) -> Result:
    return CliRunner().invoke(app, [*words, *(("--port", str(port)) if port else ())])


def test_batch_sends_exactly_that_many(server: Server) -> None:
    """A batch of N is N lines of JSON, each with ids and a UTC timestamp, and the summary says so."""
    result = run("--batch", "1234", port=server.port)
    events = server.events()
    assert (result.exit_code, result.stderr) == (0, "")
    assert 1234 == len(events) == len({event["event_id"] for event in events})
    assert all(event["request_id"] and event["timestamp"].endswith("Z") for event in events)
    assert result.stdout.startswith("Sent 1,234 events in ")
    assert "model_inference" in result.stdout
    assert "http://127.0.0.1:8080/" in result.stdout


def test_seed_repeats(server: Server) -> None:
    """The same seed sends the same ids again."""
    run("--batch", "50", "--seed", "4", port=server.port)
    second = Server()
    run("--batch", "50", "--seed", "4", port=second.port)
    second.close()
    assert [event["event_id"] for event in server.events()] == [event["event_id"] for event in second.events()]


def test_without_seed_no_repetition(server: Server) -> None:
    """Two runs without a seed share no event id, so that none is taken for a duplicate."""
    run("--batch", "50", port=server.port)
    second = Server()
    run("--batch", "50", port=second.port)
    second.close()
    ids = {event["event_id"] for event in server.events()}
    assert ids.isdisjoint(event["event_id"] for event in second.events())


@pytest.mark.parametrize(("rate", "duration"), [(40, 1.5), (5000, 1.0)])
def test_rate_is_kept(server: Server, rate: int, duration: float) -> None:
    """A run has exactly rate times duration events, evenly over its time."""
    result = run("--continuous", "--rate", str(rate), "--duration", str(duration), port=server.port)
    assert result.exit_code == 0, result.stderr
    assert round(rate * duration) == len(server.events())
    half = server.times[len(server.times) // 2] - server.times[0]
    assert half == pytest.approx(duration / 2, abs=0.15)
    assert server.times[-1] - server.times[0] == pytest.approx(duration, abs=0.2)


def test_scenario_grows_over_a_batch(server: Server) -> None:
    """A scenario combined with a batch goes through its whole course within it."""
    run("--batch", "8000", "--scenario", "errors", "--seed", "1", port=server.port)
    events = [event for event in server.events() if event.get("type") == "model_inference"]
    first, last = (sum("error_message" in event for event in part) for part in (events[:1500], events[-1500:]))
    assert first < 150
    assert last > 300


def test_scenario_alone_runs_at_its_own_rate(server: Server) -> None:
    """A scenario alone is a continuous run at a rate that fits it."""
    result = run("--scenario", "normal", "--duration", "0.5", port=server.port)
    assert result.exit_code == 0, result.stderr
    assert len(server.events()) == 25


def test_scenario_alone_takes_a_minute() -> None:
    """Without a duration, a scenario alone is planned for 60 seconds; with --continuous it has no end."""
    plan = module._plan(None, False, None, None, Scenario.DRIFT)
    assert (plan.duration_secs, plan.total) == (60.0, 3000)
    endless = module._plan(None, True, None, None, Scenario.DRIFT)
    assert (endless.duration_secs, endless.total) == (None, None)


def test_verbose_prints_what_is_sent(server: Server) -> None:
    """With --verbose standard output holds every line sent, then the summary."""
    result = run("--batch", "20", "--verbose", port=server.port)
    assert result.stdout.startswith(server.data.decode())
    assert len(result.stdout.splitlines()) == 22


def test_ctrl_c_ends_cleanly(server: Server) -> None:
    """Ctrl-C ends an endless run with the summary and exit code 0, and cuts no line."""

    def interrupt() -> None:
        server.first.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    result = run("--continuous", "--rate", "2000", port=server.port)
    thread.join()
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"Sent {len(server.events()):,} events in ")
    assert before is signal.getsignal(signal.SIGINT)


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
    result = run("--continuous", "--rate", "1000", port=server.port)
    server.close()
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert f"127.0.0.1:{server.port} has closed the connection after " in result.stderr
    assert "events sent" in result.stderr
    assert "`gateway serve`" in result.stderr


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

    monkeypatch.setattr(module, "_CLOSE_SECS", 0.2)
    server = Server(hang)
    result = run("--batch", "10", port=server.port)
    release.set()
    server.close()
    assert result.exit_code == 1
    assert "not known whether all of the 10 events sent have arrived" in result.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((), "--batch N, --continuous --rate R or --scenario NAME"),
        (("--rate", "5"), "--batch N"),
        (("--batch", "0"), "--batch must be a number above 0"),
        (("--batch", "-5"), "--batch must be a number above 0"),
        (("--continuous", "--rate", "0"), "--rate must be a number above 0"),
        (("--continuous", "--rate", "nan"), "--rate must be a number above 0"),
        (("--continuous", "--rate", "inf"), "--rate must be a number above 0"),
        (("--continuous", "--rate", "5", "--duration", "-1"), "--duration must be a number above 0"),
        (("--batch", "5", "--continuous"), "--batch sends at once"),
        (("--batch", "5", "--rate", "5"), "--batch sends at once"),
    ],
)
def test_wrong_usage(words: tuple[str, ...], hint: str) -> None:
    """Wrong usage is one sentence on standard error and exit code 2; nothing is sent."""
    result = run(*words)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert hint in result.stderr


@pytest.mark.parametrize("words", [("--scenario", "chaos"), ("--batch", "many"), ("--batch", "1", "--port", "0")])
def test_unreadable_options(words: tuple[str, ...]) -> None:
    """What is no scenario, no number or no port is wrong usage too."""
    assert run(*words).exit_code == 2


def test_help_shows_examples() -> None:
    """The help shows lines to paste."""
    result = run("--help")
    assert result.exit_code == 0
    assert "gateway generate --batch 1000" in result.stdout


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
    assert shown == module._console_host(host)
