"""Promise 5: when nothing can be delivered the spool fills up to its bound, senders wait, and nobody is forgotten.

Senders push as fast as they can over TCP and HTTP while the sink takes nothing; memory, processor and
the answers to an operator stay what they are, and when the sink is back all of it arrives, once.
"""

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import httpx
import pytest

from benchmarks.events import lines
from tests import books
from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.node import ElasticsearchNode
from tests.gateway_process import Gateway, GatewayFactory

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(420)]
MIB = 1 << 20
LIMIT = 64 * MIB
SETTINGS = {"GATEWAY_SPOOL__MAX_BYTES": str(LIMIT), "GATEWAY_SPOOL__MIN_FREE_BYTES": "0"}
TCP_SENDERS, TCP_EVENTS = 4, 40_000
HTTP_SENDERS, HTTP_EVENTS, HTTP_BATCH = 4, 10_000, 500
TICKS = os.sysconf("SC_CLK_TCK")


class Senders:
    """Threads that send events of their own as fast as they are let."""

    def __init__(self, running: Gateway) -> None:
        self.running = running
        self.events = TCP_SENDERS * TCP_EVENTS + HTTP_SENDERS * HTTP_EVENTS
        self.tcp_bytes = [0] * TCP_SENDERS
        self.http_taken = [0] * HTTP_SENDERS
        self.refusals: list[str] = []
        made = lines(self.events, seed=time.time_ns())
        tcp = [made[at * TCP_EVENTS :][:TCP_EVENTS] for at in range(TCP_SENDERS)]
        http = [made[TCP_SENDERS * TCP_EVENTS + at * HTTP_EVENTS :][:HTTP_EVENTS] for at in range(HTTP_SENDERS)]
        self._threads = [
            *(threading.Thread(target=self._tcp, args=each, daemon=True) for each in enumerate(tcp)),
            *(threading.Thread(target=self._http, args=each, daemon=True) for each in enumerate(http)),
        ]
        for thread in self._threads:
            thread.start()

    def _tcp(self, number: int, mine: list[bytes]) -> None:
        data = memoryview(b"".join(mine))
        with socket.create_connection(("127.0.0.1", self.running.tcp_port)) as connection:
            while data:
                sent = connection.send(data[: 64 * 1024])
                self.tcp_bytes[number] += sent
                data = data[sent:]
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""

    def _http(self, number: int, mine: list[bytes]) -> None:
        with httpx.Client(base_url=self.running.url, timeout=120, trust_env=False) as client:
            for first in range(0, len(mine), HTTP_BATCH):
                body = b"".join(mine[first : first + HTTP_BATCH])
                while (answer := client.post("/v1/events", content=body)).status_code != 200:
                    assert answer.status_code == 429, answer.text
                    self.refusals.append(answer.json()["errors"][0]["message"])
                    time.sleep(float(answer.headers["retry-after"]))
                self.http_taken[number] += HTTP_BATCH

    def join(self, secs: float) -> None:
        """Return when all has been sent."""
        deadline = time.monotonic() + secs
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "a sender was forgotten"


def memory(running: Gateway) -> int:
    """Return the most memory that the process ever had, in bytes."""
    (line,) = re.findall(r"VmHWM:.*", Path(f"/proc/{running.pid}/status").read_text())
    return int(line.split()[1]) * 1024


