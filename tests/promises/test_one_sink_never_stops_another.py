"""Promise 10: a sink that is away, broken or stopped holds up no other, and no sender where it is not required."""

import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests import books
from tests import misbehaving_proxy as proxy
from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import Gateway, GatewayFactory
from tests.misbehaving_proxy import MisbehavingProxy

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
MIB = 1 << 20
SPOOL_BYTES = 4 * MIB
BATCH = 200  # of a kilobyte each
PAD = "x" * 900
BROKEN = "1MB"  # of memory: DuckDB opens its file and can insert nothing
LONG_SECS = 5  # for a sender that waits for no sink, however busy the machine is


def config(url: str, prefix: str, *, max_bytes: int = SPOOL_BYTES, **changes: dict[str, Any]) -> dict[str, Any]:
    """Both sinks, and a spool that is soon full."""
    settings: dict[str, dict[str, Any]] = {
        "spool": {"max_bytes": max_bytes, "min_free_bytes": 0},
        "events": {"index_prefix": prefix},
        "elasticsearch": {"urls": [url]},
        "store": {"enabled": True},
        "drain_timeout_secs": 1,  # type: ignore[dict-item]
    }
    for section, values in changes.items():
        settings[section] = {**settings.get(section, {}), **values}
    return settings


class Sender:
    """Sends numbered events over HTTP, each batch until it is taken, and notes how long it had to wait."""

    def __init__(self, running: Gateway) -> None:
        self.running = running
        self.sent = 0
        self.longest_wait = 0.0
        self.refusals: list[str] = []

    def send(self, mib: float) -> None:
        """Send so many MiB."""
        goal = self.sent + int(mib * MIB / BATCH / 1024) * BATCH
        self.send_until(lambda: self.sent >= goal)

    def send_until(self, done: Callable[[], bool]) -> None:
        """Send whole batches."""
        with httpx.Client(base_url=self.running.url, timeout=30, trust_env=False) as client:
            while not done():
                self._take(client, self._body())
                self.sent += BATCH

    def fill(self) -> str:
        """Send until the spool is full; return the answer that says so."""
        for _ in range(100):
            answer = self.running.http.post("/v1/events", content=self._body())
            if answer.status_code != httpx.codes.OK:
                assert answer.status_code == httpx.codes.TOO_MANY_REQUESTS, answer.text
                return answer.text
            self.sent += BATCH
        raise AssertionError("the spool is never full")

    def _take(self, client: httpx.Client, body: bytes) -> None:
        began = time.monotonic()
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = client.post("/v1/events", content=body)
                if answer.status_code == httpx.codes.OK:
                    break
                assert answer.status_code in (429, 503), answer.text
                self.refusals.append(answer.text)
            time.sleep(0.02)
            assert time.monotonic() - began < 60, self.refusals[-1:]
        self.longest_wait = max(self.longest_wait, time.monotonic() - began)

    def _body(self) -> bytes:
        now = datetime.now(UTC).isoformat()
        events = (
            {"timestamp": now, "event_id": str(number), "model_name": "m", "number": number, "pad": PAD}
            for number in range(self.sent, self.sent + BATCH)
        )
        return b"\n".join(json.dumps(event).encode() for event in events)


@contextlib.contextmanager
def looking(running: Gateway) -> Iterator[list[dict[str, Any]]]:
    """Look at the books again and again meanwhile: they have to balance each time."""
    seen: list[dict[str, Any]] = []
    end = threading.Event()

    def look() -> None:
        while not end.wait(0.05):
            with contextlib.suppress(httpx.HTTPError):
                seen.append(running.status())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join()
    assert seen
    for status in seen:
        books.check(status)


def numbers(es: EsClient) -> list[int]:
    """Return the numbers of all events in Elasticsearch."""
    found: list[int] = []
    has = {"exists": {"field": "number"}}
    after: list[Any] | None = None
    while True:
        body: dict[str, Any] = {"size": 10_000, "sort": [{"number": "asc"}], "_source": ["number"], "query": has}
        hits = es.search(body=body | ({"search_after": after} if after else {}))["hits"]["hits"]
        if not hits:
            return found
        found += [hit["_source"]["number"] for hit in hits]
        after = hits[-1]["sort"]


