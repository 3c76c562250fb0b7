"""What was sent is acknowledged and stored exactly once: kills of the gateway and of the sender, outages, forks."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_client import Client
from tests.books import settled
from tests.gateway_client.test_client import balanced, wait
from tests.gateway_process import ROOT, Gateway, GatewayFactory


def stored(running: Gateway) -> Iterator[dict[str, Any]]:
    """Walk all documents of the store."""
    params: dict[str, Any] = {"limit": 10_000, "index": "ml-metrics-*"}
    while True:
        page = running.http.get("/v1/search", params=params).raise_for_status().json()
        yield from (hit["_source"] for hit in page["hits"])
        if page["cursor"] is None:
            return
        params["cursor"] = page["cursor"]


def numbers(running: Gateway) -> list[int]:
    """Return the events' numbers, in order, once the books are settled."""
    settled(running)
    return sorted(document["number"] for document in stored(running))


def event(number: int) -> dict[str, Any]:
    return {"model_name": "m", "prediction_confidence": 0.9, "number": number}


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_fifty_thousand_while_the_gateway_is_killed(gateway: GatewayFactory) -> None:
    """All are acknowledged and stored once, although the gateway is killed and started again four times."""
    events = 50_000
    running = gateway()
    draw = random.Random(20260101)
    with Client(port=running.tcp_port) as client:

        def send(first: int) -> None:
            for number in range(first, events, 2):
                client.send(event(number))
                if number % 100 == first:
                    time.sleep(0.015)

        threads = [threading.Thread(target=send, args=(first,)) for first in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            time.sleep(draw.uniform(0.3, 1.2))
            running.kill()
            running.restart()
        for thread in threads:
            thread.join(120)
        assert client.flush(60)
        assert client.stats.acknowledged == client.stats.sent == events
    assert numbers(running) == list(range(events))


def test_killed_while_sending(gateway: GatewayFactory) -> None:
    """The same, smaller: one kill amid a thousand events."""
    running = gateway()
    with Client(port=running.tcp_port) as client:
        for number in range(1000):
            client.send(event(number))
            if number == 500:
                wait(client, lambda stats: stats.acknowledged)
                running.kill()
        running.restart()
        assert client.flush(20)
        assert client.stats.acknowledged == 1000
    assert numbers(running) == list(range(1000))


def test_down_for_a_while_with_little_memory(gateway: GatewayFactory, tmp_path: Path) -> None:
    """What has no room in memory waits in the file, while the gateway is away and after it is back."""
    running = gateway()
    path = tmp_path / "overflow.ndjson"
    with Client(port=running.tcp_port, max_bytes=5000, overflow=path) as client:
        for number in range(100):
            client.send(event(number))
        assert client.flush()
        running.kill()
        for number in range(100, 2000):
            client.send(event(number))
        stats = client.stats
        assert stats.overflowed > 1800
        assert stats.overflow_bytes == path.stat().st_size > 100_000
        balanced(stats)
        running.restart()
        for number in range(2000, 2100):
            client.send(event(number))
        assert client.flush(20)
        assert (client.stats.acknowledged, client.stats.overflowed, client.stats.overflow_bytes) == (2100, 0, 0)
    assert [each.name for each in tmp_path.glob("overflow*")] == ["overflow.ndjson.lock"]
    assert numbers(running) == list(range(2100))


PROGRAM = """
import sys, time
from gateway_client import Client
client = Client(port=int(sys.argv[1]), max_bytes=300, overflow=sys.argv[2])
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    client.send({"model_name": "m", "number": number})
"""


def program(text: str, *arguments: object) -> subprocess.Popen[str]:
    """Begin a Python program that can import the client."""
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_sender_is_killed(gateway: GatewayFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was in the file is sent by the next process, without its sending anything; a torn line is passed over."""
    running = gateway(start=False)
    path = tmp_path / "overflow.ndjson"
    wait_forever = 'print("sent", flush=True); time.sleep(60)'
    with program(PROGRAM + wait_forever, running.tcp_port, path, 0, 500) as sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "sent\n"
        sender.kill()
    whole = path.read_bytes().count(b"\n")
    assert 490 < whole < 500  # the first ones were in memory, and are gone with the process
    with path.open("ab") as torn:
        torn.write(b'{"model_name":"m","num')
    running.start()
    running.wait_ready()
    with Client(port=running.tcp_port, overflow=path) as client:
        assert client.flush(20)
        stats = client.stats
    assert (stats.sent, stats.recovered, stats.acknowledged, stats.lost) == (0, whole + 1, whole, 1)
    balanced(stats)
    assert "The last line of the overflow file was not whole, and is lost" in caplog.text
    assert numbers(running) == list(range(500 - whole, 500))
    assert settled(running)["refused"] == 0


def test_the_sender_ends_while_the_gateway_is_away(gateway: GatewayFactory, tmp_path: Path) -> None:
    """A program that ends without `close` keeps everything in the file, soon, and without a word on stderr."""
    running = gateway(start=False)
    path = tmp_path / "overflow.ndjson"
    started = time.monotonic()
    with program(PROGRAM, running.tcp_port, path, 0, 100) as sender:
        _, err = sender.communicate(timeout=30)
    assert sender.returncode == 0
    assert err.count("\n") == 1  # the warning of the logger gateway_client
    assert time.monotonic() - started < 15
    running.start()
    running.wait_ready()
    with program(PROGRAM, running.tcp_port, path, 100, 120) as sender:
        assert sender.communicate(timeout=30) == ("", "")
    assert numbers(running) == list(range(120))


def test_after_a_fork(gateway: GatewayFactory, tmp_path: Path) -> None:
    """Children send what is theirs, through the same client and a file of their own; nothing is sent twice."""
    running = gateway(start=False)
    fork = """
import os, sys
from gateway_client import Client
port, path = int(sys.argv[1]), sys.argv[2]
client = Client(port=port, max_bytes=300, overflow=path)
for number in range(100):
    client.send({"model_name": "m", "number": number})
children = []
for child in range(1, 4):
    if not (pid := os.fork()):
        assert client.stats.sent == client.stats.waiting == 0
        for number in range(100):
            client.send({"model_name": "m", "number": child * 100 + number})
        sys.exit(0 if client.close(0.5) and client.stats.overflowed == 100 else 1)
    children.append(pid)
for pid in children:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
client.send({"model_name": "m", "number": 400})
print(client.stats.sent, client.stats.waiting + client.stats.overflowed, flush=True)
client.close(0.5)
"""
    path = tmp_path / "overflow.ndjson"
    with program(fork, running.tcp_port, path) as sender:
        out, err = sender.communicate(timeout=40)
    assert (sender.returncode, out) == (0, "101 101\n"), err
    running.start()
    running.wait_ready()
    with Client(port=running.tcp_port, overflow=path) as client:
        assert client.flush(20)
        assert client.stats.recovered == 401
    assert numbers(running) == list(range(401))
    assert settled(running)["received"] == 401


def test_a_fork_amid_traffic(gateway: GatewayFactory) -> None:
    """A fork at any moment, with the thread connected, harms neither side: parent and child go on."""
    running = gateway()
    fork = """
import os, sys
from gateway_client import Client
client = Client(port=int(sys.argv[1]))
for number in range(3000):
    client.send({"model_name": "m", "number": number})
    if number % 500 == 250:
        if not os.fork():
            client.send({"model_name": "m", "number": 3000 + number // 500})
            os._exit(0 if client.close() and client.stats.acknowledged == 1 else 1)
assert all(os.wait()[1] == 0 for _ in range(6))
assert client.flush()
"""
    with program(fork, running.tcp_port) as sender:
        _, err = sender.communicate(timeout=50)
    assert sender.returncode == 0, err
    assert numbers(running) == list(range(3006))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing(gateway: GatewayFactory, tmp_path: Path, method: str) -> None:
    """A process that returns without `close` has sent everything: workers of `multiprocessing` know no `atexit`."""
    running = gateway()
    script = tmp_path / "job.py"
    script.write_text(
        f"""
import multiprocessing, sys
from gateway_client import Client

def job(first):
    client = Client(port={running.tcp_port})
    for number in range(first, first + 100):
        client.send({{"model_name": "m", "number": number}})

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    processes = [context.Process(target=job, args=(first,)) for first in (0, 100)]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
    sys.exit(sum(each.exitcode for each in processes))
"""
    )
    ended = subprocess.run([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=50)
    assert ended.returncode == 0
    assert numbers(running) == list(range(200))


def test_stopping_the_gateway_under_load(gateway: GatewayFactory) -> None:
    """SIGTERM and a new start cost nothing and double nothing."""
    running = gateway()
    with Client(port=running.tcp_port) as client:
        for number in range(2000):
            client.send(event(number))
            if number == 1000:
                wait(client, lambda stats: stats.acknowledged)
                running.signal(signal.SIGTERM)
        while running.running:
            time.sleep(0.05)
        running.restart()
        assert client.flush(20)
    assert numbers(running) == list(range(2000))
    assert settled(running)["dead_letters"] == 0
