"""What a client does where there is no gateway, or something else: it says why, keeps its bounds and loses nothing
silently.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway_client import Client, ClientClosed, ClientFull, Stats, connection, worker
from tests.elasticsearch_node.ports import free_port
from tests.gateway_client.stranger import say, stranger, swallow

EVENT = {"model_name": "m"}
READY = b'{"ack":"ready"}\n'


def wait(client: Client, reached: Callable[[Stats], object], secs: float = 10) -> Stats:
    """Return the books as soon as they are as wanted."""
    deadline = time.monotonic() + secs
    while not reached(client.stats):
        assert time.monotonic() < deadline, client.stats
        time.sleep(0.01)
    return client.stats


def balanced(stats: Stats) -> None:
    """Every event is somewhere."""
    there = stats.acknowledged + stats.rejected + stats.waiting + stats.overflowed + stats.lost
    assert stats.sent + stats.recovered == there, stats


def test_nobody_there(caplog: pytest.LogCaptureFixture) -> None:
    """`send` returns at once, and the reason is told: once in the log, and in the books."""
    port = free_port()
    client = Client(port=port)
    started = time.monotonic()
    for _ in range(100):
        client.send(EVENT)
    assert time.monotonic() - started < 1
    stats = wait(client, lambda stats: stats.last_error and "reached" in stats.last_error)
    sentence = f"127.0.0.1:{port} cannot be reached (Connection refused): is the gateway running?"
    assert stats.last_error == sentence
    assert (stats.sent, stats.waiting, stats.connected) == (100, 100, False)
    assert not client.flush(0.5)
    assert not client.close(0.1)
    assert client.stats.lost == 100
    balanced(client.stats)
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"{sentence} Events wait in the client until the gateway acknowledges them.",
        f"100 events are lost: they were not acknowledged before the client closed. {sentence}",
    ]
    with pytest.raises(ClientClosed, match=r"closed: send before close"):
        client.send(EVENT)
    assert client.close()


def test_full(tmp_path: Path) -> None:
    """Memory is bounded: `send` waits, then raises, and the event was not taken."""
    client = Client(port=free_port(), max_bytes=1000, full_secs=0.3)
    with pytest.raises(ValueError, match=r"The event has 2,\d\d\d bytes, more than max_bytes, 1,000\."):
        client.send({"text": "x" * 2000})
    with pytest.raises(ClientFull, match=r"1,000 bytes of events wait for the gateway \(max_bytes\): see"):
        for _ in range(20):
            started = time.monotonic()
            client.send(EVENT)
    assert 0.2 < time.monotonic() - started < 3
    assert 0 < client.stats.waiting == client.stats.sent < 20
    client.close(0)
    client = Client(port=free_port(), max_bytes=1000, overflow=tmp_path / "o", overflow_max_bytes=1000, full_secs=0)
    with pytest.raises(ClientFull, match=r"and the overflow file .*/o is full \(overflow_max_bytes\)\."):
        for _ in range(40):
            client.send(EVENT)
    stats = client.stats
    assert stats.waiting > 0
    assert stats.overflowed > 0
    assert stats.overflow_bytes <= 1000
    balanced(stats)
    assert not client.close(0)  # what was in memory had no room in the file
    assert client.stats.lost == stats.waiting
    balanced(client.stats)


def test_room_again() -> None:
    """A sender that waits for room goes on as soon as there is some."""
    release = threading.Event()

    def behave(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(READY)
        release.wait(10)
        lines = 0
        while data := peer.recv(65536):
            lines += data.count(b"\n")
            peer.sendall(b'{"acked":%d,"rejected":[]}\n' % lines)

    with stranger(behave) as port, Client(port=port, max_bytes=1000, full_secs=10) as client:
        threading.Timer(0.3, release.set).start()
        for _ in range(50):
            client.send(EVENT)
        assert client.flush()
        assert client.stats == Stats(sent=50, acknowledged=50, connected=True)


def test_what_is_left_goes_into_the_file(tmp_path: Path) -> None:
    """`close` saves what nobody acknowledged, on its way or not, and loses nothing."""
    path = tmp_path / "overflow.ndjson"
    with stranger(say(READY, b'{"acked":1,"rejected":[]}\n')) as port:
        client = Client(port=port, overflow=path)
        for number in range(10):
            client.send({"number": number})
        wait(client, lambda stats: stats.acknowledged == 1)
        assert client.close(0.1)
    assert (client.stats.overflowed, client.stats.lost) == (9, 0)
    balanced(client.stats)
    assert path.read_bytes().count(b"\n") == 9
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b'{"ack":"refused","message":"Not this key."}\n', "refused the connection: Not this key."),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "answered 'HTTP/1.1 400 Bad Request\\r': it is not the gateway's TCP port",
        ),
        (b"220 mail.example\n", "it is not the gateway's TCP port"),
        (b"{}\n", "it is not the gateway's TCP port"),
    ],
)
def test_refused(answer: bytes, told: str) -> None:
    """Whoever is refused does not knock all the time."""
    knocks = []

    def behave(peer: socket.socket) -> None:
        knocks.append(peer)
        say(answer)(peer)

    with stranger(behave) as port:
        client = Client(port=port)
        client.send(EVENT)
        wait(client, lambda stats: stats.last_error and told in stats.last_error)
        client.flush(0.6)
        assert len(knocks) == 1
        client.close(0)
        assert client.stats.lost == 1


@pytest.mark.waits
def test_logstash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who never answers the hello is told to acknowledge nothing, after a time limit."""
    monkeypatch.setattr(connection, "HELLO_SECS", 0.3)
    with stranger(swallow) as port:
        client = Client(port=port)
        client.send(EVENT)
        stats = wait(client, lambda stats: stats.last_error and "hello" in stats.last_error)
        client.close(0)
    assert stats.last_error == (
        f"127.0.0.1:{port} did not answer the hello within 0.3 s: what listens there acknowledges nothing "
        "(Logstash, or an older gateway)."
    )


