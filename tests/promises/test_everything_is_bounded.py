"""Promise 5: everything is bounded, whoever sends and however."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests import books
from tests.gateway_process import Gateway, GatewayFactory
from tests.promises.hostile import GET

MIB = 1024 * 1024
EVENT = b'{"model_name":"m"}'
REQUEST = b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 18\r\n\r\n" + EVENT


def resident(running: Gateway) -> int:
    """Return the bytes that the process has in memory."""
    for line in Path(f"/proc/{running.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@contextmanager
def held(port: int, count: int, first: bytes) -> Iterator[list[socket.socket]]:
    """Open connections that send something and then nothing more."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            if first:
                connection.sendall(first)
            found.append(connection)
        yield found


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as connections are to be held."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 12_000:
        pytest.skip(f"the limit of open files is {hard}: raise it (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 12_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("listener", "first", "limit"),
    [("tcp", b"", 8), ("tcp", EVENT + b"\n", 12), ("tcp", EVENT[:9], 8), ("http", b"", 24), ("http", REQUEST, 40)],
    ids=["tcp silent", "tcp after a line", "tcp within a line", "http silent", "http after a request"],
)
def test_ten_thousand_idle_connections(
    gateway: GatewayFactory, many_files: None, listener: str, first: bytes, limit: int
) -> None:
    """An idle connection costs a few KiB, not a buffer; beside ten thousand of them an honest sender is served."""
    running = gateway(config={"http": {"header_timeout_secs": 60}})
    with held(getattr(running, f"{listener}_port"), 100, first):
        before = resident(running)
    with held(getattr(running, f"{listener}_port"), 9_900, first):
        status = running.wait_until(lambda now: now["sources"][listener]["connections"] >= 9_900)
        each = (resident(running) - before) / 9_900
        assert running.http.post("/v1/events", content=EVENT).json()["accepted"] == 1
        with running.connect_tcp() as connection:
            connection.sendall(EVENT + b"\n")
        accepted = (9_900 + 100 if first.endswith((b"\n", b"}")) else 0) + 2
        running.wait_until(lambda now: now["books"]["accepted"] == accepted)
    assert each < limit * 1024, (each, status["sources"])
    books.settled(running)


def test_a_line_of_100_mb(gateway: GatewayFactory) -> None:
    """It is one dead letter of 4 KiB that tells its length, costs no memory, and its neighbours are stored."""
    running = gateway()
    running.send_tcp(EVENT + b"\n")
    running.wait_until(lambda now: now["books"]["accepted"] == 1)
    books.settled(running)
    before = resident(running)
    with running.connect_tcp() as connection:
        connection.sendall(EVENT + b"\n")
        for _ in range(100):
            connection.sendall(b"x" * 1_000_000)
        grown = resident(running) - before
        connection.sendall(b"\n" + EVENT + b"\n")
    running.wait_until(lambda now: now["books"]["accepted"] == 3)
    running.wait_until(lambda now: now["books"]["dead_letters"] == 1)
    assert books.settled(running)["refused"] == 1
    assert "100000000 bytes" in running.output()
    assert grown < 40 * MIB


def test_clients_that_never_read(gateway: GatewayFactory) -> None:
    """Who asks for page after page and reads none holds a few answers, and others are answered."""
    running = gateway()
    for _ in range(5):
        running.http.post("/v1/events", content=b"\n".join([b'{"model_name":"m","x":"%s"}' % (b"y" * 1000)] * 1000))
    books.settled(running)
    assert running.http.get("/v1/search?limit=1000").json()["total"] == 5000
    before = resident(running)
    with held(running.http_port, 20, GET * 10) as connections:
        stop = threading.Event()

        def go_on() -> None:
            while not stop.wait(0.1):
                for each in connections:
                    each.setblocking(False)
                    with suppress(OSError):
                        each.send(GET * 10)

        asking = threading.Thread(target=go_on)
        asking.start()
        try:
            for _ in range(50):
                assert running.http.post("/v1/events", content=EVENT).json()["accepted"] == 1
                assert running.http.get("/v1/search?limit=1").status_code == 200
            grown = resident(running) - before
        finally:
            stop.set()
            asking.join()
    assert grown < 250 * MIB
    books.settled(running)
