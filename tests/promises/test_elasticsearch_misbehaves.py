"""Promises 2 to 6 and 10 while Elasticsearch, or what stands before it, misbehaves.

The gateway is a process, its senders speak HTTP, and a real node stands behind a proxy that does the
harm. Whatever happens: every accepted event is there once, also one that has no identity of its own.
"""

import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import books
from tests import misbehaving_proxy as proxy
from tests.elasticsearch_node.client import EsClient, new_prefix
from tests.gateway_process import Gateway, GatewayFactory
from tests.misbehaving_proxy import MisbehavingProxy

pytestmark = pytest.mark.process
TIMEOUT_SECS = 1
CREATED = {"create": {"status": 201}}
BUSY = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "rejected execution"}}
TROUBLES = {
    "reset in the request": (proxy.reset_in_the_request, "cannot be reached: "),
    "reset in the answer": (proxy.reset_in_the_answer, "cannot be reached: "),
    "half an answer, then the end": (proxy.half_an_answer, "cannot be reached: "),
    "half an answer, then silence": (proxy.silence_in_the_answer, "cannot be reached: Connection timed out"),
    "an answer too late": (proxy.late(2 * TIMEOUT_SECS), "cannot be reached: Connection timed out"),
    "one byte a second": (proxy.drip, "cannot be reached: Connection timed out"),
    "no answer": (proxy.mute, "cannot be reached: Connection timed out"),
    "429": (proxy.status(429, "es_rejected_execution_exception"), "answered 429 to POST /_bulk"),
    "429 of a page": (proxy.page(429), "What stands before Elasticsearch answered 429 to POST /_bulk"),
    "no memory": (proxy.status(429, "circuit_breaking_exception", "Data too large"), "429 to POST /_bulk: circuit"),
    "503": (proxy.status(503), "answered 503 to POST /_bulk: odd_exception: odd."),
    "a load balancer's 502": (proxy.page(502), "What stands before Elasticsearch answered 502 to POST /_bulk"),
    "413 for everything": (proxy.page(413), "answered 413 to POST /_bulk"),
    "400 for everything": (proxy.status(400), "answered 400 to POST /_bulk: odd_exception: odd."),
    "404": (proxy.status(404), "answered 404 to POST /_bulk"),
    "401": (proxy.status(401), "401 to POST /_bulk: odd_exception: odd (check elasticsearch.api_key, or username"),
    "403": (proxy.status(403), "403 to POST /_bulk: odd_exception: odd (the key lacks a privilege, or the cluster"),
    "cut JSON": (proxy.changed("cut", lambda body: body[:-5]), "gave an answer that cannot be read"),
    "an empty 200": (proxy.says("empty", proxy.Reply(200, proxy.JSON, b"")), "an answer to a bulk request that is not"),
    "an item too few": (proxy.changed("fewer", proxy.without_an_item), "is not one: "),
    "no items": (proxy.pretends("none", lambda _: {"errors": False, "items": []}), "is not one: 0 items for "),
    "odd items": (proxy.pretends("odd", lambda count: {"errors": True, "items": [{}, 1, None] * count}), "is not one"),
    "items of nothing": (
        proxy.pretends("nothing", lambda count: {"errors": True, "items": [{"create": None}] * count}),
        "is not one: not every item has an answer",
    ),
    "items without a status": (
        proxy.pretends("silent", lambda count: {"errors": True, "items": [{"create": {}}] * count}),
        "Elasticsearch is busy",
    ),
    "a stranger that says yes": (
        proxy.pretends(
            "stranger",
            lambda count: {"errors": False, "items": [CREATED] * count},
            {"content-type": "application/json"},
        ),
        "What answers at elasticsearch.urls is not Elasticsearch.",
    ),
    "429 for items": (proxy.refuse_items("items", 0.5, BUSY), "Elasticsearch is busy (es_rejected_execution_exception"),
}


