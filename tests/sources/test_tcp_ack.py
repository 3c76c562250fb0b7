"""Acknowledged TCP as a sender sees it, against a gateway of its own process (promises 1, 5, 7 and 8)."""

from __future__ import annotations

import json
import re
import select
import signal
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.books import settled
from tests.elasticsearch_node.ports import free_port
from tests.gateway_process import Gateway, GatewayFactory

pytestmark = pytest.mark.process
HELLO = b'{"ack":true}\n'
READY = {"ack": "ready"}
GOOD = b'{"model_name":"m"}\n'
BAD = b'{"model_name":"m","prediction_confidence":7}\n'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for the tests that leave it as it was."""
    factory = GatewayFactory(tmp_path_factory.mktemp("acknowledged"))
    yield factory()
    factory.close()


class Sender:
    """A connection that said something and reads what it is told, line by line."""

    def __init__(self, connection: socket.socket, data: bytes = HELLO) -> None:
        self.socket = connection
        self._heard = connection.makefile("rb")
        self.send(data)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def hear(self) -> dict[str, Any] | None:
        """Return the next message, None at the end."""
        line = self._heard.readline()
        assert line == b"" or line.endswith(b"\n")
        said: dict[str, Any] | None = json.loads(line) if line else None
        return said

    def hear_until(self, acked: int) -> list[dict[str, Any]]:
        """Return messages until so many lines are acknowledged."""
        messages: list[dict[str, Any]] = []
        while not messages or messages[-1]["acked"] < acked:
            message = self.hear()
            assert message is not None, messages
            messages.append(message)
        return messages

    def close(self) -> None:
        """Close both."""
        self._heard.close()
        self.socket.close()

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sending(running: Gateway, data: bytes = HELLO) -> Sender:
    """Connect and say something."""
    return Sender(running.connect_tcp(), data)


def told(answer: bytes) -> list[dict[str, Any]]:
    """Return the messages in what came back over a whole connection."""
    return [json.loads(line) for line in answer.splitlines()]


def rejected(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all rejections of some messages."""
    return [each for message in messages for each in message["rejected"]]


def books(running: Gateway) -> tuple[int, int]:
    """Return how many events were accepted and refused so far."""
    now = running.status()["books"]
    return now["accepted"], now["refused"]


MIXED = (
    GOOD  # 1
    + b"\r\n"  # 2
    + BAD.replace(b"\n", b"\r\n")  # 3
    + b'[{"model_name":"a"},{"x":1},{"model_name":"b","inference_time_ms":-1}]\n'  # 4
    + b"  \n"  # 5
    + b'{"model_name":\n'  # 6
    + b'{"ack":true}\n'  # 7: a hello is the first line alone
    + b'{"model_name":"last"}'  # 8
)
MIXED_REJECTED = [
    (3, None, "$.prediction_confidence", "less_than_equal"),
    (4, 1, "$", "kind_unknown"),
    (4, 2, "$.inference_time_ms", "greater_than_equal"),
    (6, None, "$", "json_invalid"),
    (7, None, "$", "kind_unknown"),
]


@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_each_line_is_told(running: Gateway, step: int) -> None:
    """Whatever packets they come in, all lines are acknowledged, also the last without end, each bad one by number."""
    before = books(running)
    with sending(running, b"") as sender:
        sender.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = HELLO + MIXED
        for at in range(0, len(data), step):
            sender.send(data[at : at + step])
        sender.socket.shutdown(socket.SHUT_WR)
        assert sender.hear() == READY
        messages = sender.hear_until(8)
        assert sender.hear() is None
    assert [(e["line"], e.get("index"), e["path"], e["rule"]) for e in rejected(messages)] == MIXED_REJECTED
    counts = [message["acked"] for message in messages]
    assert counts == sorted(set(counts))
    for message in messages:
        assert set(message) == {"acked", "rejected"}
        assert all(each["line"] <= message["acked"] and each["message"] for each in message["rejected"])
    accepted, refused = books(running)
    assert (accepted - before[0], refused - before[1]) == (3, 5)


