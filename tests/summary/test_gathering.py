"""Figures of events, compared with ones that are counted one by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest

from gateway.summary import CONFIDENCES, MILLISECONDS, OTHER, Summary, estimated, summary_of
from gateway.summary.figures import MAX_CLASSES, MAX_MODELS, MAX_USERS
from gateway.summary.gathering import MAX_CHARACTERS, MAX_MS, Gathering


def of(index: str, *documents: dict[str, Any], unit: Literal["s", "ms"] = "s") -> Summary:
    return summary_of([(index, [json.dumps(each).encode() for each in documents])], unit)


def of_model(**fields: Any) -> Any:
    (model,) = of("ml-metrics", {"model_name": "m", **fields}).models.values()
    return model


@pytest.mark.parametrize(
    ("predicted", "truth", "counted"),
    [
        ("yes", "no", {"yes": {"no": 1}}),
        ("1", 1, {"1": {"1": 1}}),
        (True, "true", {"true": {"true": 1}}),
        (1, True, {"1": {"true": 1}}),
        (1.0, 1, {"1.0": {"1": 1}}),
        (-0.0, 0.0, {"0.0": {"0.0": 1}}),
        ("yes", None, {"yes": {None: 1}}),
        (None, 1e300, {None: {"1e+300": 1}}),
        (None, None, {}),
        ("x" * MAX_CHARACTERS, "x" * (MAX_CHARACTERS + 1), {"x" * MAX_CHARACTERS: {OTHER: 1}}),
    ],
)
def test_classes_are_spelled_as_json(predicted: Any, truth: Any, counted: dict[Any, Any]) -> None:
    """What the contract takes for the same class is one."""
    assert of_model(prediction_class=predicted, true_label=truth).outcomes == counted


def test_classes_that_python_takes_for_one_are_told_apart() -> None:
    """1, 1.0 and true are three classes, also side by side."""
    events: list[dict[str, Any]] = [
        {"model_name": "m", "prediction_class": value, "true_label": 1} for value in (1, True, 1.0, "1", 1, True)
    ]
    model = of("ml-metrics", *events).models["m", ""]
    assert model.outcomes == {"1": {"1": 3}, "true": {"1": 2}, "1.0": {"1": 1}}
    assert model.classes == ["1", "true", "1.0"]


@pytest.mark.parametrize("at", range(len(MILLISECONDS)))
def test_a_bound_belongs_to_its_bucket(at: int) -> None:
    """As Prometheus has it: less than or equal."""
    bound = MILLISECONDS[at]
    for value, bucket in ((bound, at), (bound * 1.0001, at + 1), (bound * 0.9999, at)):
        durations = of_model(inference_time_ms=value).duration_ms
        assert durations.counts == [int(each == bucket) for each in range(len(MILLISECONDS) + 1)]
        assert durations.sum == value
    for level, bound in enumerate(CONFIDENCES):
        assert of_model(prediction_confidence=bound).confidence.counts[level] == 1


def test_a_prediction_without_a_value_is_in_no_histogram() -> None:
    """Nothing is not 0."""
    model = of_model(prediction_confidence=None)
    assert (model.predictions, model.confidence.count, model.duration_ms.count, model.usage) == (1, 0, 0, {})


def test_a_duration_of_ages_leaves_a_sum_that_is_a_number() -> None:
    """Whatever is sent, figures can be added up and taken away again."""
    event = {"model_name": "m", "inference_time_ms": 1.7e308}
    assert of("ml-metrics", event, event, event).models["m", ""].duration_ms.sum == 3 * MAX_MS


@pytest.mark.parametrize(("unit", "milliseconds"), [("s", 250), ("ms", 0.25)])
def test_the_unit_of_durations_in_logs(unit: Literal["s", "ms"], milliseconds: float) -> None:
    """Requests are measured in milliseconds, whatever the services' unit is."""
    lines: list[dict[str, Any]] = [
        {"service": "api", "endpoint": "/predict", "duration": 0.25},
        {"service": "api", "endpoint": "/predict"},
        {"endpoint": "/predict", "duration": -1},
        {"duration": 0},
    ]
    endpoints = of("ml-pipeline", *lines, unit=unit).endpoints
    assert {key: (durations.count, durations.sum) for key, durations in endpoints.items()} == {
        ("api", "/predict"): (1, milliseconds),
        ("", ""): (1, 0),
    }


