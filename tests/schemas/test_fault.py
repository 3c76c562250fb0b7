from typing import Any

import pytest

from schemas import BUILT_IN, Fault


def refuse(name: str, event: dict[str, Any]) -> Fault:
    """Give the fault of an event that must have one."""
    (result,) = BUILT_IN.kinds[name].validate([event])
    assert isinstance(result, Fault)
    return result


@pytest.mark.parametrize(
    ("name", "event", "path"),
    [
        ("model_training", {"metrics": {"rmse": "x"}}, "$.metrics.rmse"),
        ("model_training", {"metrics": {"a.b": "x"}}, "$.metrics['a.b']"),
        ("model_training", {"metrics": {"it's": "x"}}, "$.metrics['it\\'s']"),
        ("model_training", {"metrics": {"": "x"}}, "$.metrics['']"),
        ("lineage", {"inputs": ["a", "b", True]}, "$.inputs[2]"),
    ],
)
def test_the_path_leads_to_the_value(name: str, event: dict[str, Any], path: str) -> None:
    """The path of a fault is JSONPath, down to the value at fault."""
    assert path == refuse(name, event).path


@pytest.mark.parametrize(
    ("event", "hint"),
    [
        ({}, None),
        ({"modelName": "iris"}, '"modelName" was sent: did you mean "model_name"?'),
        ({"MODEL_NAME": "iris"}, '"MODEL_NAME" was sent: did you mean "model_name"?'),
        ({"model": "iris"}, '"model" was sent: did you mean "model_name"?'),
        ({"model_version": "2"}, None),
        ({"color": "red"}, None),
    ],
)
def test_a_missing_field_is_looked_for(event: dict[str, Any], hint: str | None) -> None:
    """A missing required field is refused with a hint when the event has a name much like it."""
    fault = refuse("model_inference", {"type": "model_inference", **event})

    assert Fault("$.model_name", "missing", "Field required", "", hint) == fault


def test_a_long_path_is_cut() -> None:
    """However long the names are that a sender chose, a path stays short."""
    path = refuse("model_training", {"metrics": {"a" * 1_000_000: "x"}}).path

    assert path == "$.metrics." + "a" * 489 + "…"


def test_the_value_is_cut() -> None:
    """A fault holds no more than a hundred characters of the value."""
    value = refuse("model_inference", {"model_name": ["x" * 1000] * 1000}).value

    assert value == '["' + "x" * 98


def test_a_deeply_nested_value_is_a_fault_like_any_other() -> None:
    """A value nested as deep as a decoder allows is refused, and breaks nothing."""
    nested: list[Any] = []
    for _ in range(1000):
        nested = [nested]

    assert refuse("model_inference", {"model_name": nested}).value == "[" * 100


def test_only_the_first_fault_is_told() -> None:
    """Of several faults in one event one is told."""
    results = BUILT_IN.kinds["label"].validate([{}, {"request_id": [], "true_label": []}])

    assert [r.path for r in results if isinstance(r, Fault)] == ["$.request_id", "$.request_id"]
