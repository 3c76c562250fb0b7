import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import BUILT_IN, Fault

FULL: dict[str, dict[str, Any]] = {
    "model_inference": {
        "model_name": "iris",
        "model_version": "2.1",
        "prediction_confidence": 0.97,
        "prediction_class": "setosa",
        "true_label": 1,
        "inference_time_ms": 25,
        "cpu_usage": 250.0,
        "gpu_usage": 0,
        "memory_usage_mb": 512,
        "environment": "production",
        "region": "eu",
        "request_id": "r-1",
        "user_id": "u-1",
        "data_quality_score": 1,
        "error_message": None,
        "error": False,
        "event_id": "e-1",
        "type": "model_inference",
    },
    "model_training": {
        "model_name": "iris",
        "model_version": "3",
        "run_id": "run",
        "experiment_id": "0",
        "epoch": 3,
        "step": 100,
        "metrics": {"rmse": 0.5, "val.loss": 1},
        "parameters": {"depth": 3, "solver": {"name": "lbfgs"}},
        "dataset_version": "v1",
        "duration_ms": 1500.5,
        "status": "finished",
    },
    "mlflow_event": {
        "timestamp": "2024-01-15T10:00:00",
        "event_type": "model_training_success",
        "details": {"rmse": 0.7},
        "source": "mlflow_pipeline",
    },
    "data_quality": {
        "dataset_name": "iris",
        "check_name": "nulls",
        "column": "petal",
        "score": 0.99,
        "passed": True,
        "row_count": 150,
        "missing_count": 0,
        "drift_score": 2.5,
    },
    "log": {
        "level": "ERROR",
        "service": "api",
        "message": "it failed",
        "logger": "app",
        "request_id": "r-1",
        "endpoint": "/predict",
        "duration": 0.12,
        "prediction": 2,
        "confidence": 0.9,
        "model_type": "forest",
        "error": "KeyError",
        "labels": {"app.kubernetes.io/name": "api"},
    },
    "label": {"request_id": "r-1", "true_label": True, "model_name": "iris", "labelled_at": "2024-01-15"},
    "operation": {
        "operation_id": "o-1",
        "operation": "deploy",
        "status": "progress",
        "progress": 0.5,
        "duration_ms": 12,
        "user_id": "u-1",
        "details": {"to": "eu"},
    },
    "audit": {"actor": "u-1", "action": "delete", "resource": "model/iris", "outcome": "denied"},
    "lineage": {
        "node_id": "n-2",
        "node_type": "features",
        "name": "petals",
        "operation": "scale",
        "inputs": ["n-1"],
    },
    "alert": {
        "alert_id": "a-1",
        "name": "accuracy",
        "severity": "critical",
        "status": "firing",
        "model_name": "iris",
        "metric": "accuracy",
        "value": 0.4,
        "threshold": 0.8,
        "message": "accuracy fell",
        "details": {"window": "1h"},
    },
    "verification": {"verify_id": "v-1", "via": "tcp"},
}
REQUIRED = {
    "model_inference": {"model_name"},
    "mlflow_event": {"event_type"},
    "label": {"request_id", "true_label"},
    "verification": {"verify_id"},
}


def refuse(name: str, event: dict[str, Any]) -> Fault:
    """Give the fault of an event that must have one."""
    (result,) = BUILT_IN.kinds[name].validate([event])
    assert isinstance(result, Fault)
    return result


@pytest.mark.parametrize("name", list(BUILT_IN.kinds))
def test_a_full_event_is_given_back_as_sent(name: str) -> None:
    """An event with every field, and with fields nobody knows, is taken as it is."""
    event = FULL[name] | {"timestamp": "whenever", "extra": {"deep": [1, "a", None]}}

    assert [event] == BUILT_IN.kinds[name].validate([event])


@pytest.mark.parametrize("name", list(BUILT_IN.kinds))
def test_null_is_taken_in_every_optional_field(name: str) -> None:
    """A `null` in an optional field is kept, and is no fault."""
    required = REQUIRED.get(name, set())
    event = {key: value if key in required else None for key, value in FULL[name].items()}

    assert [event] == BUILT_IN.kinds[name].validate([event])


@pytest.mark.parametrize("name", list(BUILT_IN.kinds))
def test_absent_fields_are_not_added(name: str) -> None:
    """The required fields are enough, and nothing is added to them."""
    event = {key: FULL[name][key] for key in REQUIRED.get(name, set())}

    assert [event] == BUILT_IN.kinds[name].validate([event])


@pytest.mark.parametrize("declared", ["logstash", 3, True, None, ["a"], {"a": 1}])
def test_any_type_is_kept(declared: object) -> None:
    """An unknown `type` of any JSON type is kept as sent."""
    event = {"type": declared, "message": "m"}

    assert [event] == BUILT_IN.kinds["log"].validate([event])