def test_stages() -> None:
    """A stage's duration is a field of a prediction, or an operation that is complete."""
    predictions: list[dict[str, Any]] = [
        {"model_name": "m", "feature_processing_ms": 3, "model_load_ms": True},
        {"model_name": "m", "model_version": "2", "feature_processing_ms": 4.5, "model_load_ms": -1},
        {"model_name": "m", "model_load_ms": "5"},
    ]
    loaded = {"operation": "model_load", "status": "complete", "duration_ms": 700, "model_name": "m"}
    operations: list[dict[str, Any]] = [
        loaded,
        {**loaded, "model_version": "2"},
        {**loaded, "model_name": 7},
        {**loaded, "status": "error"},
        {**loaded, "operation": "index_rebuild"},
        {**loaded, "duration_ms": None},
    ]
    made = of("ml-metrics", *predictions)
    made.plus(of("ml-operations", *operations))
    assert {key: {name: each.sum for name, each in model.stages.items()} for key, model in made.models.items()} == {
        ("m", ""): {"feature_processing": 3, "model_load": 700},
        ("m", "2"): {"feature_processing": 4.5, "model_load": 700},
        ("", ""): {"model_load": 700},
    }
    assert made.indices == {"ml-metrics": 3, "ml-operations": 6}


def test_errors_and_usage() -> None:
    """Errors by type; of usage what was told last."""
    events: list[dict[str, Any]] = [
        {"model_name": "m", "error": True, "error_type": "timeout", "cpu_usage": 10, "memory_usage_mb": 512},
        {"model_name": "m", "error": False, "error_type": "data", "cpu_usage": 20.5},
        {"model_name": "m", "error": True, "error_type": "timeout", "cpu_usage": None},
    ]
    model = of("ml-metrics", *events).models["m", ""]
    assert model.errors == {"timeout": 2}
    assert model.usage == {"cpu_usage": 20.5, "memory_usage_mb": 512}


NAMES: dict[str, Callable[[int], str]] = {
    "rising": lambda number: f"user-{number:09}",
    "plain": str,
    "hexadecimal": lambda number: f"{number * 2654435761 % 2**32:08x}",
    "mail": lambda number: f"someone.{number}@example.org",
    "long": lambda number: "0" * 50 + str(number),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_users_is_near_whatever_they_are_called(name: str) -> None:
    """Names that count up are as good as drawn ones."""
    for count in (2_000, 20_000, 60_000):
        for first in (0, 10**6):
            gathering = Gathering("s")
            events = [{"model_name": "m", "user_id": NAMES[name](first + number)} for number in range(count)]
            gathering.add("ml-metrics", events)
            users = gathering.summary().users
            assert len(users) == MAX_USERS
            assert users == sorted(set(users))
            assert estimated(users) == pytest.approx(count, rel=0.15)


@pytest.mark.process
def test_users_are_the_same_in_every_process() -> None:
    """A restart finds the users that it knew."""
    code = (
        "from gateway.summary import summary_of\n"
        """print(summary_of([("ml-metrics", [b'{"model_name":"m","user_id":"jane"}'])], "s").users)"""
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_too_many_models_and_classes() -> None:
    """A record has so many at most; duplicates can be taken away from it, whichever of them they are."""
    gathering = Gathering("s")
    events = [
        {"model_name": f"m{number % (MAX_MODELS + 100)}", "prediction_class": f"c{number}", "inference_time_ms": 1}
        for number in range(3000)
    ]
    events += [{"model_name": "m0", "prediction_class": f"c{number}"} for number in range(3 * MAX_CLASSES)]
    gathering.add("ml-metrics", events[:1500])
    gathering.add("ml-metrics", events[1500:])
    gathering.refuse({"model_name": "m599", "model_version": 7})
    made = gathering.summary()
    assert len(made.models) == MAX_MODELS + 1
    assert sum(model.predictions for model in made.models.values()) == len(events)
    assert made.models[OTHER, ""].refused == 1
    assert len(made.models["m0", ""].classes) == MAX_CLASSES
    made.minus(of("ml-metrics", *reversed(events[200:])))
    assert sum(model.predictions for model in made.models.values()) == 200
    counts = [row for model in made.models.values() for row in model.outcomes.values()]
    assert sum(count for row in counts for count in row.values()) == 200
    assert min(count for row in counts for count in row.values()) == 1
    made.minus(of("ml-metrics", *events[:200]))
    for model in made.models.values():
        assert (model.predictions, model.outcomes, model.duration_ms.sum) == (0, {}, 0)


def test_documents_from_elsewhere() -> None:
    """A document that breaks its schema, such as one put there by hand, costs nobody but itself."""
    odd = [{"model_name": 7, "prediction_class": ["a"], "inference_time_ms": "x", "user_id": {}, "cpu_usage": None}, {}]
    made = of("ml-metrics", *odd)
    made.plus(of("ml-pipeline", {"duration": "x"}, {"duration": 1, "service": []}, {"duration": True}))
    assert made.models["", ""].predictions == 2
    assert made.models["", ""].duration_ms.count == 0
    assert made.endpoints["", ""].count == 1


def test_refused() -> None:
    """Events that broke their schema count for the model they name, if they name one."""
    gathering = Gathering("s")
    for name in ("m", "m", 7, None, ["m"]):
        gathering.refuse({"model_name": name, "model_version": "1"})
    gathering.refuse({})
    assert {key: model.refused for key, model in gathering.summary().models.items()} == {("m", "1"): 2}
