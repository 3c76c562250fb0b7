"""Promises 2, 3 and 6 of dead letters: what is mended is sent again once, as if it had been taken at first."""

import base64
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import books
from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import ROOT, Gateway, GatewayFactory

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
STRICT: dict[str, Any] = {
    "events": {"max_age_days": 10},
    "tcp": {"max_line_bytes": 20_000},
    "schemas": {"extra_fields": {"model_inference": {"score": {"type": "number", "maximum": 10}}}},
    "store": {"retention_days": None},
}
LENIENT = {**STRICT, "events": {"max_age_days": None, "default_kind": "log"}, "schemas": {"extra_fields": {}}}
LONG_AGO = "2026-01-15T10:00:00Z"
CURABLE: list[dict[str, Any]] = [
    {"model_name": "old", "event_id": "1", "timestamp": LONG_AGO},
    {"model_name": "old", "request_id": "r", "timestamp": 1768471200},
    {"model_name": "old", "inference_time_ms": 25, "timestamp": LONG_AGO},
    {"model_name": "scored", "event_id": "2", "score": "high"},
    {"model_name": "scored", "score": 11},
    {"colour": "red", "event_id": "3"},
]
HOPELESS = [
    b"broken",
    b'{"model_name":"\xff\xfe\x00"}',
    b'{"model_name":"m","prediction_confidence":2}',
    b'{"model_name":"' + b"x" * 30_000 + b'"}',
]
LABEL = {"request_id": "r", "true_label": 1, "labelled_at": LONG_AGO, "event_id": "label"}


def lines(*events: Any) -> bytes:
    """Return events, a line each."""
    return b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in events)


def letters(running: Gateway) -> list[dict[str, Any]]:
    """Return all dead letters as they are exported."""
    answer = running.http.get("/v1/dead-letters/export").raise_for_status()
    return [json.loads(line) for line in answer.content.splitlines()]


def bytes_of(letter: dict[str, Any]) -> bytes:
    """Return the bytes of a letter."""
    return base64.b64decode(letter["data_base64"]) if "data_base64" in letter else letter["data"].encode()


def replay(running: Gateway, **filters: Any) -> dict[str, Any]:
    """Send dead letters again, or with dry_run=true not."""
    answer = running.http.post("/v1/dead-letters/replay", params=filters, timeout=60).raise_for_status()
    report: dict[str, Any] = answer.json()
    return report


def stored(running: Gateway) -> list[dict[str, Any]]:
    """Return all documents."""
    books.settled(running)
    hits: list[dict[str, Any]] = running.http.get("/v1/search", params={"limit": 10_000}).json()["hits"]
    return hits


def lenient(running: Gateway) -> None:
    """Start again with the rules under which what can be cured passes."""
    assert running.config_file is not None
    running.stop()
    running.config_file.write_text(json.dumps(LENIENT))
    running.start()
    running.wait_ready()


def send_all(running: Gateway) -> None:
    """Send the curable and the hopeless: over TCP, over HTTP as lines and as an array, as a tenant, as labels."""
    tenant = {"x-scope-orgid": "acme"}
    running.send_tcp(lines({"model_name": "sound"}, *HOPELESS))
    running.http.post("/v1/events", content=lines(*CURABLE))
    running.http.post("/v1/events", json=CURABLE, headers=tenant)
    running.http.post("/v1/labels", content=lines(LABEL), headers=tenant)
    with running.connect_tcp() as connection:  # cut off, and whole all the same
        connection.sendall(b'[{"model_name":"cut","event_id":"4"},{"model_name":"cut","event_id":"5"}]')
        running.wait_until(lambda now: now["sources"]["tcp"]["connections"] == 1)
        time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def as_compared(documents: list[dict[str, Any]]) -> list[str]:
    """Return documents without what cannot be the same in two gateways: times of receipt, ids that are drawn."""
    found = []
    for each in documents:
        source = {**each["_source"], "received_at": ""}
        if "timestamp" not in source and "labelled_at" not in source:
            source["@timestamp"] = ""
        known = "event_id" in source or "request_id" in source
        found.append(json.dumps([each["_index"], each["_id"] if known else "", source], sort_keys=True))
    return sorted(found)


