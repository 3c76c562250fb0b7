from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from itertools import pairwise
from statistics import fmean
from typing import Any

import orjson
import pytest

from gateway.cli.traffic import Scenario, Traffic
from gateway.cli.traffic.models import DEGRADING, MODELS
from gateway.cli.traffic.scenario import effects
from gateway.cli.traffic.traffic import SHARES
from schemas import BUILT_IN

NOW = datetime(2026, 1, 15, 10, 0, 0, 123456, tzinfo=UTC)
MANY = 40_000

Events = list[dict[str, Any]]


@lru_cache(4)
def make(scenario: Scenario, progress: float, count: int = MANY, seed: int = 7) -> Events:
    traffic = Traffic(seed, scenario)
    return [traffic.event(NOW, progress) for _ in range(count)]


def predictions(events: Events) -> Events:
    return [event for event in events if event.get("type") == "model_inference"]


def judged(events: Events) -> Events:
    return [event for event in events if "prediction_class" in event and "true_label" in event]


def accuracy(events: Iterable[dict[str, Any]]) -> float:
    return fmean(event["prediction_class"] == event["true_label"] for event in events)


def error_share(events: Events) -> float:
    return fmean("error_message" in event for event in predictions(events))


def latency(events: Events) -> float:
    return fmean(event["inference_time_ms"] for event in predictions(events) if "error_message" not in event)


def of_version(events: Events, model: str, version: str) -> Events:
    return [event for event in events if (event["model_name"], event["model_version"]) == (model, version)]


@pytest.mark.parametrize("scenario", Scenario)
def test_same_seed_same_events(scenario: Scenario) -> None:
    """The same seed gives the same events, ids included; another seed gives others."""

    def ramp(seed: int) -> Events:
        traffic = Traffic(seed, scenario)
        return [traffic.event(NOW, step / 500) for step in range(500)]

    assert ramp(1) == ramp(1)
    assert {event["event_id"] for event in ramp(1)}.isdisjoint(event["event_id"] for event in ramp(2))


@pytest.mark.parametrize("scenario", Scenario)
def test_every_event_is_accepted(scenario: Scenario) -> None:
    """Every event survives JSON and is valid by the schema of the kind it was made as."""
    traffic = Traffic(3, scenario)
    events = [orjson.loads(orjson.dumps(traffic.event(NOW, step / 5000))) for step in range(5000)]
    by_kind: dict[str, Events] = {}
    for event in events:
        kind = BUILT_IN.choose(event)
        assert kind is not None
        assert kind.name == event.get("type", "mlflow_event")
        by_kind.setdefault(kind.name, []).append(event)
    assert set(BUILT_IN.kinds) - {"alert", "verification"} == set(by_kind)
    for name, group in by_kind.items():
        assert [event for event in BUILT_IN.kinds[name].validate(group) if not isinstance(event, dict)] == []


def test_every_event_has_its_own_identity() -> None:
    """No two events share an event_id, and each has a request_id."""
    events = make(Scenario.NORMAL, 0.0)
    assert len({event["event_id"] for event in events}) == MANY
    assert all(event["request_id"] for event in events)


def test_timestamps_are_utc() -> None:
    """A time in any zone is sent as UTC with Z, and follows the time given."""
    traffic = Traffic(1, Scenario.NORMAL)
    assert traffic.event(NOW, 0)["timestamp"] == "2026-01-15T10:00:00.123Z"
    summer = (NOW + timedelta(seconds=1)).astimezone(timezone(timedelta(hours=2)))
    assert traffic.event(summer, 0)["timestamp"] == "2026-01-15T10:00:01.123Z"


def test_shares_of_kinds() -> None:
    """Most events are predictions, and every kind comes about as often as its share says."""
    counts = Counter(event.get("type", "mlflow") for event in make(Scenario.NORMAL, 0.0))
    assert sum(SHARES.values()) == 1000
    assert set(SHARES) == set(counts)
    for kind, share in SHARES.items():
        assert share / 1000 == pytest.approx(counts[kind] / MANY, rel=0.2)


def test_labels_belong_to_earlier_predictions() -> None:
    """A label names the request and model of an earlier prediction that came without its truth."""
    unlabelled: dict[str, str] = {}
    labels = 0
    for event in make(Scenario.NORMAL, 0.0, count=5000):
        if event.get("type") == "label":
            assert unlabelled.pop(event["request_id"]) == event["model_name"]
            labels += 1
        elif "prediction_class" in event and "true_label" not in event:
            unlabelled[event["request_id"]] = event["model_name"]
    assert labels > 300


@pytest.mark.parametrize("model", [model.name for model in MODELS])
def test_normal_is_calibrated(model: str) -> None:
    """Among predictions of one confidence, the share of right ones is that confidence."""
    events = [event for event in judged(make(Scenario.NORMAL, 1.0, 100_000)) if event["model_name"] == model]
    buckets: dict[int, Events] = {}
    for event in events:
        buckets.setdefault(int(event["prediction_confidence"] * 10), []).append(event)
    tested = [bucket for bucket in buckets.values() if len(bucket) > 400]
    assert len(tested) >= 3
    for bucket in tested:
        confidence = fmean(event["prediction_confidence"] for event in bucket)
        assert confidence == pytest.approx(accuracy(bucket), abs=0.07)


