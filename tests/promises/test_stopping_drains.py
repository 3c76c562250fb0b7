"""Promise 8: SIGTERM closes the listeners, finishes what was read, gives the sinks their time, and ends with 0."""

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests import books
from tests import misbehaving_proxy as proxy
from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import Gateway, GatewayFactory
from tests.misbehaving_proxy import MisbehavingProxy

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
DRAIN_SECS = 2
LITTLE_SECS = 4  # more, on a machine that has much else to do
BODY_SECS = 5  # for requests whose body does not end
BATCH = 20


def batch(stem: str, first: int) -> list[bytes]:
    """Return events that tell who sent them, and when."""
    now = datetime.now(UTC).isoformat()
    names = (f"{stem}-{number}" for number in range(first, first + BATCH))
    return [
        json.dumps({"timestamp": now, "event_id": name, "model_name": "m", "name": name}).encode() for name in names
    ]


class Load:
    """Senders of every kind, until their connection ends; what they were told is safe, and what was left open."""

    def __init__(self, running: Gateway) -> None:
        self.running = running
        self.safe: set[str] = set()
        self.open: list[bytes] = []
        self.errors: list[BaseException] = []
        self.sent = 0  # over plain TCP
        senders = (self._http, self._acknowledged, self._plain)
        self._threads = [threading.Thread(target=self._guarded, args=(each,)) for each in senders]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        assert self.errors == []

    def _guarded(self, send: Any) -> None:
        try:
            send()
        except BaseException as error:
            self.errors.append(error)

    def _http(self) -> None:
        """Requests over one connection that is kept."""
        with httpx.Client(base_url=self.running.url, timeout=30, trust_env=False) as client:
            for first in range(0, 1_000_000, BATCH):
                lines = batch("http", first)
                try:
                    answer = client.post("/v1/events", content=b"\n".join(lines))
                except httpx.TransportError:
                    self.open += lines
                    return
                if answer.status_code != httpx.codes.OK:
                    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
                    self.open += lines
                    return
                self._note(lines)

    def _acknowledged(self) -> None:
        """Lines over TCP, the next ones when these are acknowledged."""
        with self.running.connect_tcp() as connection, connection.makefile("rb") as answers:
            connection.sendall(b'{"ack":true}\n')
            assert json.loads(answers.readline()) == {"ack": "ready"}
            for first in range(0, 1_000_000, BATCH):
                lines = batch("acked", first)
                acked = first
                try:
                    connection.sendall(b"\n".join(lines) + b"\n")
                    while acked < first + BATCH and (answer := answers.readline()):
                        assert json.loads(answer)["rejected"] == []
                        acked = json.loads(answer)["acked"]
                except ConnectionError:
                    pass
                self._note(lines[: acked - first])
                if acked < first + BATCH:
                    self.open += lines[acked - first :]
                    return

    def _plain(self) -> None:
        """Lines over TCP that nobody answers."""
        with self.running.connect_tcp() as connection, contextlib.suppress(ConnectionError):
            while True:
                connection.sendall(b"\n".join(batch("plain", self.sent)) + b"\n")
                self.sent += BATCH
                time.sleep(0.01)

    def _note(self, lines: list[bytes]) -> None:
        self.safe.update(json.loads(line)["name"] for line in lines)
        time.sleep(0.01)


def refused_at_once(running: Gateway) -> None:
    """Return when nobody listens any more; fail when that takes long."""
    deadline = time.monotonic() + LITTLE_SECS
    for port in (running.tcp_port, running.http_port):
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                break
            assert time.monotonic() < deadline, f"port {port} still listens"
            time.sleep(0.01)


def ended(running: Gateway, secs: float) -> float:
    """Return how long the process still took to end; it has to end with 0, without a stack trace."""
    began = time.monotonic()
    while running.exit_code is None:
        assert time.monotonic() - began < secs, running.output_tail()
        time.sleep(0.02)
    assert running.exit_code == 0, running.output_tail()
    assert "Traceback" not in running.output()
    return time.monotonic() - began


def names(es: EsClient) -> list[str]:
    """Return the names of all events in Elasticsearch, each as often as it is there."""
    assert es.count() < 10_000
    return sorted(str(each["name"]) for each in es.sources())


def stored(running: Gateway) -> list[str]:
    """Return the names of all events in the embedded store."""
    hits = running.http.get("/v1/search", params={"index": "*", "limit": 10_000}).json()["hits"]
    return sorted(hit["_source"]["name"] for hit in hits)


@contextlib.contextmanager
def both_sinks(gateway: GatewayFactory, es: EsClient) -> Iterator[tuple[Gateway, MisbehavingProxy]]:
    """Run a gateway with both sinks, Elasticsearch behind a proxy."""
    with MisbehavingProxy(es.url) as through:
        settings = {
            "elasticsearch": {"urls": [through.url]},
            "store": {"enabled": True},
            "events": {"index_prefix": es.prefix},
            "drain_timeout_secs": DRAIN_SECS,
        }
        yield gateway(config=settings), through