def test_as_if_taken_at_first(gateway: GatewayFactory) -> None:
    """After a change of rules a dry run says how many pass, a replay stores them as one who had them at first."""
    running = gateway(config=STRICT)
    send_all(running)
    count = 4 + 2 * len(CURABLE) + 2
    running.wait_until(lambda now: now["books"]["dead_letters"] == count)
    held = letters(running)
    assert sorted(
        bytes_of(each) for each in held if each["reason"] != "too_large" and each["source"] == "tcp"
    ) == sorted([*HOPELESS[:3], b'[{"model_name":"cut","event_id":"4"},{"model_name":"cut","event_id":"5"}]'])
    listed = running.http.get("/v1/dead-letters").json()
    assert {(each["reason"], each["path"], each["rule"]): each["count"] for each in listed["groups"]} == {
        ("clock", "$.timestamp", "too_old"): 6,
        ("clock", "$.labelled_at", "too_old"): 1,
        ("schema", "$.score", "float_type"): 2,
        ("schema", "$.score", "less_than_equal"): 2,
        ("schema", "$", "kind_unknown"): 2,
        ("schema", "$.prediction_confidence", "less_than_equal"): 1,
        ("json", "$", "json_invalid"): 1,
        ("json", "$", "utf8_invalid"): 1,
        ("too_large", "$", "too_large"): 1,
        ("cut", "$", "cut"): 1,
    }
    before = replay(running, dry_run="true")
    assert (before["would_pass"], before["stay"], before["unknown"]) == (1, count - 1, 0)  # what was only cut off

    lenient(running)
    curable = 2 * len(CURABLE) + 2
    report = replay(running, dry_run="true")
    assert (report["would_pass"], report["stay"]) == (curable, 4)
    assert {each["why"]: each["count"] for each in report["why"] if each["why"] != "refused"} == {"beginning_kept": 1}
    assert len(letters(running)) == count
    report = replay(running, **{"from": "2026-01-01"})
    assert (report["replayed"], report["stay"]) == (curable, 4)

    left = letters(running)
    assert {each["id"] for each in left} == {
        each["id"] for each in held if bytes_of(each) in HOPELESS or each["reason"] == "too_large"
    }
    found = stored(running)
    status = running.status()
    assert status["books"]["dead_letters"] == 4
    assert status["sources"]["replay"] == {
        "received": curable + 1,
        "accepted": curable + 1,
        "refused": 0,
        "filtered": 0,
    }
    other = gateway(config=LENIENT)
    send_all(other)
    other.wait_until(lambda now: now["books"]["dead_letters"] == 5)
    replay(other)  # what was cut off passes with nobody's help
    assert as_compared(found) == as_compared(stored(other))
    at = {bytes_of(each): each["at"] for each in held if each["tenant"] is None}
    for event in CURABLE:
        (document,) = [each["_source"] for each in found if same_event(each["_source"], event)]
        assert milliseconds(document["received_at"]) == at[json.dumps(event).encode()]


STEERING = b'{"type":"model_training","metrics":{"\\u001b[31m":"x"}}'