class Rig:
    """A gateway that writes to the node through the proxy."""

    def __init__(self, es: EsClient, through: MisbehavingProxy, running: Gateway) -> None:
        self.es = es
        self.proxy = through
        self.running = running
        self.sent: dict[str, int] = {}
        self._unchecked: set[str] = set()

    def send(self, name: str, count: int = 20, *, type: str = "model_inference", ids: bool = True, **more: Any) -> None:
        """Send events over HTTP, numbered anew for each name; without ``ids`` nothing makes two of them the same."""
        first = self.sent.get(name, 0)
        event = {"timestamp": datetime.now(UTC).isoformat(), "type": type, "model_name": name} | more
        lines = [
            json.dumps(event | {"number": number} | ({"event_id": f"{name}-{number}"} if ids else {}))
            for number in range(first, first + count)
        ]
        answer = self.running.http.post("/v1/events", content="\n".join(lines))
        assert answer.json() == {"accepted": count, "rejected": 0, "errors": []}
        self.sent[name] = first + count
        self._unchecked.add(name)

    def both(self, name: str) -> None:
        """Send events with and without ids."""
        self.send(f"{name} with")
        self.send(f"{name} without", ids=False)

    @property
    def sink(self) -> dict[str, Any]:
        """What `/status` says of the sink."""
        found: dict[str, Any] = self.running.status()["sinks"]["elasticsearch"]
        return found

    def says(self, sentence: str, timeout: float = 15) -> None:
        """Wait until `/status` names the trouble."""

        def named(status: dict[str, Any]) -> bool:
            sink = status["sinks"]["elasticsearch"]
            return sink["state"] == "retrying" and sentence in (sink["last_error"] or "")

        self.running.wait_until(named, timeout)

    def numbers(self, name: str, base: str = "") -> list[int]:
        """The numbers of a name's events, as often as they are stored; ``base`` is where to look alone."""
        found: list[int] = []
        for first in range(0, self.sent[name], 5000):  # a search returns at most 10,000
            within = [{"term": {"model_name": name}}, {"range": {"number": {"gte": first, "lt": first + 5000}}}]
            query = {"query": {"bool": {"filter": within}}, "_source": ["number"]}
            found += [int(each["number"]) for each in self.es.sources(f"{self.es.prefix}{base}*", query)]
        return sorted(found)

    def arrives(self, name: str, secs: float) -> None:
        """All predictions of a name are stored within so many seconds."""
        began = time.monotonic()
        while len(self.numbers(name, "ml-metrics-")) < self.sent[name]:
            assert time.monotonic() - began < secs, "a healthy index was held up"
            time.sleep(0.05)

    def all_once(self, timeout: float = 60) -> dict[str, Any]:
        """Wait until all is settled and well; every event is there once. Return the books."""
        found = books.settled(self.running, timeout)
        self.running.wait_until(lambda now: now["sinks"]["elasticsearch"]["state"] == "ok", timeout)
        while self._unchecked:
            name = self._unchecked.pop()
            assert self.numbers(name) == list(range(self.sent[name])), name
        return found


def settings(url: str, es: EsClient, **more: str) -> dict[str, str]:
    """A gateway's environment."""
    return {
        "ELASTICSEARCH_URL": url,
        "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix,
        "GATEWAY_ELASTICSEARCH__REQUEST_TIMEOUT_SECS": str(TIMEOUT_SECS),
        "GATEWAY_ELASTICSEARCH__FLUSH_AFTER_SECS": "0.05",
        **more,
    }