def test_a_hint_is_told(running: Gateway) -> None:
    """What HTTP says in message and hint is one text."""
    (_, message) = told(running.send_tcp(HELLO + b'{"modelname":"m","type":"model_inference"}\n'))
    (error,) = message["rejected"]
    assert error["path"] == "$.model_name"
    assert error["message"].endswith('"modelname" was sent: did you mean "model_name"?')


def test_many_rejections(running: Gateway) -> None:
    """At most a hundred are named in a message; how many more there are is said."""
    (ready, message) = told(running.send_tcp(HELLO + BAD * 250))
    assert (ready, message["acked"], message["omitted"]) == (READY, 250, 150)
    assert [each["line"] for each in message["rejected"]] == list(range(1, 101))


def test_long_names_are_cut(running: Gateway) -> None:
    """A rejection is short, whatever names the sender chose."""
    line = b'{"model_name":"m","type":"model_training","metrics":{"%b":"x"}}\n' % (b"n" * 500_000)
    (_, message) = told(running.send_tcp(HELLO + line))
    (error,) = message["rejected"]
    assert (message["acked"], error["path"][:14], len(error["path"])) == (1, "$.metrics.nnnn", 500)


@pytest.mark.parametrize(
    "hello", [b'{"ack":true}', b' { "ack" : true } \r', b'{"key":"not asked for","ack":true}', b'{"ack":true,"key":7}']
)
def test_hello(running: Gateway, hello: bytes) -> None:
    """Whitespace and an unneeded key do no harm; a hello is no event."""
    before = books(running)
    assert told(running.send_tcp(hello + b"\n" + GOOD)) == [READY, {"acked": 1, "rejected": []}]
    assert books(running) == (before[0] + 1, before[1])
    assert told(running.send_tcp(hello)) == [READY]


@pytest.mark.parametrize(
    "first",
    [
        b'{"ack":false}', b'{"ack":1}', b'{"ack":"true"}', b'[{"ack":true}]', b'"ack"', b'{"ack":true', b'{"key":"k"}',
        b'{"ack":true,"model":"m"}', b'{"ack":true}{"ack":true}', b'{"ack":true,"key":"%b"}' % (b"k" * 5000),
    ],
)  # fmt: skip
def test_no_hello(running: Gateway, first: bytes) -> None:
    """Any other first line is a line: the sender hears nothing, also when a hello follows."""
    before = books(running)
    assert running.send_tcp(first + b"\n" + HELLO + GOOD) == b""
    assert books(running) == (before[0] + 1, before[1] + 2)


def test_an_event_with_a_field_ack(running: Gateway) -> None:
    """An event may have such a field; a blank line is a first line, too."""
    before = books(running)
    assert running.send_tcp(b'{"model_name":"m","ack":true}\n') == b""
    assert running.send_tcp(b"\n" + HELLO) == b""
    assert books(running) == (before[0] + 1, before[1] + 1)


def test_an_overlong_line(running: Gateway) -> None:
    """It counts as a line, rejected, also as the last one without its end."""
    long = b"x" * (1 << 21)
    messages = told(running.send_tcp(HELLO + GOOD + long + b"\n" + GOOD + long))[1:]
    assert messages[-1]["acked"] == 4
    assert [(each["line"], each["rule"]) for each in rejected(messages)] == [(2, "too_large"), (4, "too_large")]


def test_reset(running: Gateway) -> None:
    """After a reset the whole lines are kept, and the unfinished one is a dead letter."""
    accepted, refused = books(running)
    sender = sending(running, HELLO + GOOD)
    assert [sender.hear(), sender.hear()] == [READY, {"acked": 1, "rejected": []}]
    sender.send(GOOD + b'{"model_name":"half')
    assert sender.hear() == {"acked": 2, "rejected": []}
    sender.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sender.close()
    running.wait_until(lambda now: (now["books"]["accepted"], now["books"]["refused"]) == (accepted + 2, refused + 1))
    assert running.http.get("/status").json()["sources"]["tcp"]["acknowledging"] == 0