def test_variety() -> None:
    """There are at least four models with two versions each, and several regions and environments."""
    events = predictions(make(Scenario.NORMAL, 0.0))
    versions = {(event["model_name"], event["model_version"]) for event in events}
    assert {(model.name, version) for model in MODELS for version in model.versions} == versions
    assert len({event["region"] for event in events}) == 3
    assert len({event["environment"] for event in events}) == 3


@pytest.mark.parametrize("scenario", Scenario)
def test_scenarios_begin_normal(scenario: Scenario) -> None:
    """At the start every scenario looks like normal operation, so that the change can be seen."""
    events = make(scenario, 0.0)
    assert error_share(events) < 0.02
    assert latency(events) == pytest.approx(latency(make(Scenario.NORMAL, 0.0)), rel=0.05)
    assert accuracy(judged(events)) == pytest.approx(accuracy(judged(make(Scenario.NORMAL, 0.0))), abs=0.02)


@pytest.mark.parametrize("scenario", Scenario)
def test_scenarios_grow_evenly(scenario: Scenario) -> None:
    """Whatever a scenario changes, half-way it has changed half as far: nothing jumps."""
    start, middle, end = (asdict(effects(scenario, progress)) for progress in (0.0, 0.5, 1.0))
    assert (start == end) == (scenario is Scenario.NORMAL)
    for name, value in middle.items():
        assert value == pytest.approx((start[name] + end[name]) / 2)


def test_normal_stays_normal() -> None:
    """The normal scenario is at its end what it was at its start."""
    assert make(Scenario.NORMAL, 0.0, 1000) == make(Scenario.NORMAL, 1.0, 1000)


def test_high_load() -> None:
    """Under high load latency grows step by step to several times the usual, and the machines are busy."""
    start, middle, end = (make(Scenario.HIGH_LOAD, progress) for progress in (0.0, 0.5, 1.0))
    assert latency(start) * 2 < latency(middle) < latency(end)
    assert latency(end) > 4 * latency(start)
    assert fmean(event["cpu_usage"] for event in predictions(end)) > 65
    assert Scenario.HIGH_LOAD.rate > 10 * Scenario.NORMAL.rate


def test_degradation_hits_one_new_version() -> None:
    """Accuracy and confidence of one model's new version fall; its stable version stays as good."""
    before, after = (judged(make(Scenario.DEGRADATION, progress)) for progress in (0.0, 1.0))
    stable, new = DEGRADING.versions
    was, is_now = of_version(before, DEGRADING.name, new), of_version(after, DEGRADING.name, new)
    assert accuracy(is_now) < accuracy(was) - 0.2
    confidence = fmean(event["prediction_confidence"] for event in is_now)
    assert confidence < fmean(event["prediction_confidence"] for event in was) - 0.08
    assert accuracy(is_now) < confidence - 0.15
    same = accuracy(of_version(after, DEGRADING.name, stable))
    assert same == pytest.approx(accuracy(of_version(before, DEGRADING.name, stable)), abs=0.02)


def test_drift() -> None:
    """Under drift data quality falls, drift scores rise, checks fail and the classes shift."""
    before, after = (make(Scenario.DRIFT, progress) for progress in (0.0, 1.0))

    def mean(events: Events, name: str) -> float:
        return fmean(event[name] for event in events if name in event)

    assert mean(after, "data_quality_score") < mean(before, "data_quality_score") - 0.3
    assert mean(after, "drift_score") > 0.5 > 0.1 > mean(before, "drift_score")
    assert mean(before, "passed") == 1.0 > 0.0 == mean(after, "passed")
    fraud_before, fraud_after = (
        fmean(event["prediction_class"] == "fraud" for event in judged(events) if "fraud" in event["model_name"])
        for events in (before, after)
    )
    assert fraud_after > fraud_before + 0.25


def test_errors() -> None:
    """In the errors scenario the share of errors rises to nearly a third: timeouts, memory, connections."""
    shares = [error_share(make(Scenario.ERRORS, progress)) for progress in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.01, 0.155, 0.30], abs=0.02)
    failed = [event for event in make(Scenario.ERRORS, 1.0) if "error_message" in event]
    words = ("timed out", "timeout", "out of memory", "Connection")
    assert fmean(any(word in event["error_message"] for word in words) for event in failed) > 0.8
    assert not any("prediction_class" in event for event in failed)


def test_nothing_takes_longer_than_it_is_told_of() -> None:
    """Epochs, steps and operations have the time that lies between their reports, however fast these come."""
    traffic = Traffic(7, Scenario.NORMAL)
    events = [traffic.event(NOW + timedelta(milliseconds=5 * n), 0.0) for n in range(20_000)]

    def moment(event: dict[str, Any]) -> float:
        return datetime.fromisoformat(event["timestamp"]).timestamp()

    epochs = [each for each in events if each.get("type") == "model_training"]
    for one, next_one in pairwise(epochs):
        between = moment(next_one) - moment(one)
        assert next_one["duration_ms"] == pytest.approx(between * 1000, abs=1)
    started: dict[str, float] = {}
    for each in (each for each in events if each.get("type") == "operation"):
        since = started.setdefault(each["operation_id"], moment(each))
        assert each["duration_ms"] == pytest.approx((moment(each) - since) * 1000, abs=1)
    assert len(epochs) > 100
    assert len(started) > 10