@pytest.mark.waits
def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that acknowledges nothing any more is left and asked again, with everything."""
    monkeypatch.setattr(worker, "SLOW_SECS", 0.1)
    monkeypatch.setattr(worker, "SILENCE_SECS", 0.3)
    came: list[bytes] = []

    def behave(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(READY)
        came.append(peer.recv(65536))
        if len(came) > 1:
            peer.sendall(b'{"acked":1,"rejected":[]}\n')
        swallow(peer)

    with stranger(behave) as port, Client(port=port) as client:
        client.send(EVENT)
        wait(client, lambda stats: stats.last_error and "acknowledged nothing for" in stats.last_error)
        assert client.flush()
    assert len(came) == 2
    assert came[0] == came[1]


@pytest.mark.parametrize("nonsense", [b'{"acked":7,"rejected":[]}\n', b'{"acked":-1}\n', b"{}\n", b"what?\n", b"[1]\n"])
def test_nonsense(nonsense: bytes) -> None:
    """What makes no sense acknowledges nothing, and does not end the thread."""
    with stranger(say(READY, nonsense)) as port:
        client = Client(port=port)
        client.send(EVENT)
        wait(client, lambda stats: stats.last_error and "not the gateway" in stats.last_error)
        assert (client.stats.acknowledged, client.stats.waiting) == (0, 1)
        client.send(EVENT)
        client.close(0)
        balanced(client.stats)


def test_rejections(caplog: pytest.LogCaptureFixture) -> None:
    """Each refused event is handed over as it was sent, also when that fails; those that are not named are counted."""
    refused: list[tuple[dict[str, Any], Any]] = []

    def on_rejected(event: dict[str, Any], rejection: Any) -> None:
        refused.append((event, rejection))
        raise RuntimeError("mine")

    def behave(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(READY)
        data = b""
        while data.count(b"\n") < 5:
            data += peer.recv(65536)
        peer.sendall(b'{"acked":2,"rejected":[{"line":2,"path":"$.a","rule":"r","message":"m"}]}\n')
        peer.sendall(b'{"acked":5,"rejected":[{"line":4,"path":"$.b","rule":"r","message":"m"}],"omitted":1}\n')
        swallow(peer)

    with stranger(behave) as port, Client(port=port, on_rejected=on_rejected) as client:
        for number in range(5):
            client.send({"number": number, "event_id": f"e{number}"})
        assert client.flush()
        stats = client.stats
    assert [(event["number"], rejection["path"]) for event, rejection in refused] == [(1, "$.a"), (3, "$.b")]
    assert (stats.acknowledged, stats.rejected) == (2, 3)
    balanced(stats)
    assert [record.getMessage() for record in caplog.records] == ["on_rejected failed."] * 2


def test_on_rejected_may_send() -> None:
    """An event that is sent again from within is taken; when there is no room it is told, and nothing hangs."""
    raised: list[ClientFull] = []

    def on_rejected(event: dict[str, Any], _: Any) -> None:
        try:
            for _ in range(100):
                client.send({**event, "corrected": True, "event_id": None})
        except ClientFull as error:
            raised.append(error)

    with stranger(say(READY, b'{"acked":1,"rejected":[{"line":1,"path":"$","rule":"r","message":"m"}]}\n')) as port:
        client = Client(port=port, max_bytes=1000, full_secs=30, on_rejected=on_rejected)
        client.send(EVENT)
        stats = wait(client, lambda stats: raised)
        assert stats.rejected == 1
        assert stats.sent > 1
        client.close(0)


def test_the_log_of_rejections(caplog: pytest.LogCaptureFixture) -> None:
    """Without `on_rejected` each rule and path is told once."""
    said = b'{"acked":%d,"rejected":[{"line":%d,"path":"$.p","rule":"less_than_equal","message":"Too much."}]}\n'
    with (
        caplog.at_level(logging.INFO),
        stranger(say(READY, *(said % (n, n) for n in range(1, 4)))) as port,
        Client(port=port) as client,
    ):
        for _ in range(3):
            client.send(EVENT)
            assert client.flush()
        assert client.stats.rejected == 3
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == (
        "The gateway refused an event and keeps it as a dead letter: $.p, less_than_equal. "
        "Of more like it nothing is said. Too much."
    )


def test_an_overflow_file_that_cannot_be(tmp_path: Path) -> None:
    """It is told at once, where the client is made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Client(overflow=tmp_path / "file" / "overflow.ndjson")


def test_many_open_files() -> None:
    """A process with more files than `select` can name has a client like any other."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip("this process may not open so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with stranger(say(READY, b'{"acked":1,"rejected":[]}\n')) as port, Client(port=port) as client:
            client.send(EVENT)
            assert client.flush()
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