def same_event(source: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether a document is of an event that no tenant sent."""
    return "tenant" not in source and source.items() >= event.items()


def milliseconds(time_: str) -> str:
    """Return a time as the API gives those of letters."""
    return datetime.fromisoformat(time_).isoformat(timespec="milliseconds").replace("+00:00", "Z")


LAUNCHER = """
import os, signal

point, call = os.environ["TEST_KILL"].split(":")
seen = 0

def here(name):
    global seen
    if name == point:
        seen += 1
        if seen == int(call):
            os.kill(os.getpid(), signal.SIGKILL)

from gateway.operations import dead_letters
from gateway.spool import appender, spool, state
dead_letters.BATCH_LETTERS = 10
replaying = False
append, commit, sync = spool.Spool.append, state.State.commit, os.fdatasync

async def killed_append(self, draft):
    global replaying
    if draft.source != "replay":
        return await append(self, draft)
    here("before")
    replaying = True
    await append(self, draft)
    replaying = False
    here("synced")

def killed_sync(file):
    if replaying:
        here("written")
    sync(file)

def killed_commit(self, *args, settled=(), **options):
    if settled:
        here("settling")
    result = commit(self, *args, settled=settled, **options)
    if settled:
        here("settled")
    return result

spool.Spool.append, state.State.commit, appender.os.fdatasync = killed_append, killed_commit, killed_sync
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before", "written", "synced", "settling", "settled"])
def test_killed_at_every_step(gateway: GatewayFactory, tmp_path: Path, point: str) -> None:
    """Killed between any two steps of a replay each event is a letter or a document: never both, never neither."""
    running = gateway(config=STRICT)
    events = [{"model_name": "m", "n": number, "timestamp": LONG_AGO} for number in range(35)]
    running.http.post("/v1/events", content=lines(*events))
    running.wait_until(lambda now: now["books"]["dead_letters"] == len(events))
    lenient(running)
    (tmp_path / "sitecustomize.py").write_text(LAUNCHER)
    for call in (1, 2):
        running.restart(env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "TEST_KILL": f"{point}:{call}"})
        with pytest.raises(httpx.TransportError):
            replay(running)
        assert running.exit_code is None or running.exit_code < 0
        running.kill()
        running.restart(env={"PYTHONPATH": str(ROOT)})
        found = stored(running)
        running.wait_until(lambda now: now["books"]["dead_letters"] + len(found) == len(events))  # noqa: B023
        left = {json.loads(bytes_of(each))["n"] for each in letters(running)}
        there = [each["_source"]["n"] for each in found]
        assert sorted([*left, *there]) == list(range(len(events)))
    replay(running)
    assert sorted(each["_source"]["n"] for each in stored(running)) == list(range(len(events)))
    assert letters(running) == []