@pytest.mark.parametrize("elasticsearch", ["fast", "slow", "away"])
def test_under_load(gateway: GatewayFactory, es: EsClient, elasticsearch: str) -> None:
    """What was acknowledged is there at the next start, once, also when its sender sends what was left open again."""
    with both_sinks(gateway, es) as (running, through):
        if elasticsearch == "slow":
            through.misbehave(proxy.late(1.5))
        if elasticsearch == "away":
            through.down()
        running.wait_until(lambda now: len(now["sinks"]) == 2)
        with Load(running) as load:
            running.wait_until(lambda now: now["books"]["accepted"] > 500)
            running.signal(signal.SIGTERM)
            began = time.monotonic()
            refused_at_once(running)
            ended(running, DRAIN_SECS + LITTLE_SECS)
            took = time.monotonic() - began
        if elasticsearch == "fast":
            assert load.safe <= set(names(es))
        if elasticsearch == "away":
            assert took >= DRAIN_SECS
            through.up()
        through.behave()

        running.restart()
        mine = books.settled(running)
        assert mine["dead_letters"] <= 1  # a plain line that was cut
        running.http.post("/v1/events", content=b"\n".join(load.open)).raise_for_status()
        mine = books.settled(running)
        found = names(es)
        assert len(set(found)) == len(found)
        assert load.safe | {json.loads(line)["name"] for line in load.open} <= set(found)
        # Of a plain connection what was read is there without a gap.
        plain = sum(name.startswith("plain") for name in found)
        assert {f"plain-{number}" for number in range(plain)} <= set(found)
        assert 0 < plain <= load.sent + BATCH
        assert stored(running) == found
        assert {sink: each["skipped"] + each["damaged"] for sink, each in mine["sinks"].items()} == {
            "elasticsearch": 0,
            "embedded": 0,
        }


def test_what_is_half_sent(gateway: GatewayFactory) -> None:
    """Half a line is a dead letter that nobody is told is safe; half a body is nothing, and is waited for briefly."""
    running = gateway(config={"drain_timeout_secs": DRAIN_SECS})
    whole, half = batch("x", 0)[0], batch("y", 0)[0][:20]
    with (
        running.connect_tcp() as plain,
        running.connect_tcp() as acknowledged,
        socket.create_connection(("127.0.0.1", running.http_port), 30) as body,
        socket.create_connection(("127.0.0.1", running.http_port), 30) as idle,
    ):
        idle.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answered = b""
        while not answered.endswith(b"}"):
            answered += idle.recv(10_000)
        plain.sendall(batch("z", 0)[0] + b"\n" + half)
        acknowledged.sendall(b'{"ack":true}\n' + whole + b"\n" + half)
        head = b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n"
        body.sendall(head + whole)
        running.wait_until(lambda now: now["books"]["accepted"] == 2)
        began = time.monotonic()
        running.signal(signal.SIGTERM)
        refused_at_once(running)
        assert idle.recv(100) == b""
        assert time.monotonic() - began < BODY_SECS
        with acknowledged.makefile("rb") as answers:
            said = [json.loads(line) for line in answers]
        assert said == [{"ack": "ready"}, {"acked": 1, "rejected": []}]
        assert body.recv(10_000).startswith(b"HTTP/1.1 503 ")
        ended(running, BODY_SECS + DRAIN_SECS + LITTLE_SECS)
    running.restart()
    mine = books.settled(running)
    assert (mine["accepted"], mine["refused"], mine["dead_letters"]) == (2, 2, 2)


def test_signals_again(gateway: GatewayFactory, es: EsClient) -> None:
    """A second SIGTERM or Ctrl-C neither shortens the stop nor makes a failure of it, until the very end."""
    with both_sinks(gateway, es) as (running, through):
        through.down()
        running.http.post("/v1/events", content=b"\n".join(batch("x", 0))).raise_for_status()
        running.wait_until(lambda now: now["sinks"]["elasticsearch"]["state"] == "retrying")
        began = time.monotonic()
        number = 0
        while running.exit_code is None:
            assert time.monotonic() - began < DRAIN_SECS + LITTLE_SECS
            running.signal((signal.SIGTERM, signal.SIGINT)[number % 2])
            number += 1
            time.sleep(0.005)
        assert time.monotonic() - began >= DRAIN_SECS
        assert running.exit_code == 0, running.output_tail()
        assert "Traceback" not in running.output()
        through.up()
        running.restart()
        assert books.settled(running)["accepted"] == BATCH == len(names(es)) == len(stored(running))


@pytest.mark.parametrize("moment", ["the lock is there", "the port is open", "it is ready"])
def test_during_the_start(gateway: GatewayFactory, moment: str) -> None:
    """As soon as it holds its data directory a gateway that is told to stop ends orderly, and starts again."""
    running = gateway()
    running.http.post("/v1/events", content=b"\n".join(batch("x", 0))).raise_for_status()
    running.kill()
    refused_at_once(running)
    (running.data_dir / "lock").unlink()
    running.start()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if moment == "the lock is there" and (running.data_dir / "lock").exists():
            break
        with contextlib.suppress(OSError):
            if moment == "the port is open":
                socket.create_connection(("127.0.0.1", running.http_port), 1).close()
                break
        if moment == "it is ready":
            running.wait_ready()
            break
        time.sleep(0.002)
    running.signal(signal.SIGTERM)
    ended(running, 15)
    running.restart()
    assert books.settled(running)["accepted"] == BATCH == len(stored(running))