def stored(running: Gateway) -> int:
    """Return how many events the embedded store finds."""
    total: int = running.http.get("/v1/search", params={"index": "*", "limit": 1}).json()["total"]
    return total


def test_an_optional_elasticsearch_is_away(gateway: GatewayFactory, es: EsClient) -> None:
    """Senders do not notice, the store has all; back again it gets the rest, and the books say what it lacks."""
    with MisbehavingProxy(es.url) as through:
        through.down()
        running = gateway(config=config(through.url, es.prefix, elasticsearch={"required": False}))
        sender = Sender(running)
        with looking(running) as seen:
            sender.send(16)
        assert sender.longest_wait < LONG_SECS
        assert max(status["spool"]["bytes"] for status in seen) < SPOOL_BYTES + MIB
        status = running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["waiting"] == 0)
        mine = books.check(status)["sinks"]
        assert mine["embedded"]["indexed"] == stored(running) == sender.sent
        skipped = mine["elasticsearch"]["skipped"]
        # Just enough to make room: what fits into the spool still waits.
        assert SPOOL_BYTES * 3 // 4 < mine["elasticsearch"]["waiting"] * 1100 < SPOOL_BYTES * 3 // 2
        told = status["sinks"]["elasticsearch"]
        assert (told["required"], told["state"]) == (False, "retrying")
        assert datetime.fromisoformat(told["last_skip"]) <= datetime.now(UTC)
        assert status["sinks"]["embedded"]["last_skip"] is None
        assert running.output().count("it skips events") < 4
        metrics = running.http.get("/metrics").text
        assert f'gateway_sink_events_skipped_total{{sink="elasticsearch"}} {float(skipped)}' in metrics

        through.up()
        mine = books.settled(running)["sinks"]["elasticsearch"]
        assert mine["skipped"] == skipped
        found = numbers(es)
        assert found == list(range(found[0], sender.sent))
        # A bulk that holds some of what was skipped brings it along.
        assert skipped - SPOOL_BYTES // 1000 < found[0] <= skipped
        sender.send(2)
        assert books.settled(running)["sinks"]["elasticsearch"]["skipped"] == skipped


@pytest.mark.slow
def test_an_optional_elasticsearch_is_slow(gateway: GatewayFactory, es: EsClient) -> None:
    """It takes what it can; every event is in it or skipped, and nothing is counted that is not there."""
    with MisbehavingProxy(es.url) as through:
        through.misbehave(proxy.late(1.0))
        changes = {"required": False, "max_in_flight": 2, "max_batch_bytes": 500_000}
        running = gateway(config=config(through.url, es.prefix, elasticsearch=changes))
        sender = Sender(running)
        with looking(running):
            until = time.monotonic() + 8
            sender.send_until(lambda: time.monotonic() > until)
        assert sender.longest_wait < LONG_SECS
        through.behave()
        mine = books.settled(running)["sinks"]["elasticsearch"]
        assert min(mine["skipped"], mine["indexed"]) > 1000
        # What was on its way when it was skipped may have arrived.
        assert sender.sent - mine["skipped"] <= len(found := numbers(es)) <= sender.sent
        assert len(set(found)) == len(found)
        assert found[-1] == sender.sent - 1


@pytest.mark.slow
def test_killed_while_it_skips(gateway: GatewayFactory, es: EsClient) -> None:
    """kill -9 amid skipping: every acknowledged event is in the store, and in Elasticsearch or skipped."""
    draw = random.Random(10)
    with MisbehavingProxy(es.url) as through:
        through.down()
        running = gateway(config=config(through.url, es.prefix, elasticsearch={"required": False}))
        sender = Sender(running)
        enough = threading.Event()
        sending = threading.Thread(target=lambda: sender.send_until(enough.is_set))
        sending.start()
        for _ in range(6):
            running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["skipped"] > 0)
            time.sleep(draw.uniform(0, 1.5))
            running.kill()
            running.restart()
        enough.set()
        sending.join()
        through.up()
        mine = books.settled(running)["sinks"]
        assert mine["embedded"]["indexed"] == stored(running) == sender.sent
        found = numbers(es)
        assert found == list(range(found[0], sender.sent))
        assert mine["elasticsearch"]["skipped"] >= found[0]
        assert mine["elasticsearch"]["damaged"] == 0


