"""What users are told of a kind is what holds."""

import json
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import BUILT_IN, Kind, fields, json_schema, own
from tests.pipeline.blocks import draft_of, new_block, new_digest

DIGEST = new_digest(max_age_days=None)
KINDS = BUILT_IN.kinds
# Any JSON but strings that spell a number or a time: of those a JSON schema cannot say all.
WORDS = st.sampled_from(["", "a", "start", "model", "x1", "nan", "-Infinity", "1_0", "0x10"])
PLAIN = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | WORDS
VALUES = PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.sampled_from(["a", "b.c"]), PLAIN, max_size=2)


def takes(kind: Kind, event: dict[str, Any]) -> bool:
    """Whether the gateway accepts an event of a kind."""
    draft, refusals = draft_of(new_block(event, kind=kind.name), DIGEST)
    assert draft.counts.accepted + len(refusals) == 1
    return not refusals


def describes(kind: Kind, event: dict[str, Any]) -> bool:
    """Whether the JSON schema of a kind accepts an event."""
    return bool(validator(kind).is_valid(event))


@cache
def validator(kind: Kind) -> Any:
    """What judges by the JSON schema of a kind."""
    return jsonschema.Draft202012Validator(json_schema(kind))


@pytest.mark.parametrize("name", list(KINDS))
def test_a_json_schema_is_one(name: str) -> None:
    """It is JSON, a schema of its draft, and says which kind it is of."""
    schema = json.loads(json.dumps(json_schema(KINDS[name])))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("draft/2020-12/schema")
    assert (schema["$id"], schema["title"]) == (f"/v1/schemas/{name}", name)
    assert schema["description"]


@pytest.mark.parametrize("name", list(KINDS))
@given(st.data())
def test_the_json_schema_agrees_with_the_gateway(name: str, data: st.DataObject) -> None:
    """Of any event it says what the gateway does."""
    kind = KINDS[name]
    names = [*json_schema(kind)["properties"], "unknown"]
    needed = {field["name"]: data.draw(WORDS | VALUES) for field in fields(kind) if field["required"]}
    others = data.draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=3))
    event = needed | others
    assert describes(kind, event) == takes(kind, event), event


@pytest.mark.parametrize(
    ("name", "event", "good"),
    [
        ("model_inference", {"model_name": "m", "prediction_confidence": " +.5 "}, True),
        ("model_inference", {"model_name": "m", "prediction_confidence": "5e-1"}, True),
        ("model_inference", {"model_name": "m", "prediction_confidence": "half"}, False),
        ("model_inference", {"model_name": "m", "prediction_confidence": 1.01}, False),
        ("model_inference", {"model_name": "m", "inference_time_ms": -1}, False),
        ("model_training", {"epoch": "3"}, True),
        ("model_training", {"epoch": "3.0"}, True),
        ("model_training", {"epoch": "3.5"}, False),
        ("model_training", {"epoch": 2**63}, False),
        ("model_training", {"metrics": {"rmse": "0.5", "r2": None}}, True),
        ("label", {"request_id": 1, "true_label": 1, "labelled_at": "2026-06-15T12:00:00Z"}, True),
        ("label", {"request_id": 1, "true_label": 1, "labelled_at": "1781524800"}, True),
        ("label", {"request_id": 1, "true_label": 1, "labelled_at": "tomorrow"}, False),
        ("label", {"request_id": 1, "true_label": 1, "timestamp": "tomorrow"}, False),
        ("label", {"request_id": 1, "true_label": 1, "@timestamp": -1}, False),
        ("log", {"timestamp": False}, False),
        ("log", {"timestamp": False, "@timestamp": None}, False),
        ("log", {"timestamp": False, "@timestamp": 0}, True),
        ("operation", {"status": "begun"}, False),
        ("audit", {"_id": 1}, False),
    ],
)
def test_numbers_and_times_as_strings(name: str, event: dict[str, Any], good: bool) -> None:
    """Strings that spell numbers and times are described as they are taken."""
    assert (good, good) == (describes(KINDS[name], event), takes(KINDS[name], event))


def field_of(kind: Kind, name: str) -> dict[str, Any]:
    """Return what is listed of a field."""
    (found,) = (field for field in fields(kind) if field["name"] == name)
    return found


def test_fields_in_a_list() -> None:
    """A list of fields says type, whether it must be there, meaning, bounds and values."""
    assert field_of(KINDS["model_inference"], "model_name") == {
        "name": "model_name",
        "type": "string",
        "required": True,
        "description": "The model that predicted.",
    }
    confidence = field_of(KINDS["model_inference"], "prediction_confidence")
    assert (confidence["type"], confidence["minimum"], confidence["maximum"]) == ("number", 0, 1)
    status = field_of(KINDS["operation"], "status")
    assert (status["type"], status["values"]) == ("string", ["start", "progress", "complete", "error"])
    others = {("label", "labelled_at"): "date", ("lineage", "inputs"): "list", ("log", "message"): "text"}
    others |= {("model_training", "epoch"): "integer", ("model_training", "metrics"): "object"}
    for (kind, name), type_ in others.items():
        assert field_of(KINDS[kind], name).keys() == {"name", "type", "required", "description"}
        assert field_of(KINDS[kind], name)["type"] == type_


@pytest.mark.parametrize("name", list(KINDS))
def test_every_field_is_listed(name: str) -> None:
    """What is listed is what the JSON schema names, but for reserved names."""
    listed = {field["name"] for field in fields(KINDS[name])}
    named = {each for each in json_schema(KINDS[name])["properties"] if not each.startswith("_")}
    assert listed == named
    assert all(field["description"] for field in fields(KINDS[name]))


def test_fields_of_ones_own_are_described_like_the_built_in_ones() -> None:
    """Type, bounds and description of an extra field are in the list and in the JSON schema."""
    hint = own.field("integer", minimum=0, maximum=10, description="Tokens used.")
    kind = own.extended(KINDS["model_inference"], {"tokens": hint})
    assert field_of(kind, "tokens") == {
        "name": "tokens",
        "type": "integer",
        "required": False,
        "description": "Tokens used.",
        "minimum": 0,
        "maximum": 10,
    }
    assert field_of(kind, "model_name") == field_of(KINDS["model_inference"], "model_name")
    for tokens, good in ((0, True), (10, True), ("7", True), (None, True), (11, False), (-1, False), (1.5, False)):
        assert describes(kind, {"model_name": "m", "tokens": tokens}) == good, tokens
    assert json_schema(kind)["description"] == json_schema(KINDS["model_inference"])["description"]
