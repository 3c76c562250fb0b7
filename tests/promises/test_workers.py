"""The promises over several processes: receivers take events, the owner sends them.

With `GATEWAY_WORKERS=2` in the environment the other promises' tests run over receivers, too.
"""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from gateway.spool.segment import segments_in
from tests import books
from tests.gateway_process import Gateway, GatewayFactory

EVENTS = 400


def event(name: str, number: int) -> bytes:
    """Return an event with an identity."""
    return json.dumps({"model_name": "workers", "event_id": f"{name}-{number}", "inference_time_ms": 5}).encode()


def receivers(running: Gateway) -> list[int]:
    """Return the process ids of the receivers that work."""
    return [each["pid"] for each in running.status()["workers"] if each["pid"] is not None]


def all_receivers(running: Gateway, count: int = 2) -> list[int]:
    """Return the process ids of all receivers once they work: the first is ready before the others."""
    until(lambda: len(receivers(running)) == count, 10)
    return receivers(running)


def is_there(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be noticed does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(holds: Callable[[], bool], secs: float) -> None:
    """Return as soon as something holds; AssertionError when it does not in time."""
    deadline = time.monotonic() + secs
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stored(running: Gateway) -> set[str]:
    """Return the ids of all events that can be found."""
    found: list[str] = []
    cursor = None
    while cursor is not None or not found:
        parameters = {"limit": 1000, **({"cursor": cursor} if cursor else {})}
        answer = running.http.get("/v1/search", params=parameters).raise_for_status().json()
        found += [hit["_source"]["event_id"] for hit in answer["hits"]]
        cursor = answer["cursor"]
        if not answer["hits"]:
            break
    assert len(found) == len(set(found))
    return set(found)


class Sender:
    """Sends events over acknowledged TCP until it is told to end, and notes which are safe."""

    def __init__(self, running: Gateway, name: str) -> None:
        self._running = running
        self._name = name
        self._over = threading.Event()
        self.safe: set[str] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        number = 0
        while not self._over.is_set():
            with contextlib.suppress(OSError), self._running.connect_tcp(10) as connection:
                answers = connection.makefile("rb")
                connection.sendall(b'{"ack":true}\n')
                if not answers.readline():
                    continue
                acked = 0
                while not self._over.is_set():
                    connection.sendall(event(self._name, number) + b"\n")
                    acked += 1
                    if not (answer := answers.readline()):
                        break
                    assert json.loads(answer)["acked"] == acked
                    self.safe.add(f"{self._name}-{number}")
                    number += 1
            time.sleep(0.02)


def test_events_of_every_way_are_stored_once_and_the_whole_is_shown(gateway: GatewayFactory) -> None:
    """Plain and acknowledged TCP and HTTP over two receivers: each event is stored once and in the books."""
    running = gateway(env={"GATEWAY_WORKERS": "2"})
    wanted = {f"{way}-{number}" for way in ("plain", "acked", "http") for number in range(EVENTS)}
    running.send_tcp(b"\n".join(event("plain", number) for number in range(EVENTS)))
    answer = running.send_tcp(b'{"ack":true}\n' + b"\n".join(event("acked", number) for number in range(EVENTS)))
    assert json.loads(answer.splitlines()[-1])["acked"] == EVENTS
    for _ in range(2):  # by two connections, so perhaps by two receivers: the second time all are duplicates
        body = b"\n".join(event("http", number) for number in range(EVENTS))
        assert running.http.post("/v1/events", content=body).json()["accepted"] == EVENTS
        assert running.status()["books"]["received"] >= 3 * EVENTS  # at once, whichever process is asked
    refused = running.http.post("/v1/events", content=b'{"model_name":"x","prediction_confidence":7}')
    assert refused.status_code == 400
    told = books.settled(running)
    assert (told["received"], told["accepted"], told["refused"]) == (4 * EVENTS + 1, 4 * EVENTS, 1)
    assert (told["sinks"]["embedded"]["indexed"], told["sinks"]["embedded"]["duplicates"]) == (3 * EVENTS, EVENTS)
    assert stored(running) == wanted
    status = running.wait_until(lambda now: now["books"]["dead_letters"] == 1)
    assert sum(each["events"] for each in status["workers"]) == 4 * EVENTS + 1
    assert len({each["pid"] for each in status["workers"]} | {running.pid}) == 3

    def counted(line: str) -> bool:
        return line in running.http.get("/metrics").text

    until(lambda: counted('gateway_http_answers_total{status="200"} 2.0'), 5)
    assert counted('gateway_events_received_total{source="tcp"} 800.0')
    assert running.stop() == 0


def test_a_receiver_that_is_killed_is_replaced_and_loses_nothing(gateway: GatewayFactory) -> None:
    """What a killed receiver acknowledged is there; another process goes on with its folder, and the log says so."""
    running = gateway(env={"GATEWAY_WORKERS": "2"})
    first = all_receivers(running)
    with Sender(running, "a") as one, Sender(running, "b") as two:
        for victim in first:
            time.sleep(0.3)
            os.kill(victim, signal.SIGKILL)
            until(lambda victim=victim: len(receivers(running)) == 2 and victim not in receivers(running), 10)  # type: ignore[misc]
        before = len(one.safe) + len(two.safe)
        until(lambda: len(one.safe) + len(two.safe) > before, 10)
    told = books.settled(running)
    safe = one.safe | two.safe
    assert safe <= stored(running)
    assert told["received"] >= len(safe) > 0
    assert not set(first) & set(receivers(running))
    assert running.output().count("ended: another one takes its place") == 2


def test_a_killed_owner_takes_its_receivers_with_it_and_the_next_goes_on(gateway: GatewayFactory) -> None:
    """After kill -9 of the owner no receiver is left, and the next start has all that was acknowledged."""
    running = gateway(env={"GATEWAY_WORKERS": "2"})
    pids = all_receivers(running)
    with Sender(running, "a") as one:
        until(lambda: len(one.safe) > 20, 20)
        running.kill()
        until(lambda: not any(map(is_there, pids)), 3)
        running.start()
        running.wait_ready()
        before = len(one.safe)
        until(lambda: len(one.safe) > before, 20)
    books.settled(running)
    assert one.safe <= stored(running)


def test_another_number_of_workers_adopts_all_folders(gateway: GatewayFactory) -> None:
    """From 3 to 1 to 2: all is sent and counted once, and of a folder without a receiver one small file is left."""
    running = gateway(env={"GATEWAY_WORKERS": "3"})
    safe: set[str] = set()
    for workers in (1, 2, 1, 3):
        with contextlib.ExitStack() as stack:
            senders = [stack.enter_context(Sender(running, f"{workers}{name}")) for name in "abcde"]
            until(lambda senders=senders: all(len(each.safe) > 5 for each in senders), 20)  # type: ignore[misc]
        safe |= set().union(*(each.safe for each in senders))
        running.kill()
        running.restart(env={"GATEWAY_WORKERS": str(workers)})
        assert len(running.status()["workers"]) == workers
        told = books.settled(running)
        assert safe <= stored(running)
        assert told["received"] >= len(safe)
        for folder in (running.data_dir / "spool").iterdir():
            if folder.name.isdigit() and int(folder.name) > (workers if workers > 1 else 0):
                until(lambda folder=folder: len(segments_in(folder)) == 1, 5)  # type: ignore[misc]
                assert sum(path.stat().st_size for path in folder.iterdir()) < 500


def test_what_is_no_ingestion_reaches_the_owner(gateway: GatewayFactory) -> None:
    """Pages, large answers, questions with a mistake and what is written come through a receiver as from the owner."""
    running = gateway(env={"GATEWAY_WORKERS": "2"})
    assert "<html" in running.http.get("/").text
    assert running.http.get("/openapi.json").json()["paths"]["/v1/events"]
    assert len(running.http.get("/docs/static/swagger-ui-bundle.js").content) > 1_000_000
    assert running.http.get("/v1/search", params={"limit": "many"}).status_code == 400
    assert running.http.get("/nowhere").status_code == 404
    assert running.http.get("/health").status_code == 200
    assert running.http.get("/status", headers={"host": "evil.example"}).status_code == 403
    running.http.post("/v1/events", content=b"no event")
    running.wait_until(lambda now: now["books"]["dead_letters"] == 1)
    assert running.http.delete("/v1/dead-letters", params={"all": "true"}).json() == {"dropped": 1}
    body = b"\n".join(event("x", number) for number in range(20_000))
    assert running.http.post("/v1/events", content=body).json()["accepted"] == 20_000
    books.settled(running)
    index = running.http.get("/v1/search").json()["hits"][0]["_index"]
    answer = running.http.get(f"/v1/export/{index}")
    assert answer.content[:4] == answer.content[-4:] == b"PAR1"


def test_connections_are_shared(gateway: GatewayFactory) -> None:
    """Of connections that stay each receiver has its share, and the bound on them holds for all together."""
    running = gateway(env={"GATEWAY_WORKERS": "2", "GATEWAY_TCP__MAX_CONNECTIONS": "20"})
    all_receivers(running)
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(20):
            opened.append(stack.enter_context(running.connect_tcp()))
            time.sleep(0.03)
        status = running.wait_until(lambda now: now["sources"]["tcp"]["connections"] == 20)
        assert all(6 <= each["connections"] <= 15 for each in status["workers"]), status["workers"]
        time.sleep(0.2)
        with running.connect_tcp(5) as one_more, contextlib.suppress(ConnectionResetError):
            assert one_more.recv(1) == b""
        assert running.wait_until(lambda now: now["sources"]["tcp"]["connections"] == 20)


def test_a_full_spool_holds_up_all_receivers_within_the_bound(gateway: GatewayFactory) -> None:
    """The bound on the spool holds for all folders together; each receiver refuses then, and takes again afterwards."""
    limit = 4 << 20
    config = {"spool": {"max_bytes": limit, "min_free_bytes": 0}, "elasticsearch": {"urls": ["http://127.0.0.1:9"]}}
    running = gateway(env={"GATEWAY_WORKERS": "2"}, config=config)
    body = b"\n".join(event("x" * 400, number) for number in range(400))
    answers: list[int] = []
    deadline = time.monotonic() + 30
    while answers[-20:] != [429] * 20:
        assert time.monotonic() < deadline
        with httpx.Client(base_url=running.url, trust_env=False) as client:
            answer = client.post("/v1/events", content=body)
            answers.append(answer.status_code)
    status = running.status()
    assert limit * 0.9 < status["spool"]["bytes"] < limit + 2 * len(body)
    assert "spool.max_bytes" in answer.json()["errors"][0]["message"]
    assert "elasticsearch" in answer.json()["errors"][0]["message"]
    assert running.http.get("/ready").status_code == 503
    assert (
        sum(path.stat().st_size for path in (running.data_dir / "spool").glob("*/*.segment"))
        == status["spool"]["bytes"]
    )
    books.check(status)


def test_sigterm_drains_receivers_then_sinks(gateway: GatewayFactory) -> None:
    """SIGTERM to all processes at once, as systemd sends it: what was read is stored and acknowledged, exit code 0."""
    running = gateway(env={"GATEWAY_WORKERS": "2"})
    pids = all_receivers(running)
    with running.connect_tcp() as connection:
        connection.sendall(b'{"ack":true}\n' + b"".join(event("a", number) + b"\n" for number in range(1000)))
        answers = connection.makefile("rb")
        assert json.loads(answers.readline()) == {"ack": "ready"}
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        assert running.stop() == 0
        acked = 0
        with contextlib.suppress(ConnectionError):
            while answer := answers.readline():
                acked = json.loads(answer)["acked"]
    assert not any(map(is_there, pids))
    running.restart()
    told = books.settled(running)
    assert told["accepted"] >= acked
    assert len(stored(running)) == told["accepted"]
