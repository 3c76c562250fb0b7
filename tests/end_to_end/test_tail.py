"""`GET /v1/tail` of a real gateway: what comes in is shown at once, over restarts, and harms nobody who sends."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway_process import Gateway, GatewayFactory

pytestmark = pytest.mark.process


class Listener:
    """Follows `/v1/tail` in a thread; one that goes on behind the last event it had when the gateway was away."""

    def __init__(self, running: Gateway, **params: Any) -> None:
        self.documents: list[dict[str, Any]] = []
        self.passed = 0
        self.ended = 0
        self.listening = threading.Event()
        self._running, self._params = running, params
        self._last = ""
        self._closing = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        assert self.listening.wait(10)

    def _follow(self) -> None:
        while not self._closing:
            try:
                self._once()
                self.ended += 1
            except httpx.TransportError:
                time.sleep(0.02)

    def _once(self) -> None:
        headers = {"last-event-id": self._last} if self._last else {}
        with httpx.stream(
            "GET", f"{self._running.url}/v1/tail", params=self._params, headers=headers, trust_env=False, timeout=15
        ) as answer:
            assert answer.status_code in (200, 503), answer.read()
            rest = b""
            for chunk in answer.iter_bytes():
                *events, rest = (rest + chunk).split(b"\n\n")
                for event in events:
                    self._take(event.decode())
                if self._closing:
                    return

    def _take(self, event: str) -> None:
        fields = dict(re.findall(r"^(\w+): (.*)$", event, re.MULTILINE))
        self._last = fields["id"]
        self.listening.set()
        if fields.get("event") == "document":
            self.documents.append(json.loads(fields["data"]))
        elif fields.get("event") == "passed":
            self.passed += json.loads(fields["data"])["documents"]

    def wait(self, holds: Callable[[Listener], bool], secs: float = 10) -> Listener:
        """Return when something holds."""
        deadline = time.monotonic() + secs
        while not holds(self):
            assert time.monotonic() < deadline, (len(self.documents), self.passed)
            time.sleep(0.01)
        return self

    @property
    def ids(self) -> list[str]:
        """The `event_id` of all documents shown."""
        return [each["_source"]["event_id"] for each in self.documents]

    def close(self) -> None:
        """Follow no more, once something comes."""
        self._closing = True


@contextlib.contextmanager
def listening(running: Gateway, **params: Any) -> Iterator[Listener]:
    listener = Listener(running, **params)
    try:
        yield listener
    finally:
        listener.close()


def event(name: str, **fields: Any) -> bytes:
    return json.dumps({"event_id": name, "model_name": "m", **fields}).encode() + b"\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_comes_in(gateway: GatewayFactory, workers: str) -> None:
    """Within a second, as it is stored, to each what fits its filters."""
    running = gateway(env={"GATEWAY_WORKERS": workers})
    with (
        listening(running) as all_of_it,
        listening(running, index="ml-metrics-*", where=["model_name:churn", "error:true"]) as some,
        listening(running, q="TIMED ann") as words,
    ):
        sent = time.monotonic()
        body = event("1", model_name="churn", prediction_confidence=0.9) + event("2", message="x")
        running.http.post("/v1/events", content=body).raise_for_status()
        all_of_it.wait(lambda heard: len(heard.documents) == 2)
        assert time.monotonic() - sent < 1
        running.send_tcp(event("3", model_name="churn", error_message="it timed out", user_id="Ann"))
        for listener, wanted in ((all_of_it, ["1", "2", "3"]), (some, ["3"]), (words, ["3"])):
            listener.wait(lambda heard, wanted=wanted: heard.ids == wanted)  # type: ignore[misc]
            assert listener.passed == 0
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 3)
    found = {hit["_id"]: hit for hit in running.http.get("/v1/search").json()["hits"]}
    assert {each["_id"]: each for each in all_of_it.documents} == found
    assert found[all_of_it.documents[0]["_id"]]["_source"]["confidence_level"] == "high"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_amid_it(gateway: GatewayFactory, workers: str) -> None:
    """After kill -9 it goes on: each event is shown once; of what the spool let go meanwhile the number is told."""
    running = gateway(env={"GATEWAY_WORKERS": workers})
    taken = 0
    with listening(running) as heard:
        for life in range(3):
            for number in range(30):
                body = b"".join(event(f"{life}-{number}-{each}") for each in range(10))
                running.http.post("/v1/events", content=body).raise_for_status()
                taken += 10
            running.kill()
            running.restart()
        running.http.post("/v1/events", content=event("last")).raise_for_status()
        heard.wait(lambda heard: "last" in heard.ids)
        heard.wait(lambda heard: len(heard.documents) + heard.passed == taken + 1)
        time.sleep(0.5)
        assert len(heard.ids) == len(set(heard.ids))
        assert len(heard.ids) + heard.passed == taken + 1
        assert heard.passed < taken / 2


def test_killed_with_a_sink_that_takes_nothing(gateway: GatewayFactory) -> None:
    """What is still in the spool is shown after kill -9, all of it, and none of it twice."""
    running = gateway(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1", "GATEWAY_DRAIN_TIMEOUT_SECS": "0.1"})
    with listening(running) as heard:
        for number in range(200):
            running.http.post("/v1/events", content=event(str(number))).raise_for_status()
        running.kill()
        running.restart()
        running.http.post("/v1/events", content=event("last")).raise_for_status()
        heard.wait(lambda heard: "last" in heard.ids)
        assert heard.ids == [*map(str, range(200)), "last"]
        assert heard.passed == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_stopping(gateway: GatewayFactory, workers: str) -> None:
    """A gateway that stops ends the answers at once, without a trace in its log."""
    running = gateway(env={"GATEWAY_WORKERS": workers})
    with listening(running) as heard, listening(running):
        running.http.post("/v1/events", content=event("1")).raise_for_status()
        heard.wait(lambda heard: len(heard.documents) == 1)
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began < 4
        heard.wait(lambda heard: heard.ended >= 1)
    assert "Traceback" not in running.output()


def memory(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_never_reads(gateway: GatewayFactory, workers: str) -> None:
    """It holds nobody up, and no memory that grows; another who reads is shown or told of everything."""
    running = gateway(env={"GATEWAY_WORKERS": workers, "ELASTICSEARCH_URL": "http://127.0.0.1:1"})
    with contextlib.ExitStack() as deaf, listening(running) as heard:
        for _ in range(8):
            connection = deaf.enter_context(socket.create_connection(("127.0.0.1", running.http_port)))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /v1/tail HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        body = b"".join(event(f"{number}", pad="x" * 400) for number in range(2000))
        for _ in range(20):  # by then the sink, which takes nothing, holds all that it ever holds
            running.http.post("/v1/events", content=body).raise_for_status()
        before = memory(running.pid)
        for _ in range(30):
            running.http.post("/v1/events", content=body).raise_for_status()
        heard.wait(lambda heard: len(heard.documents) + heard.passed == 100_000, 20)
        assert memory(running.pid) - before < 32 << 20


def test_refused(gateway: GatewayFactory) -> None:
    """What makes no sense is refused in a sentence, and so is one listener too many until another leaves."""
    running = gateway(env={"GATEWAY_HTTP__API_KEYS": "a-key"})
    assert running.http.get("/v1/tail").status_code == 401
    running.http.headers["authorization"] = "Bearer a-key"
    for query, told in {
        "limit=1": "'limit' is not a parameter",
        "from=2026-01-01": "'from' is not a parameter",
        "where=a": "where must be FIELD:VALUE",
        "q=a&q=b": "q is given 2 times",
        "q=" + "a+" * 21: "together they may be 20",
    }.items():
        answer = running.http.get(f"/v1/tail?{query}")
        assert (answer.status_code, told in answer.json()["error"]) == (400, True), answer.text
    answer = running.http.get("/v1/tail", headers={"last-event-id": "x"})
    assert (answer.status_code, "Last-Event-ID" in answer.json()["error"]) == (400, True)
    request = b"GET /v1/tail HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer a-key\r\n\r\n"
    with contextlib.ExitStack() as connections:
        for _ in range(32):
            connection = socket.create_connection(("127.0.0.1", running.http_port), timeout=5)
            connections.enter_context(connection).sendall(request)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        answer = running.http.get("/v1/tail")
        assert (answer.status_code, answer.json()["error"][:3]) == (429, "32 ")
    deadline = time.monotonic() + 5
    while True:
        with running.http.stream("GET", "/v1/tail") as stream:
            if stream.status_code == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)
