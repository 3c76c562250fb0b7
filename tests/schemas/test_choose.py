import time

import pytest

from schemas import BUILT_IN


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"type": "model_inference"}, "model_inference"),
        ({"type": "model_training"}, "model_training"),
        ({"type": "model_training", "event_type": "scaling_start"}, "mlflow_event"),
        ({"type": "model_training", "event_type": None}, "model_training"),
        ({"type": "data_quality"}, "data_quality"),
        ({"type": "log"}, "log"),
        ({"type": "label"}, "label"),
        ({"type": "operation"}, "operation"),
        ({"type": "audit"}, "audit"),
        ({"type": "lineage"}, "lineage"),
        ({"type": "alert"}, "alert"),
        # A known type wins over every deciding key.
        ({"type": "log", "model_name": "iris", "event_type": "x"}, "log"),
        ({"type": "alert", "message": "high"}, "alert"),
        # Without one, the rows in their order.
        ({"event_type": "x", "model_name": "iris", "message": "m"}, "mlflow_event"),
        ({"model_name": "iris", "check_name": "nulls", "message": "m"}, "model_inference"),
        ({"check_name": "nulls", "message": "m"}, "data_quality"),
        ({"dataset_name": "iris", "level": "INFO"}, "data_quality"),
        ({"message": ""}, "log"),
        ({"level": "INFO"}, "log"),
        ({"@version": "1"}, "log"),
        # Unknown types are as good as missing.
        ({"type": "logstash", "message": "m"}, "log"),
        ({"type": None, "model_name": "iris"}, "model_inference"),
        ({"type": 3, "model_name": "iris"}, "model_inference"),
        ({"type": ["log"], "model_name": "iris"}, "model_inference"),
        ({"type": {"a": 1}, "model_name": "iris"}, "model_inference"),
        ({"type": "mlflow_event", "event_type": "x"}, "mlflow_event"),
        # null is absent.
        ({"model_name": None, "message": "m"}, "log"),
    ],
)
def test_chooses(event: dict[str, object], name: str) -> None:
    """An event goes to the first kind it fits, and to the declared one where that is known."""
    assert BUILT_IN.kinds[name] is BUILT_IN.choose(event)


@pytest.mark.parametrize("event", [{}, {"a": 1}, {"type": "other"}, {"message": None}, {"request_id": "1"}])
def test_chooses_none(event: dict[str, object]) -> None:
    """An event that no row fits has no kind."""
    assert BUILT_IN.choose(event) is None


def test_the_hint_names_every_deciding_key() -> None:
    """Whoever sends an event of no kind is told each key that would have decided."""
    hint = BUILT_IN.unknown_kind_hint()

    for key in ("event_type", "model_name", "check_name", "dataset_name", "message", "level", "@version"):
        assert key in hint
    assert "gateway_verification" not in hint  # the gateway's own


@pytest.mark.parametrize(
    ("event", "hint"),
    [
        ({"modelname": "x"}, '"modelname" was sent: did you mean "model_name"? If not, send a type ('),
        ({"version": "2", "Model-Name": "x"}, '"Model-Name" was sent: did you mean "model_name"?'),
        ({"mesage": "x"}, '"mesage" was sent: did you mean "message"? If not, send a type ('),
        ({"model_name": None, "user_name": "x", "model_version": "1"}, "Send a type ("),
        ({}, "Send a type ("),
    ],
)
def test_a_misspelt_key_is_asked_for(event: dict[str, object], hint: str) -> None:
    """An event of no kind that nearly has a deciding key is asked whether that was meant."""
    assert BUILT_IN.choose(event) is None
    assert BUILT_IN.unknown_kind_hint(event).startswith(hint)


def test_looking_for_misspelt_keys_is_bounded() -> None:
    """An event of many long keys that are all new costs milliseconds."""
    event = {f"feature_name_of_model_{number}" * (1 + number % 2): 1 for number in range(100_000)}
    began = time.process_time()
    for _ in range(10):
        BUILT_IN.unknown_kind_hint(event)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("name", "stored_type", "index"),
    [
        ("model_inference", "model_inference", "ml-metrics"),
        ("model_training", "model_training", "ml-training"),
        ("mlflow_event", "model_training", "ml-training"),
        ("data_quality", "data_quality", "data-quality"),
        ("log", "log", "ml-pipeline"),
        ("label", "label", "ml-labels"),
        ("operation", "operation", "ml-operations"),
        ("audit", "audit", "ml-audit"),
        ("lineage", "lineage", "ml-lineage"),
        ("alert", "alert", "ml-alerts"),
        ("verification", "gateway_verification", "ml-verify"),
    ],
)
def test_where_a_kind_goes(name: str, stored_type: str, index: str) -> None:
    """Each kind has the stored type and the index that users were promised."""
    kind = BUILT_IN.kinds[name]

    assert (stored_type, index) == (kind.type, kind.index)


def test_there_are_no_other_kinds() -> None:
    """The kinds are the ten that users were promised, and that of `gateway verify`."""
    assert len(BUILT_IN.kinds) == 11