def test_status(running: Gateway) -> None:
    """An operator sees how many connections ask for acknowledgements."""
    with sending(running) as sender, sending(running, GOOD):
        assert sender.hear() == READY
        running.wait_until(lambda now: now["sources"]["tcp"]["connections"] == 2)
        assert running.status()["sources"]["tcp"]["acknowledging"] == 1


def test_sigterm(gateway: GatewayFactory) -> None:
    """At SIGTERM what was read is stored and acknowledged, all but the unfinished line; senders need not go first."""
    running = gateway()
    with sending(running, HELLO + GOOD * 3 + b'{"model_name":"half') as sender, sending(running) as busy:
        assert sender.hear() == busy.hear() == READY
        assert sender.hear_until(3)
        busy.send(GOOD * 2)
        busy.hear_until(2)
        running.signal(signal.SIGTERM)
        assert (sender.hear(), busy.hear()) == (None, None)
    assert running.stop() == 0
    running.restart()
    now = settled(running)
    assert (now["accepted"], now["refused"], now["dead_letters"]) == (5, 1, 1)


def test_sigterm_while_sending(gateway: GatewayFactory) -> None:
    """A sender that goes on sending until the end hears of every line that is stored, and of no other."""
    running = gateway()
    with sending(running) as sender:
        assert sender.hear() == READY
        sender.socket.settimeout(0.01)
        sent, heard = 0, b""
        running.wait_until(lambda now: now["sources"]["tcp"]["acknowledging"] == 1)
        stop_at = time.monotonic() + 0.5
        stopping = False
        while True:
            try:
                sent += sender.socket.send(GOOD * 50)
            except TimeoutError:
                pass
            except OSError:
                break
            try:
                part = sender.socket.recv(1 << 20)
                heard += part
                if not part:
                    break
            except TimeoutError:
                pass
            if not stopping and time.monotonic() > stop_at:
                stopping = True
                running.signal(signal.SIGTERM)
        assert stopping
    assert running.stop() == 0
    acked = told(heard)[-1]["acked"]
    running.restart()
    assert 0 < acked <= sent // len(GOOD)
    assert settled(running)["accepted"] == acked


