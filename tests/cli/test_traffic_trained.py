"""Traffic of trained models, held against scikit-learn itself."""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from functools import cache
from statistics import fmean
from typing import Any

import numpy as np
import orjson
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from enrichers.error import error
from gateway.cli.traffic import Scenario
from gateway.cli.traffic.trained import TrainedTraffic
from gateway.cli.traffic.trained.traffic import DEGRADING, MEASURED, SHARES
from gateway.cli.traffic.trained.training import Version, versions
from gateway.pipeline.configured import make_digest
from gateway.settings import Settings
from schemas import BUILT_IN
from tests.pipeline.blocks import draft_of, new_block, stored_in

pytestmark = pytest.mark.waits
NOW = datetime(2026, 1, 15, 10, 0, 0, 123456, tzinfo=UTC)
MANY = 5000
BUNCHES = {"digits": load_digits(), "breast_cancer": load_breast_cancer(), "wine": load_wine(), "iris": load_iris()}

Events = list[dict[str, Any]]


def course(scenario: Scenario, count: int, seed: int = 7) -> Events:
    """Give the events of a run of its own."""
    traffic = TrainedTraffic(seed, scenario)
    return [traffic.event(NOW, step / count) for step in range(count)]


@cache
def whole(scenario: Scenario) -> Events:
    """Give one whole run, made once for all tests."""
    return course(scenario, MANY)