@pytest.fixture(scope="module")
def rig(elasticsearch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One gateway for all the troubles, as it would meet them in its life."""
    es = EsClient(elasticsearch_url, new_prefix())
    factory = GatewayFactory(tmp_path_factory.mktemp("misbehaves"))
    with MisbehavingProxy(elasticsearch_url) as through:
        yield Rig(es, through, factory(env=settings(through.url, es)))
        factory.close()
    es.clean()
    es.close()


@pytest.fixture
def own(es: EsClient, gateway: GatewayFactory) -> Iterator[Rig]:
    """A gateway, not started yet, for one test alone."""
    with MisbehavingProxy(es.url) as through:
        running = gateway(env=settings(through.url, es), start=False)
        yield Rig(es, through, running)
        running.close()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble(trouble: str, rig: Rig) -> None:
    """Events before, while and after it are there once; `/status` names it while it lasts, and no longer."""
    act, sentence = TROUBLES[trouble]
    rig.both(trouble)
    rig.proxy.misbehave(act)
    rig.both(trouble)
    rig.says(sentence)
    rig.both(trouble)
    assert rig.proxy.done[act.name] > 0
    rig.proxy.behave()
    assert rig.all_once()["sinks"]["elasticsearch"]["dead_letters"] == 0


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("3", 3, 8), ("soon", 0, 3), ("-1", 0, 3), pytest.param("86400", 60, 70, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("of", ["the whole", "single items"])
@pytest.mark.timeout(120)
def test_retry_after(of: str, asked: str, least: float, most: float, rig: Rig) -> None:
    """No request comes before the time that the server asks for, though events do; but none waits for a day."""
    name = f"{of} {asked}"
    rig.send(name)
    rig.all_once()
    act = proxy.status(429, retry_after=asked)
    if of == "single items":
        act = proxy.refuse_items(name, 0.5, BUSY, retry_after=asked)
    rig.proxy.seen.clear()
    rig.proxy.misbehave(act, times=1)
    began = time.monotonic()
    while rig.sink["state"] == "ok":  # until the act was met
        rig.send(name, ids=False)
        time.sleep(0.05)
        if time.monotonic() - began > most and not least:
            break
    while not [each for each in rig.proxy.seen if each.act is None] and time.monotonic() - began < most:
        rig.send(name)
        time.sleep(0.2)
    met = next(each for each in rig.proxy.seen if each.act)
    later = [each.at - met.at for each in rig.proxy.seen if each.act is None and each.at > met.at]
    assert least <= min(later) < most
    rig.proxy.behave()
    rig.all_once()


def today(back: int = 0) -> str:
    """The day of an index's name."""
    return (datetime.now(UTC) - timedelta(days=back)).strftime("%Y.%m.%d")


def test_the_nodes_own_troubles(own: Rig) -> None:
    """Closed, full, deleted indices, late events for a read-only one, documents that do not fit: by the real node.

    Healthy indices go on within seconds; only documents that cannot be stored as they are become dead letters.
    """
    es, day = own.es, today()
    closed, full, gone = (f"{es.prefix}{base}-{day}" for base in ("ml-training", "ml-pipeline", "ml-operations"))
    blocked = f"{es.prefix}data-quality-{today(1)}"
    late: dict[str, dict[str, Any]] = {"blocked": {"timestamp": (datetime.now(UTC) - timedelta(days=1)).isoformat()}}
    es.put(f"/{gone}")
    own.running.start()
    own.running.wait_ready()
    kinds = {"closed": "model_training", "blocked": "data_quality", "full": "log", "gone": "operation"}
    for name, kind in kinds.items():
        own.send(name, type=kind, **late.get(name, {}))
    own.all_once()
    es.post(f"/{closed}/_close")
    es.put(f"/{blocked}/_settings", {"index.blocks.write": True})
    es.put(f"/{full}/_settings", {"index.mapping.total_fields.limit": 10})  # it has more
    es.delete(f"/{gone}")
    own.sent["gone"] = 0  # what was in it is no longer asked for
    own.send("first", customer="a text")  # from now on `customer` is one
    own.arrives("first", 10)
    for number in range(5):
        many = {f"new_{number}_{each}": "x" for each in range(20)}
        for name, kind in kinds.items():
            own.send(name, type=kind, details=many, **late.get(name, {}))
        own.send("conflict", customer={"an": "object"})
        own.send("healthy")
        own.arrives("healthy", 5)
    own.running.wait_until(lambda now: now["sinks"]["elasticsearch"]["troubled_indices"] == sorted([closed, blocked]))
    own.running.wait_until(lambda now: now["sinks"]["elasticsearch"]["parked"] == 200)
    own.says("does not take documents (")
    own.sent["conflict"] = 0  # none of them can be stored
    es.post(f"/{closed}/_open")
    es.put(f"/{blocked}/_settings", {"index.blocks.write": None})
    found = own.all_once()["sinks"]["elasticsearch"]
    assert found["dead_letters"] == 100
    with closing(sqlite3.connect(own.running.data_dir / "state.sqlite3")) as db:
        assert db.execute("SELECT reason, count(*) FROM letters GROUP BY reason").fetchall() == [("mapping", 100)]
    mappings = es.get(f"/{gone}/_mapping")[gone]["mappings"]
    assert mappings["_meta"]["managed_by"] == "ml-log-gateway"


def test_a_field_that_is_two_things(own: Rig) -> None:
    """A known field's mistake is told to its sender; an unknown one's is a dead letter with all of it and the cause."""
    own.running.start()
    own.running.wait_ready()
    log = {"type": "log", "level": "info", "message": {"an": "object"}}
    answer = own.running.http.post("/v1/events", json=log).json()
    assert (answer["accepted"], answer["errors"][0]["path"]) == (0, "$.message")
    own.send("two things", payload="a text")
    own.all_once()
    event = {"model_name": "other", "event_id": "large", "payload": {"text": "x" * 100_000}}
    assert own.running.http.post("/v1/events", json=event).json()["accepted"] == 1
    assert books.settled(own.running)["sinks"]["elasticsearch"]["dead_letters"] == 1
    with closing(sqlite3.connect(own.running.data_dir / "state.sqlite3")) as db:
        [(message, data)] = db.execute("SELECT message, data FROM letters WHERE reason = 'mapping'").fetchall()
    assert message.startswith("[1:")
    assert "failed to parse field [payload] of type [keyword]" in message
    assert message.endswith("but found START_OBJECT")
    assert json.loads(data)["payload"] == event["payload"]


def test_an_explosion_of_fields(rig: Rig) -> None:
    """An event with more fields than an index may have is stored whole, and so are those after it."""
    rig.send("a sound one", 1)  # so that `number` is mapped
    rig.all_once()
    fields: dict[str, Any] = {f"field_{number}": number for number in range(3000)}
    rig.send("explosion", 1, **fields)
    rig.send("explosion", 20, another_field="x")
    rig.all_once()
    [stored] = rig.es.sources(body={"query": {"term": {"event_id": "explosion-0"}}})
    assert stored["field_2999"] == 2999


def test_an_index_without_its_shard(own: Rig) -> None:
    """Elasticsearch waits for a missing shard before it answers; healthy indices wait with it once, no longer."""
    wait_secs = 3
    index = f"{own.es.prefix}ml-training-{today()}"
    where = {"index.routing.allocation.require.color": "none"}
    own.es.put(f"/{index}", {"settings": where}, wait_for_active_shards="0")
    own.running.env["GATEWAY_ELASTICSEARCH__REQUEST_TIMEOUT_SECS"] = str(2 * wait_secs)
    own.running.start()
    own.running.wait_ready()
    own.send("lost", type="model_training")
    own.send("healthy")
    own.says("primary shard is not active")
    for _ in range(10):
        own.send("lost", type="model_training")
        own.send("healthy")
        own.arrives("healthy", wait_secs / 2)
    own.es.put(f"/{index}/_settings", {"index.routing.allocation.require.color": None})
    own.all_once()
    own.send("lost", type="model_training")
    own.all_once()


def test_a_template_is_deleted(rig: Rig) -> None:
    """Also when somebody deletes the templates while the gateway runs: a new index has the gateway's mapping."""
    rig.send("before")
    rig.all_once()
    for back in (1, 2):
        rig.es.delete(f"/_index_template/ml-log-gateway-{rig.es.prefix}*")
        day = (datetime.now(UTC) - timedelta(days=back)).isoformat()
        rig.send(f"{back} days ago", timestamp=day)
        rig.all_once()
        index = f"{rig.es.prefix}ml-metrics-{today(back)}"
        assert rig.es.get(f"/{index}/_mapping")[index]["mappings"]["_meta"]["managed_by"] == "ml-log-gateway"


def cpu_secs(pid: int) -> float:
    """The processor time that a process has had, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """The memory that a process holds."""
    [line] = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def fill(running: Gateway) -> int:
    """Send until the spool is full; return how many events were taken."""
    taken = 0
    while True:
        event = {"model_name": "full", "user_id": "x" * 2000, "timestamp": datetime.now(UTC).isoformat()}
        lines = [json.dumps(event | {"number": taken + number}) for number in range(200)]
        answer = running.http.post("/v1/events", content="\n".join(lines))
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            return taken
        assert answer.json()["accepted"] == 200
        taken += 200


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refused", "mute"])
def test_waiting_costs_nothing(how: str, own: Rig) -> None:
    """With parked documents and a full spool ten seconds without Elasticsearch take less than 5% of a processor."""
    own.running.env["GATEWAY_SPOOL__MAX_BYTES"] = str(8 << 20)
    own.running.env["GATEWAY_ELASTICSEARCH__REQUEST_TIMEOUT_SECS"] = "2"
    own.running.start()
    own.running.wait_ready()
    index = f"{own.es.prefix}ml-training-{today()}"
    own.send("parked", type="model_training")
    own.all_once()
    own.es.post(f"/{index}/_close")
    for _ in range(10):
        own.send("parked", 200, type="model_training")
    own.running.wait_until(lambda now: now["sinks"]["elasticsearch"]["parked"] == 2000)
    if how == "refused":
        own.proxy.down()
    else:
        own.proxy.misbehave(proxy.mute, to=proxy.is_any)
    own.sent["full"] = fill(own.running)
    own.says("cannot be reached")
    time.sleep(1)
    before = cpu_secs(own.running.pid)
    time.sleep(10)
    used = cpu_secs(own.running.pid) - before
    assert used < 0.5
    assert own.running.status()["spool"]["full"]
    if how == "refused":
        own.proxy.up()
    own.proxy.behave()
    own.es.post(f"/{index}/_open")
    own.all_once(60)
    assert own.numbers("full") == list(range(own.sent["full"]))


ALL = tuple(act for act, _ in TROUBLES.values())
MIX_SECS = 180


@pytest.mark.slow
@pytest.mark.timeout(MIX_SECS + 300)
@pytest.mark.parametrize("seed", [1])
def test_everything_at_once(seed: int, own: Rig) -> None:
    """Minutes of all troubles in a row drawn by chance, with indices that close and a proxy that dies.

    Every event is there once, the books balance all the while, and the memory does not grow.
    """
    draw = random.Random(seed)
    own.running.env["GATEWAY_ELASTICSEARCH__MAX_BATCH_EVENTS"] = "500"  # so that all bulks are soon as large as may be
    own.running.start()
    own.running.wait_ready()
    ending = threading.Event()
    failures: list[BaseException] = []

    def stream(name: str, ids: bool, kind: str) -> None:
        try:
            while not ending.wait(0.4):
                own.send(name, 50, ids=ids, type=kind)
        except BaseException as error:  # told by the test
            failures.append(error)

    kinds = ("model_inference", "model_training", "data_quality")
    threads = [
        threading.Thread(target=stream, args=(f"{kind} {ids}", ids, kind)) for kind in kinds for ids in (True, False)
    ]
    for thread in threads:
        thread.start()
    closed = f"{own.es.prefix}data-quality-{today()}"
    memory: list[float] = []
    until = time.monotonic() + MIX_SECS
    try:
        own.running.wait_until(lambda _: own.es.http.head(f"/{closed}").status_code == 200, 60)
        while time.monotonic() < until and not failures:
            own.proxy.misbehave(*draw.sample(ALL, 5), share=draw.choice([0.2, 0.5, 1.0]))
            if draw.random() < 0.2:
                own.es.post(f"/{closed}/_{draw.choice(['close', 'open'])}")
            if draw.random() < 0.1:
                own.proxy.down()
                time.sleep(1)
                own.proxy.up()
            time.sleep(draw.uniform(0.5, 4))
            if draw.random() < 0.5:
                own.proxy.behave()
                time.sleep(1)
            books.check(own.running.status())
            memory.append(resident_mib(own.running.pid))
    finally:
        ending.set()
        for thread in threads:
            thread.join(60)
        own.proxy.behave()
        own.es.post(f"/{closed}/_open")
    assert not failures
    assert own.all_once(180)["sinks"]["elasticsearch"]["dead_letters"] == 0
    early, late = memory[len(memory) // 4 : len(memory) // 2], memory[len(memory) // 2 :]
    assert max(late) < max(early) + 20, memory
    assert len(own.proxy.done) > len(ALL) // 2