def memory(running: Gateway) -> int:
    """Return what the process has in memory, in bytes."""
    status = Path(f"/proc/{running.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


LONG_BAD = b'{"model_name":"m","type":"model_training","metrics":{"%b":"x"}}\n' % (b"n" * 1000)


def test_acknowledgements_that_nobody_reads(running: Gateway) -> None:
    """Whoever does not read is no longer read from, costs little memory and harms nobody; later all of it is there."""
    running.send_tcp(LONG_BAD * 20_000)  # what the process needs for this once
    before = memory(running)
    with ExitStack() as stack:
        lazy = [stack.enter_context(sending(running)) for _ in range(20)]
        by_socket = {sender.socket: sender for sender in lazy}
        sent = dict.fromkeys(lazy, 0)
        for sender in lazy:
            sender.socket.setblocking(False)
        deadline = time.monotonic() + 60
        while ready := select.select([], list(by_socket), [], 1)[1]:
            assert time.monotonic() < deadline, "the gateway still reads from those who do not read"
            for each in ready:
                sent[by_socket[each]] += each.send(LONG_BAD * 100)
        assert memory(running) - before < 150 << 20  # some 100 on a busy machine: each has a block under way
        with sending(running, HELLO + GOOD) as other:
            assert other.hear() == READY
            assert other.hear_until(1)
        first = lazy[0]
        lines, begun = divmod(sent[first], len(LONG_BAD))  # the last one may be without its end
        total = lines + (begun > 0)
        first.socket.settimeout(30)
        first.socket.shutdown(socket.SHUT_WR)
        assert first.hear() == READY
        messages = first.hear_until(total)
        assert len(rejected(messages)) + sum(message.get("omitted", 0) for message in messages) == total
        assert first.hear() is None


KEYS = {"http": {"api_keys": [{"key": "blue-key", "tenant": "blue"}, "plain-key"]}}


def hello(key: object) -> bytes:
    """Return a hello with a key."""
    return json.dumps({"ack": True, "key": key}).encode() + b"\n"


def test_keys(gateway: GatewayFactory) -> None:
    """Where HTTP needs a key a hello does, too: its tenant is that of the events. Plain lines need none."""
    running = gateway(config=KEYS)
    running.http.headers["authorization"] = "Bearer plain-key"
    for first, why in (
        (HELLO, "A key is needed."),
        (hello(""), "This key is not one of http.api_keys."),
        (hello("blue"), "This key is not one of http.api_keys."),
        (hello(7), "This key is not one of http.api_keys."),
        (hello(None), "A key is needed."),
    ):
        (message,) = told(running.send_tcp(first + GOOD))
        assert message == {
            "ack": "refused",
            "message": why + ' Begin with the line {"ack":true,"key":"KEY"} and a key of http.api_keys.',
        }
    assert books(running) == (0, 0)
    for key, name in (("blue-key", b"of_blue"), ("plain-key", b"of_nobody")):
        line = b'{"model_name":"%b"}\n' % name
        assert told(running.send_tcp(hello(key) + line)) == [READY, {"acked": 1, "rejected": []}]
    assert running.send_tcp(GOOD) == b""
    assert settled(running)["accepted"] == 3
    hits = running.http.get("/v1/search", params={"index": "ml-metrics-*"}).json()["hits"]
    tenants = {hit["_source"]["model_name"]: hit["_source"].get("tenant") for hit in hits}
    assert tenants == {"of_blue": "blue", "of_nobody": None, "m": None}
    assert '"peer":"127.0.0.1:' in running.output()
    assert "-key" not in running.output()


def test_a_refused_sender_hears_why(gateway: GatewayFactory) -> None:
    """Also one that sends a lot before it reads: it is told, not reset."""
    running = gateway(config=KEYS)
    with sending(running) as sender:
        sender.send(GOOD * 100_000)
        sender.socket.shutdown(socket.SHUT_WR)
        message = sender.hear()
        assert message is not None
        assert message["ack"] == "refused"
        assert sender.hear() is None
    running.http.headers["authorization"] = "Bearer plain-key"
    assert books(running) == (0, 0)


def test_tls(gateway: GatewayFactory, tmp_path: Path) -> None:
    """Over TLS it is the same, also at SIGTERM; the sender waits for its acknowledgements before it closes."""
    authority, files = trustme.CA(), {name: tmp_path / name for name in ("certificate", "key")}
    server = authority.issue_cert("127.0.0.1")
    server.cert_chain_pems[0].write_to_path(files["certificate"])
    server.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(tmp_path / "ca")
    port = free_port()
    tls = {name: str(file) for name, file in files.items()}
    running = gateway(config={"tcp": {"tls_port": port, "tls": tls}, **KEYS})
    context = ssl.create_default_context(cafile=tmp_path / "ca")

    def secured(first: bytes) -> Sender:
        raw = socket.create_connection(("127.0.0.1", port), 30)
        return Sender(context.wrap_socket(raw, server_hostname="127.0.0.1"), first)

    with secured(HELLO + GOOD) as stranger:
        message = stranger.hear()
        assert message is not None
        assert message["ack"] == "refused"
        assert stranger.hear() is None
    with secured(hello("blue-key") + MIXED + b"\n") as sender, secured(hello("plain-key")) as idle:
        assert sender.hear() == idle.hear() == READY
        messages = sender.hear_until(8)
        assert [each["line"] for each in rejected(messages)] == [3, 4, 4, 6, 7]
        sender.send(GOOD * 100_000)
        sender.hear_until(100_008)
        sender.send(b'{"model_name":"half')
        time.sleep(0.2)
        running.signal(signal.SIGTERM)
        assert (sender.hear(), idle.hear()) == (None, None)
    assert running.stop() == 0