def test_two_replays_at_once(gateway: GatewayFactory) -> None:
    """Of two replays at the same time one is told to wait; nothing is stored twice; a caller that leaves stops his."""
    running = gateway(config=STRICT)
    events = [{"model_name": "m", "n": number, "timestamp": LONG_AGO} for number in range(20_000)]
    for start in range(0, len(events), 5000):
        running.http.post("/v1/events", content=lines(*events[start : start + 5000]))
    running.wait_until(lambda now: now["books"]["dead_letters"] == len(events), 60)
    lenient(running)
    statuses: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=running.url, timeout=60, trust_env=False) as client:
            statuses.append(client.post("/v1/dead-letters/replay").status_code)

    with pytest.raises(httpx.ReadTimeout):
        running.http.post("/v1/dead-letters/replay", timeout=0.1)
    asking = [threading.Thread(target=ask) for _ in range(4)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert set(statuses) <= {200, 429}
    assert 429 in statuses

    def left(now: dict[str, Any]) -> bool:
        answer = running.http.post("/v1/dead-letters/replay", timeout=60)
        assert answer.status_code in (200, 429)
        return bool(now["books"]["dead_letters"] == 0)

    running.wait_until(left, 60)
    status = books.settled(running)
    assert (status["sinks"]["embedded"]["indexed"], status["dead_letters"]) == (len(events), 0)
    found = running.http.get("/v1/aggregate", params={"by": "n", "limit": 1000}).json()
    assert found["total"] == len(events)
    assert {each["count"] for each in found["buckets"]} == {1}


def test_without_room_a_replay_says_so(gateway: GatewayFactory) -> None:
    """When the spool takes nothing a replay ends with what was done, and the letters stay."""
    running = gateway(config=STRICT)
    running.http.post("/v1/events", content=lines(*CURABLE))
    running.wait_until(lambda now: now["books"]["dead_letters"] == len(CURABLE))
    lenient(running)
    running.stop()
    running.env["GATEWAY_SPOOL__MIN_FREE_BYTES"] = str(1 << 60)
    running.start()
    running.wait_until(lambda now: bool(now["spool"]["full"]))

    answer = running.http.post("/v1/dead-letters/replay")

    assert (answer.status_code, answer.json()["replayed"], answer.json()["stay"]) == (429, 0, len(CURABLE))
    assert "spool.min_free_bytes" in answer.json()["error"]
    assert len(letters(running)) == len(CURABLE)
    code, _, said = command(running, "replay")
    assert (code, "spool.min_free_bytes" in said, "0 dead letters were replayed" in said) == (1, True, True)
    books.check(running.status())


@pytest.fixture
def node(es: EsClient) -> Iterator[EsClient]:
    """Elasticsearch without the templates of the gateway afterwards."""
    yield es
    es.http.delete(f"/_index_template/ml-log-gateway-{es.prefix}*")


@pytest.mark.elasticsearch
def test_what_elasticsearch_refused(gateway: GatewayFactory, node: EsClient) -> None:
    """Documents that did not fit the day's mapping are stored under the identity they had once it is mended."""
    running = gateway(env={"ELASTICSEARCH_URL": node.url, "GATEWAY_EVENTS__INDEX_PREFIX": node.prefix})
    running.http.post("/v1/events", json={"model_name": "m", "customer": "c-17", "event_id": "first"})
    running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["indexed"] == 1)
    objects = [{"model_name": "m", "customer": {"id": number}, "event_id": str(number)} for number in range(3)]
    running.http.post("/v1/events", json=[*objects, {"model_name": "m", "customer": {"id": 3}}])
    running.wait_until(lambda now: now["books"]["dead_letters"] == 4)
    held = letters(running)
    assert {each["reason"] for each in held} == {"mapping"}
    (index,) = {each["index"] for each in held}

    report = replay(running)  # nothing is mended yet
    assert (report["replayed"], report["stay"]) == (0, 4)
    assert "customer" in report["why"][0]["message"]
    assert letters(running) == held
    node.delete(f"/{index}")
    report = replay(running, dry_run="true")
    assert (report["would_pass"], report["unknown"], report["stay"]) == (4, 0, 0)
    report = replay(running, reason="mapping")

    assert (report["replayed"], report["stay"]) == (4, 0)
    status = books.settled(running)
    assert (status["sinks"]["elasticsearch"]["indexed"], status["dead_letters"]) == (5, 0)
    node.refresh()
    hits = node.search()["hits"]["hits"]
    assert {(each["_index"], each["_id"]) for each in hits} == {(each["index"], each["document_id"]) for each in held}
    assert sorted(each["_source"]["customer"]["id"] for each in hits) == [0, 1, 2, 3]
    running.http.post("/v1/events", json=objects)  # their identity is the one that they get by being sent again
    status = running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["duplicates"] == 3)
    books.check(status)


