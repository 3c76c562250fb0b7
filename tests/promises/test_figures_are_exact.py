"""Promises 2 and 3 of the ML metrics: every event counts once, whatever happens; compared with the events."""

import json
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import books
from tests import misbehaving_proxy as proxy
from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import Gateway, GatewayFactory
from tests.misbehaving_proxy import MisbehavingProxy

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
Event = dict[str, Any]


def events(name: str, count: int = 300) -> list[Event]:
    """Return predictions with ids of their own."""
    rnd = random.Random(name)
    return [
        {
            "event_id": f"{name}-{number}",
            "model_name": rnd.choice(["fraud", "churn"]),
            "model_version": rnd.choice(["1", "2"]),
            "prediction_class": rnd.choice(["yes", "no", 1]),
            "true_label": rnd.choice(["yes", "no", 1, None]),
            "prediction_confidence": round(rnd.random(), 3),
            "inference_time_ms": rnd.randrange(2000),
            **({"error": True, "error_message": "request timed out"} if rnd.random() < 0.1 else {}),
        }
        for number in range(count)
    ]


def lines(sent: list[Event]) -> bytes:
    """Return events as they are sent."""
    return b"".join(json.dumps(each).encode() + b"\n" for each in sent)


def post(running: Gateway, sent: list[Event]) -> None:
    """Send events over HTTP."""
    assert running.http.post("/v1/events", content=lines(sent)).json()["accepted"] == len(sent)