@pytest.mark.parametrize(
    ("name", "field", "sent", "rule", "value"),
    [
        ("model_inference", "prediction_confidence", 1.7, "less_than_equal", "1.7"),
        ("model_inference", "prediction_confidence", "1.7", "less_than_equal", '"1.7"'),
        ("model_inference", "data_quality_score", -1, "greater_than_equal", "-1"),
        ("model_inference", "inference_time_ms", -0.5, "greater_than_equal", "-0.5"),
        ("model_inference", "cpu_usage", "high", "float_type", '"high"'),
        ("model_inference", "gpu_usage", -1, "greater_than_equal", "-1"),
        ("model_inference", "memory_usage_mb", True, "float_type", "true"),
        ("model_inference", "error", "yes", "bool_type", '"yes"'),
        ("model_inference", "prediction_class", {"a": "é"}, "scalar_type", '{"a": "é"}'),
        ("model_inference", "model_name", None, "string_type", "null"),
        ("model_inference", "event_id", True, "string_type", "true"),
        ("model_training", "epoch", 1.5, "int_from_float", "1.5"),
        ("model_training", "metrics", 1, "dict_type", "1"),
        ("mlflow_event", "details", "text", "dict_type", '"text"'),
        ("data_quality", "score", 99, "less_than_equal", "99"),
        ("data_quality", "passed", 1, "bool_type", "1"),
        ("log", "labels", [], "dict_type", "[]"),
        ("log", "message", {}, "string_type", "{}"),
        ("label", "true_label", None, "scalar_type", "null"),
        ("label", "labelled_at", False, "datetime_type", "false"),
        ("operation", "status", "done", "literal_error", '"done"'),
        ("operation", "progress", 50, "less_than_equal", "50"),
        ("lineage", "node_type", "table", "literal_error", '"table"'),
        ("lineage", "inputs", "n-1", "list_type", '"n-1"'),
        ("alert", "value", "much", "float_type", '"much"'),
    ],
)
def test_a_wrong_value_is_refused(name: str, field: str, sent: object, rule: str, value: str) -> None:
    """A value that breaks a rule is refused under its path, the rule's name and itself as JSON."""
    fault = refuse(name, FULL[name] | {field: sent})

    assert (f"$.{field}", rule, value, None) == (fault.path, fault.rule, fault.value, fault.hint)
    assert fault.message


@pytest.mark.parametrize("field", ["_id", "_index", "_source", "_type", "_routing"])
@pytest.mark.parametrize("value", ["x", None])
@pytest.mark.parametrize("name", list(BUILT_IN.kinds))
def test_reserved_names_are_refused(name: str, field: str, value: object) -> None:
    """A top-level name that Elasticsearch keeps for itself is refused in every kind."""
    fault = refuse(name, FULL[name] | {field: value})

    assert (f"$.{field}", "reserved_name") == (fault.path, fault.rule)


def test_reserved_names_are_free_further_down() -> None:
    """Below the top level, a reserved name is a name like any other."""
    event = {"event_type": "x", "details": {"_id": 1}}

    assert [event] == BUILT_IN.kinds["mlflow_event"].validate([event])


def test_an_empty_block_is_fine() -> None:
    """A block without events gives no results."""
    assert BUILT_IN.kinds["log"].validate([]) == []


@given(st.lists(st.booleans(), max_size=30))
def test_neighbours_are_unharmed(goods: list[bool]) -> None:
    """Each event of a block gets its own verdict at its own position, whatever its neighbours are."""
    events = [{"model_name": str(n), "error": False if good else n} for n, good in enumerate(goods)]

    results = BUILT_IN.kinds["model_inference"].validate(events)

    assert goods == [not isinstance(result, Fault) for result in results]
    for event, result in zip(events, results, strict=True):
        assert result == event or (isinstance(result, Fault) and result.value == event["model_name"])


def test_the_events_sent_are_left_alone() -> None:
    """Checking an event changes its copy and not the event."""
    event = {"model_name": 3, "inference_time_ms": "25"}

    assert BUILT_IN.kinds["model_inference"].validate([event]) == [{"model_name": "3", "inference_time_ms": 25}]
    assert event == {"model_name": 3, "inference_time_ms": "25"}


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("model_training", {"metrics": {str(number): [] for number in range(100_000)}}),
        ("log", {"labels": {str(number): [] for number in range(100_000)}}),
        ("lineage", {"inputs": [[]] * 300_000}),
    ],
)
def test_a_hundred_thousand_faults_cost_as_one(kind: str, event: dict[str, Any]) -> None:
    """Only the first is told, and the others are not looked for: a second of that would hold up everybody."""
    started = time.thread_time()
    (fault,) = BUILT_IN.kinds[kind].validate([event])
    assert isinstance(fault, Fault)
    assert fault.path.endswith(("['0']", ".0", "[0]"))
    assert time.thread_time() - started < 0.1