def command(running: Gateway, *words: str, stdin: str = "", **env: str) -> tuple[int, str, str]:
    """Run ``gateway dead-letters``; return exit code and what it wrote."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY", "ELASTICSEARCH"))}
    clean |= {"PYTHONPATH": str(ROOT), "GATEWAY_DATA_DIR": str(running.data_dir), "COLUMNS": "80"}
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "dead-letters", *words],
        cwd=running.folder, env={**clean, **running.env, **env}, input=stdin.encode(), capture_output=True, timeout=50,
        check=False,
    )  # fmt: skip
    error = ended.stderr.decode()
    assert "Traceback" not in error
    return ended.returncode, ended.stdout.decode(errors="surrogateescape"), error


@pytest.mark.slow
def test_in_a_terminal(gateway: GatewayFactory) -> None:
    """The words of the command line do what they say: of a running gateway, and of its files when it does not run."""
    running = gateway(config=STRICT)
    running.send_tcp(lines(CURABLE[0], *HOPELESS[:2], STEERING))
    running.wait_until(lambda now: now["books"]["dead_letters"] == 4)
    for state in ("runs", "does not"):
        code, out, err = command(running, "list")
        assert (code, err) == (0, "")
        assert all(len(line) <= 80 for line in out.splitlines())
        for part in ("too_old", "utf8_invalid", "$.timestamp", "4 dead letters", "replay --dry-run"):
            assert part in out
        (broken,) = [each for each in exported(running) if each["rule"] == "utf8_invalid"]
        shown = command(running, "show", str(broken["id"]))[1].encode(errors="surrogateescape")
        assert shown.endswith(b"\n\n" + HOPELESS[1] + b"\n")
        code, out, err = command(running, "replay", "--dry-run")
        assert (code, "0 dead letters would pass now, 4 would stay." in out, err) == (0, True, "")
        assert "\x1b" not in out
        code, _, err = command(running, "show", "99")
        assert (code, "no dead letter" in err) == (1, True)
        if state == "runs":
            code, _, err = command(running, "list", "--from", "yesterday")
            assert (code, err.count("\n"), "not a time" in err) == (1, 1, True)
            assert command(running, "drop")[0] == 2
            code, _, err = command(running, "drop", "--reason", "json")
            assert (code, "--yes" in err) == (2, True)
            running.stop()
    assert json.loads(command(running, "list", "--rule", "too_old", "--json")[1])["total"] == 1
    (old,) = [each for each in exported(running) if each["reason"] == "clock"]
    code, out, _ = command(running, "replay", str(old["id"]), GATEWAY_EVENTS__MAX_AGE_DAYS="null")
    assert (code, "1 dead letter replayed, 0 stay." in out) == (0, True)
    running.start()
    running.wait_ready()
    assert [each["_source"]["event_id"] for each in stored(running)] == ["1"]
    code, out, _ = command(running, "drop", "--reason", "json", "--yes")
    assert (code, out) == (0, "2 dead letters are deleted.\n")
    code, out, _ = command(running, "export", "--output", "rest.ndjson")
    (left,) = (running.folder / "rest.ndjson").read_bytes().splitlines()
    assert (code, json.loads(left)["data"]) == (0, STEERING.decode())
    assert running.status()["books"]["dead_letters"] == 1
    books.settled(running)


def exported(running: Gateway) -> list[dict[str, Any]]:
    """Return what ``export`` writes."""
    code, out, _ = command(running, "export")
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


def test_dropped_makes_room_and_a_flood_is_bounded(gateway: GatewayFactory) -> None:
    """At the limit refusals are counted without their bytes, in a table that does not grow; a drop makes room."""
    running = gateway(env={"GATEWAY_DEAD_LETTERS__MAX_BYTES": "20000"})
    for _ in range(10):
        running.http.post("/v1/events", content=lines(*[b"broken"] * 1000))
    running.wait_until(lambda now: now["books"]["dead_letters"] == 10_000)
    listed = running.http.get("/v1/dead-letters").json()
    assert (listed["total"], listed["without_bytes"] > 9900, listed["bytes"] < 21_000) == (10_000, True, True)
    assert len(letters(running)) < 100
    report = replay(running, dry_run="true")
    assert report["events"] == report["stay"] == 10_000
    assert {each["why"] for each in report["why"]} == {"refused", "bytes_not_kept"}

    assert running.http.delete("/v1/dead-letters").status_code == 400
    assert running.http.delete("/v1/dead-letters", params={"all": "true"}).json() == {"dropped": 10_000}

    running.http.post("/v1/events", content=b"once more")
    status = running.wait_until(lambda now: now["books"]["dead_letters"] == 1)
    assert [each["data"] for each in letters(running)] == ["once more"]
    books.check(status)


def test_who_may(gateway: GatewayFactory) -> None:
    """With keys nothing is told or done without one; without keys only loopback may change anything."""
    calls: list[Callable[[httpx.Client], httpx.Response]] = [
        lambda client: client.get("/v1/dead-letters"),
        lambda client: client.get("/v1/dead-letters/1"),
        lambda client: client.get("/v1/dead-letters/export"),
        lambda client: client.post("/v1/dead-letters/replay"),
        lambda client: client.delete("/v1/dead-letters?all=true"),
    ]
    running = gateway(config={"http": {"api_keys": ["a-secret"]}})
    assert [call(running.http).status_code for call in calls] == [401] * 5
    running.http.headers["authorization"] = "Bearer a-secret"
    assert [call(running.http).status_code for call in calls] == [200, 404, 200, 200, 200]
    running = gateway(env={"GATEWAY_HTTP__HOST": "0.0.0.0"})
    assert [call(running.http).status_code for call in calls] == [200, 404, 200, 403, 403]
    books.check(running.status())