def scraped(running: Gateway) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the samples of the ML metrics that only rise, and of those that tell how good a model is."""
    text = running.http.get("/metrics").raise_for_status().text
    return {
        (each.name, frozenset(each.labels.items())): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name.startswith(("ml_prediction", "ml_inference", "ml_model_accuracy", "ml_labelled"))
    }


def check(running: Gateway, sent: list[Event]) -> None:
    """Compare what Prometheus gets with the events, by models and versions; each of ``sent`` was sent at least once."""
    deadline = time.monotonic() + 5
    while True:  # an answer is given again for a second
        found = scraped(running)
        counted = sum(value for (name, _), value in found.items() if name == "ml_predictions_total")
        if counted == len(sent):
            break
        assert time.monotonic() < deadline, (counted, len(sent))
        time.sleep(0.1)
    by_model: dict[tuple[str, str], list[Event]] = {}
    for each in sent:
        by_model.setdefault((each["model_name"], each["model_version"]), []).append(each)
    model = version = ""

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset({"model": model, "version": version, **labels}.items())]

    for key, mine in by_model.items():
        model, version = key
        assert value("ml_predictions_total") == len(mine)
        for name, count in Counter(str(each["prediction_class"]) for each in mine).items():
            assert value("ml_predictions_by_class_total", **{"class": name}) == count
        assert value("ml_prediction_errors_total", type="timeout") == sum("error" in each for each in mine)
        labelled = [each for each in mine if each["true_label"] is not None]
        right = sum(str(each["prediction_class"]) == str(each["true_label"]) for each in labelled)
        assert value("ml_labelled_predictions") == len(labelled)
        assert value("ml_model_accuracy") == pytest.approx(right / len(labelled))
        for name, field, unit in (
            ("ml_prediction_confidence", "prediction_confidence", 1.0),
            ("ml_inference_duration_seconds", "inference_time_ms", 1000.0),
        ):
            values = [each[field] / unit for each in mine]
            assert value(f"{name}_sum") == pytest.approx(sum(values))
            ends = {dict(labels)["le"] for (each, labels) in found if each == f"{name}_bucket"}
            for end in ends:
                assert value(f"{name}_bucket", le=end) == sum(each <= float(end) for each in values)


@pytest.mark.parametrize(
    ("sink", "workers"),
    [("embedded", "1"), ("embedded", "2"), pytest.param("elasticsearch", "2", marks=pytest.mark.elasticsearch)],
)
def test_sent_twice_counts_once(
    sink: str, workers: str, gateway: GatewayFactory, request: pytest.FixtureRequest
) -> None:
    """Files over HTTP and TCP, parts of them among new events, twice in one request; the same after kill -9."""
    env = {"GATEWAY_WORKERS": workers}
    if sink == "elasticsearch":
        es: EsClient = request.getfixturevalue("es")
        env |= {"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix}
    running = gateway(env=env)
    one, two, three = events("one"), events("two"), events("three")
    post(running, one)
    running.send_tcp(lines(one))
    post(running, one[:200] + two + two[100:200])
    running.send_tcp(lines([*two, *three, *three[:50]]))
    post(running, [each for each in one + three for _ in range(2)])
    assert books.settled(running)["sinks"][sink]["indexed"] == 900
    check(running, one + two + three)
    running.kill()
    running.restart()
    books.settled(running)
    check(running, one + two + three)


DEATHS = {
    "embedded": ["rows in, cursor not", "store committed"],
    "elasticsearch": ["bulk answered, answer unread", "cursor committed"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sink", "fault"),
    [
        pytest.param(sink, fault, marks=[pytest.mark.elasticsearch] if sink == "elasticsearch" else [])
        for sink, faults in DEATHS.items()
        for fault in faults
    ],
)
def test_killed_between_rows_and_figures(
    sink: str, fault: str, gateway: GatewayFactory, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What was sent before it died, what was sent twice before, and what is sent again afterwards, counts once."""
    env: dict[str, str] = {}
    if sink == "elasticsearch":
        es: EsClient = request.getfixturevalue("es")
        env = {"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix}
    running = gateway(env=env)
    parts = [events(f"part {number}", 100) for number in range(6)]
    post(running, parts[0])
    books.settled(running)
    running.stop()
    plain = running.program
    spool = ["--spool", str(running.data_dir / "spool" / "0"), "--platter", str(tmp_path / "platter")]
    running.program = [sys.executable, "-m", "tests.crash.launcher", *spool, "--fault", fault, "--call", "2"]
    running.start()
    with suppress(httpx.HTTPError):
        running.wait_ready()
        for part in parts[1:]:
            post(running, part + parts[0])  # those were there before this start
            time.sleep(0.4)
    deadline = time.monotonic() + 10
    while running.running:
        assert time.monotonic() < deadline, "it did not die"
        time.sleep(0.05)
    running.program = plain
    running.restart()
    for part in parts:
        post(running, part)
    found = books.settled(running)["sinks"][sink]
    assert found["indexed"] == 600
    check(running, [each for part in parts for each in part])


@pytest.mark.elasticsearch
def test_while_elasticsearch_is_away(es: EsClient, gateway: GatewayFactory) -> None:
    """Bulks that it takes without an answer, or not at all, are sent again: their events count once, others' too."""
    with MisbehavingProxy(es.url) as through:
        env = {
            "ELASTICSEARCH_URL": through.url,
            "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix,
            "GATEWAY_ELASTICSEARCH__REQUEST_TIMEOUT_SECS": "1",
        }
        running = gateway(env=env)
        one, two, three = events("one"), events("two"), events("three")
        post(running, one)
        books.settled(running)
        through.misbehave(proxy.reset_in_the_answer, times=2)
        post(running, two + one)
        books.settled(running)
        through.down()
        post(running, three + two + one)
        check(running, one + two)
        through.up()
        books.settled(running)
        check(running, one + two + three)
        running.kill()
        running.restart()
        check(running, one + two + three)


@pytest.mark.elasticsearch
def test_what_waits_for_its_index_counts_later(es: EsClient, gateway: GatewayFactory) -> None:
    """Documents of an index that takes none are put aside, and count once it does; after a kill too, and once."""
    running = gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    one, two = events("one", 100), events("two", 100)
    post(running, one)
    books.settled(running)
    (blocked,) = es.indices()
    es.put(f"/{blocked}/_settings", {"index.blocks.write": True})
    post(running, [*two, *one[:50], {"message": "of another index"}])
    running.wait_until(lambda now: now["sinks"]["elasticsearch"]["parked"] == 150)
    check(running, one)
    running.kill()
    running.restart()
    check(running, one)
    es.put(f"/{blocked}/_settings", {"index.blocks.write": None})
    assert books.settled(running)["sinks"]["elasticsearch"]["indexed"] == 201
    check(running, one + two)


def test_what_is_replayed_counts(gateway: GatewayFactory) -> None:
    """Refused events count when they are mended, once."""
    running = gateway(config={"events": {"max_age_days": 10}, "store": {"retention_days": None}})
    good, old = events("good", 50), events("old", 50)
    aged = [{**each, "timestamp": "2026-01-15T10:00:00Z"} for each in old]
    answer = running.http.post("/v1/events", content=lines(good + aged)).json()
    assert (answer["accepted"], answer["rejected"]) == (50, 50)
    books.settled(running)
    check(running, good)
    assert running.config_file is not None
    running.stop()
    running.config_file.write_text(json.dumps({"events": {"max_age_days": None}, "store": {"retention_days": None}}))
    running.restart()
    for replayed in (50, 0):
        report = running.http.post("/v1/dead-letters/replay", timeout=60).raise_for_status().json()
        assert report["replayed"] == replayed
    post(running, aged)
    books.settled(running)
    check(running, good + old)