def processor_secs(running: Gateway) -> float:
    """Return the processor seconds that the process has used."""
    fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def check_held_up(running: Gateway, senders: Senders, sink: str) -> None:
    """While the spool is full: within its bound, senders told or held, quiet, and answering whoever asks."""
    status = running.wait_until(lambda now: now["spool"]["full"] is not None, 60)
    deadline = time.monotonic() + 30
    before = None
    while before != (before := (list(senders.tcp_bytes), list(senders.http_taken))):
        assert time.monotonic() < deadline, "the spool is full, but events are taken"
        time.sleep(2)
    status = running.status()
    books.check(status)
    held = status["spool"]["bytes"]
    assert LIMIT <= held < LIMIT + 2 * MIB  # the last block of a sender
    on_disk = sum(path.stat().st_size for path in (running.data_dir / "spool").glob("*/*.segment"))
    assert on_disk == held
    wanted = (
        f"The spool holds {held} bytes, its limit is {LIMIT} (spool.max_bytes); it waits for {sink}. "
        "See the sink's last_error on /status, or raise spool.max_bytes."
    )
    assert status["spool"]["full"] == senders.refusals[-1] == wanted
    assert running.http.get("/ready").status_code == 503
    assert status["sources"]["tcp"]["held_bytes"] > 0

    used, began = processor_secs(running), time.monotonic()
    time.sleep(5)
    share = (processor_secs(running) - used) / (time.monotonic() - began)
    assert share < 0.15
    for path in ("/status", "/metrics", "/", "/health"):
        began = time.monotonic()
        assert running.http.get(path).status_code == 200
        assert time.monotonic() - began < 1, path


def waiting(running: Gateway, sink: str) -> int:
    """Return how many events a sink has not taken."""
    return int(running.status()["books"]["sinks"][sink]["waiting"])


@contextmanager
def away(node: ElasticsearchNode, how: str) -> Iterator[None]:
    """Let Elasticsearch be away: nobody listens, or connections hang."""
    if how == "gone":
        node.stop()
        yield
        node.start()
    else:
        node.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            node.signal(signal.SIGCONT)


@pytest.mark.parametrize("how", ["gone", "hangs"])
def test_elasticsearch_is_away(how: str, gateway: GatewayFactory, elasticsearch_node: ElasticsearchNode) -> None:
    """All of it arrives, once, at the speed of a gateway without an outage; memory stays small."""
    settings = {"ELASTICSEARCH_URL": elasticsearch_node.url, "GATEWAY_ELASTICSEARCH__REQUEST_TIMEOUT_SECS": "10"}
    running = gateway(env={**SETTINGS, **settings})
    first, began = Senders(running), time.monotonic()
    first.join(180)
    books.settled(running, 180)
    usual = first.events / (time.monotonic() - began)
    with away(elasticsearch_node, how):
        senders = Senders(running)
        check_held_up(running, senders, "elasticsearch")
    began, left = time.monotonic(), waiting(running, "elasticsearch")
    while (now := waiting(running, "elasticsearch")) > left * 0.95:  # it tries once in half a minute at the most
        began, left = (time.monotonic(), now) if now >= left else (began, left)
        time.sleep(0.1)
    senders.join(180)
    found = books.settled(running, 180)
    rate = senders.events / (time.monotonic() - began)
    assert rate > usual / 5, (rate, usual)  # twice as fast, or half, by what else the machine does
    assert memory(running) < 250 * MIB
    events = first.events + senders.events
    assert found["accepted"] == found["received"] == events
    assert found["sinks"]["elasticsearch"]["indexed"] + found["sinks"]["elasticsearch"]["duplicates"] == events
    es = EsClient(elasticsearch_node.url, "")
    assert es.count("ml-metrics-*") == events
    es.close()


def test_the_embedded_store_is_away(gateway: GatewayFactory) -> None:
    """Another program holds the store's file: the same, in the memory that store.memory_limit leaves it."""
    running = gateway(start=False, env=SETTINGS)
    running.data_dir.mkdir()
    with duckdb.connect(running.data_dir / "store.duckdb"):
        running.start()
        running.wait_ready()
        senders = Senders(running)
        check_held_up(running, senders, "embedded")
        assert memory(running) < 250 * MIB
    senders.join(180)
    found = books.settled(running, 180)
    assert memory(running) < 700 * MIB  # of which store.memory_limit is 512 MB
    assert found["accepted"] == found["sinks"]["embedded"]["indexed"] == senders.events