def ends(events: Events) -> tuple[Events, Events]:
    """Give the first and the last quarter."""
    return events[: len(events) // 4], events[-len(events) // 4 :]


def predictions(events: Events) -> Events:
    return [event for event in events if event.get("type") == "model_inference"]


def answered(events: Events) -> Events:
    return [event for event in predictions(events) if "prediction_class" in event]


def judged(events: Events) -> Events:
    return [event for event in answered(events) if "true_label" in event]


def by_version(events: Events) -> dict[tuple[str, str], Events]:
    groups: dict[tuple[str, str], Events] = defaultdict(list)
    for event in events:
        groups[event["model_name"], event["model_version"]].append(event)
    return groups


def accuracy(events: Events) -> float:
    return fmean(event["prediction_class"] == event["true_label"] for event in judged(events))


def mean(events: Events, name: str) -> float:
    return fmean(event[name] for event in events if name in event)


def error_share(events: Events) -> float:
    return fmean("error_message" in event for event in predictions(events))


VERSIONS: dict[tuple[str, str], Version] = {
    (version.dataset.name, version.number): version for pair in versions() for version in pair
}


@pytest.mark.parametrize("version", VERSIONS)
def test_predictions_are_those_of_scikit_learn(version: tuple[str, str]) -> None:
    """Class, confidence and accuracy of what is sent are scikit-learn's own for the same rows of its dataset."""
    sent = by_version(answered(whole(Scenario.NORMAL)))[version]
    bunch, estimator = BUNCHES[version[0]], VERSIONS[version].estimator
    rows = [event["dataset_row"] for event in sent]
    probabilities = estimator.predict_proba(bunch.data[rows])
    assert [event["prediction_confidence"] for event in sent] == pytest.approx(probabilities.max(axis=1))
    names = [str(name) for name in bunch.target_names]
    assert [event["prediction_class"] for event in sent] == [names[best] for best in probabilities.argmax(axis=1)]
    labelled = [event for event in sent if "true_label" in event]
    rows = [event["dataset_row"] for event in labelled]
    assert accuracy(labelled) == pytest.approx(estimator.score(bunch.data[rows], bunch.target[rows]))
    assert accuracy(labelled) > 0.85


def test_rows_were_not_learned_from() -> None:
    """No row that a model was trained on is served, and all the others are."""
    served: dict[str, set[int]] = defaultdict(set)
    for event in predictions(whole(Scenario.NORMAL)):
        served[event["model_name"]].add(event["dataset_row"])
    for (name, _), version in VERSIONS.items():
        rows = sorted(served[name])
        assert len(BUNCHES[name].target) == len(version.dataset.learned) + len(rows)
        everything = np.concatenate([version.dataset.learned, BUNCHES[name].data[rows]])
        assert sorted(map(tuple, everything)) == sorted(map(tuple, BUNCHES[name].data))


@pytest.mark.parametrize("scenario", Scenario)
def test_every_event_is_accepted(scenario: Scenario) -> None:
    """The gateway's pipeline refuses none of the events, and finds the kind of each."""
    lines = [orjson.dumps(event) for event in whole(scenario)]
    draft, refusals = draft_of(new_block(*lines), make_digest(Settings(), BUILT_IN), NOW.timestamp())
    assert refusals == []
    kinds = Counter(stored.document["type"] for stored in stored_in(draft))
    assert sum(kinds.values()) == MANY
    assert set(kinds) == set(SHARES)


@pytest.mark.parametrize("scenario", Scenario)
def test_same_seed_same_events(scenario: Scenario) -> None:
    """The same seed gives the same events, ids included, but for what is measured; another seed gives others."""

    def unmeasured(events: Events) -> Events:
        return [{name: without(value) for name, value in event.items() if name not in MEASURED} for event in events]

    def without(value: Any) -> Any:
        return {k: v for k, v in value.items() if k not in MEASURED} if isinstance(value, dict) else value

    events = course(scenario, 600, seed=1)
    assert unmeasured(course(scenario, 600, seed=1)) == unmeasured(events)
    others = {event["event_id"] for event in course(scenario, 600, seed=2)}
    assert others.isdisjoint(event["event_id"] for event in events)


def test_labels_belong_to_earlier_predictions() -> None:
    """A late label names the request and model of a prediction that came without it, and is its row's truth."""
    unlabelled: dict[str, dict[str, Any]] = {}
    labels = 0
    for event in whole(Scenario.NORMAL):
        if event.get("type") == "label":
            prediction = unlabelled.pop(event["request_id"])
            bunch = BUNCHES[event["model_name"]]
            assert prediction["model_name"] == event["model_name"]
            assert event["true_label"] == str(bunch.target_names[bunch.target[prediction["dataset_row"]]])
            assert event["labelled_at"] == event["timestamp"]
            labels += 1
        elif "prediction_class" in event and "true_label" not in event:
            unlabelled[event["request_id"]] = event
    assert labels > 300


def test_what_is_measured_is_plausible() -> None:
    """Every prediction took its own time, above nothing and mostly below 20 ms; the forest is slower."""
    events = answered(whole(Scenario.NORMAL))
    times = [event["inference_time_ms"] for event in events]
    assert min(times) > 0.01
    assert float(np.median(times)) < 20
    assert len(set(times)) > len(times) / 4
    grouped = by_version(events)
    for name in BUNCHES:
        old, new = ([event["inference_time_ms"] for event in grouped[name, number]] for number in ("1.0.0", "2.0.0"))
        assert np.median(new) > 1.2 * np.median(old)
    assert all(event["memory_usage_mb"] > 20 for event in events)
    assert 5 < fmean(event["cpu_usage"] for event in events) < 100 * 64


def test_training_is_reported() -> None:
    """Each version's training is told once, with the accuracy that scikit-learn gives it and the epochs it had."""
    reports = [event for event in whole(Scenario.NORMAL) if event.get("type") == "model_training"]
    final = {(event["model_name"], event["model_version"]): event for event in reports if "epoch" not in event}
    assert set(final) == set(VERSIONS)
    for name, event in final.items():
        dataset = VERSIONS[name].dataset
        score = VERSIONS[name].estimator.score(dataset.served, dataset.served_truths)
        assert event["metrics"]["accuracy"] == pytest.approx(score)
        assert event["duration_ms"] > 0
        assert event["status"] == "completed"
    net = [event for event in reports if "epoch" in event]
    assert [event["epoch"] for event in net] == list(range(1, 21))
    assert net[-1]["metrics"]["loss"] < net[0]["metrics"]["loss"] / 3
    assert net[-1]["metrics"]["accuracy"] == pytest.approx(final["digits", "1.0.0"]["metrics"]["accuracy"])
    assert sum(event["duration_ms"] for event in net) <= final["digits", "1.0.0"]["duration_ms"]
    steps = Counter(event["event_type"] for event in whole(Scenario.NORMAL) if "event_type" in event)
    assert steps["model_training_success"] == steps["mlflow_run_end"] == len(VERSIONS)


def test_normal_stays_normal() -> None:
    """In the normal scenario, accuracy, errors and drift are at the end what they were at the start."""
    first, last = ends(whole(Scenario.NORMAL))
    assert accuracy(first) == pytest.approx(accuracy(last), abs=0.03)
    assert max(error_share(first), error_share(last)) < 0.025
    checks = [event for event in whole(Scenario.NORMAL) if event.get("type") == "data_quality"]
    assert all(event["passed"] and event["missing_count"] == 0 and event["drift_score"] < 0.25 for event in checks)
    assert mean(last, "drift_score") == pytest.approx(mean(first, "drift_score"), abs=0.03)


def test_degradation_hits_one_version() -> None:
    """Accuracy and confidence of one version fall step by step; all others, and the data, stay as they were."""
    events = whole(Scenario.DEGRADATION)
    quarters = [by_version(answered(events[start : start + MANY // 4])) for start in range(0, MANY, MANY // 4)]
    for name in VERSIONS:
        right = [accuracy(quarter[name]) for quarter in quarters]
        sure = [mean(quarter[name], "prediction_confidence") for quarter in quarters]
        if name == DEGRADING:
            assert right[0] > right[1] > right[3]
            assert right[0] - right[3] > 0.2
            assert sure[0] > sure[1] > sure[2] > sure[3]
            assert sure[0] - sure[3] > 0.15
        else:
            assert right[3] == pytest.approx(right[0], abs=0.08)
            assert sure[3] == pytest.approx(sure[0], abs=0.04)
    assert all(event["passed"] for event in events if event.get("type") == "data_quality")


def test_drift() -> None:
    """Under drift the distance from the rows learned from rises step by step, checks fail, accuracy follows."""
    events = whole(Scenario.DRIFT)
    quarters = [events[start : start + MANY // 4] for start in range(0, MANY, MANY // 4)]
    drift = [mean(quarter, "drift_score") for quarter in quarters]
    assert drift[0] < drift[1] < drift[2] < drift[3]
    assert drift[3] > 0.3
    assert mean(quarters[0], "passed") > 0.95
    assert mean(quarters[3], "passed") < 0.3
    assert mean(quarters[3], "missing_count") > 5 > mean(quarters[0], "missing_count")
    assert mean(quarters[3], "data_quality_score") < mean(quarters[0], "data_quality_score") - 0.1
    assert accuracy(quarters[3]) < accuracy(quarters[0]) - 0.15
    assert error_share(quarters[3]) < 0.03


def test_drift_score_is_the_distance_of_what_was_served() -> None:
    """The score of a check is the greatest difference of two distributions, 0 for alike and 1 for apart."""
    dataset = VERSIONS["iris", "1.0.0"].dataset
    assert dataset.distance(0, dataset.learned[:, 0]) == 0
    assert dataset.distance(0, dataset.learned[:, 0] + 100) > 0.9
    low, high = dataset.learned[:, 0].min(), dataset.learned[:, 0].max()
    half = dataset.learned[dataset.learned[:, 0] < (low + high) / 2]
    expected = 1 - len(half) / len(dataset.learned)
    assert dataset.distance(0, half[:, 0]) == pytest.approx(expected)


def test_errors() -> None:
    """The share of errors rises step by step to a quarter and more, of at least four sorts; the rest stays right."""
    events = whole(Scenario.ERRORS)
    quarters = [events[start : start + MANY // 4] for start in range(0, MANY, MANY // 4)]
    shares = [error_share(quarter) for quarter in quarters]
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert shares[0] < 0.08
    assert shares[3] > 0.2
    enrich = error()
    sorts = {enrich(event)["error_type"] for event in predictions(events) if "error_message" in event}
    assert {"timeout", "out_of_memory", "connection", "validation", "data"} >= sorts - {"unknown"}
    assert {"timeout", "out_of_memory", "connection", "data"} <= sorts
    assert accuracy(quarters[3]) == pytest.approx(accuracy(quarters[0]), abs=0.04)
    logs = [event for event in events if event.get("type") == "log"]
    assert any(event["level"] == "ERROR" and event["error"] == event["message"] for event in logs)


def test_a_wrong_row_gets_scikit_learns_own_error() -> None:
    """What is no outage is what scikit-learn says to a row with a column less, with a text, or to none."""
    said = {event["error_message"] for event in whole(Scenario.NORMAL) if "error_message" in event}
    assert any(message.startswith("ValueError: ") for message in said)
    bunch, estimator = BUNCHES["iris"], VERSIONS["iris", "1.0.0"].estimator
    with pytest.raises(ValueError, match="features") as raised:
        estimator.predict_proba(bunch.data[:1, 1:])
    everywhere = {
        event["error_message"] for scenario in Scenario for event in whole(scenario) if "error_message" in event
    }
    assert f"ValueError: {raised.value}" in everywhere


def test_high_load() -> None:
    """Under high load the times grow to a multiple, while the answers stay as right as they were."""
    first, last = ends(whole(Scenario.HIGH_LOAD))

    def usual(events: Events) -> float:
        return float(np.median([event["inference_time_ms"] for event in answered(events)]))

    assert usual(last) > 2 * usual(first)
    assert error_share(last) > error_share(first)
    assert accuracy(last) == pytest.approx(accuracy(first), abs=0.03)