def test_an_optional_store_is_broken(gateway: GatewayFactory, es: EsClient) -> None:
    """The store has no memory to write with: Elasticsearch has all; mended, the store goes on with the rest."""
    running = gateway(config=config(es.url, es.prefix, store={"required": False}))
    sender = Sender(running)
    sender.send(1)
    books.settled(running)
    before = sender.sent
    running.restart(env={"GATEWAY_STORE__MEMORY_LIMIT": BROKEN})
    with looking(running):
        sender.send(16)
    assert sender.longest_wait < LONG_SECS
    status = running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["waiting"] == 0)
    assert status["sinks"]["embedded"]["state"] == "retrying"
    mine = books.check(status)["sinks"]
    assert mine["elasticsearch"]["indexed"] == es.count() == sender.sent
    skipped = mine["embedded"]["skipped"]
    assert (mine["embedded"]["indexed"], skipped > 5000) == (before, True)
    running.kill()  # what it skipped is not in the store's own file
    running.restart(env={"GATEWAY_STORE__MEMORY_LIMIT": "512MB"})
    mine = books.settled(running)["sinks"]["embedded"]
    assert (mine["skipped"], mine["damaged"]) == (skipped, 0)
    assert mine["indexed"] == stored(running) == sender.sent - skipped


@pytest.mark.skipif(
    os.environ.get("GATEWAY_WORKERS", "1") != "1",
    reason="with several folders what cannot be kept may lie in one that holds up nothing",
)
def test_an_optional_elasticsearch_has_no_room_for_dead_letters(gateway: GatewayFactory, es: EsClient) -> None:
    """A sink that stops at dead_letters.max_bytes holds up nobody either."""
    settings = config(es.url, es.prefix, elasticsearch={"required": False}, dead_letters={"max_bytes": 3000})
    running = gateway(config=settings)
    running.http.post("/v1/events", json={"model_name": "m", "extra": 1}).raise_for_status()
    books.settled(running)
    poison = [{"model_name": "m", "extra": {"pad": PAD}} for _ in range(20)]
    running.http.post("/v1/events", json=poison).raise_for_status()
    running.wait_until(lambda now: now["sinks"]["elasticsearch"]["state"] == "stopped")
    sender = Sender(running)
    with looking(running):
        sender.send(12)
    assert sender.longest_wait < LONG_SECS
    mine = books.settled(running)["sinks"]
    assert mine["embedded"]["indexed"] == sender.sent + 21
    # The poisoned ones went with the oldest segment; what came behind them is taken again.
    assert mine["elasticsearch"]["skipped"] >= 18
    assert numbers(es)[-1] == sender.sent - 1


def test_a_required_elasticsearch_is_away(gateway: GatewayFactory, es: EsClient) -> None:
    """The store has all that was taken; when the spool is full 429 and /status name who it is; nothing is skipped."""
    with MisbehavingProxy(es.url) as through:
        through.down()
        running = gateway(config=config(through.url, es.prefix, store={"required": False}))
        sender = Sender(running)
        sender.send(3)
        status = running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["waiting"] == 0)
        assert books.check(status)["sinks"]["embedded"]["indexed"] == sender.sent
        assert "it waits for elasticsearch." in sender.fill()
        assert "it waits for elasticsearch." in running.status()["spool"]["full"]
        through.up()
        sender.send(1)
        mine = books.settled(running)["sinks"]
        assert [each["skipped"] for each in mine.values()] == [0, 0]
        assert numbers(es) == list(range(sender.sent))


def test_a_required_store_is_broken(gateway: GatewayFactory, es: EsClient) -> None:
    """Elasticsearch has all that was taken; then senders wait for the store, which 429 and /status name."""
    settings = config(es.url, es.prefix, elasticsearch={"required": False}, store={"memory_limit": BROKEN})
    running = gateway(config=settings)
    sender = Sender(running)
    sender.send(3)
    status = running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["waiting"] == 0)
    assert books.check(status)["sinks"]["elasticsearch"]["indexed"] == es.count() == sender.sent
    assert "it waits for embedded." in sender.fill()
    assert "it waits for embedded." in running.status()["spool"]["full"]
    running.restart(env={"GATEWAY_STORE__MEMORY_LIMIT": "512MB"})
    assert books.settled(running)["sinks"]["embedded"]["indexed"] == stored(running) == sender.sent
