from typing import Any

import pytest

from schemas import BUILT_IN, json_schema, properties
from schemas.types import ReservedName

KEYWORD = {"type": "keyword", "ignore_above": 8191}
TEXT = {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 1024}}}
NOT_INDEXED = {"type": "object", "enabled": False}
INDICES = sorted(BUILT_IN.indices)


def template(index: str) -> dict[str, Any]:
    """Give the template of an index with settings like the defaults."""
    return BUILT_IN.index_template(
        index,
        pattern=f"{index}-*",
        shards=2,
        auto_expand_replicas="0-1",
        refresh_interval="1s",
        version="1.2.3",
    )


@pytest.mark.parametrize(
    ("name", "field", "expected"),
    [
        ("model_inference", "model_name", KEYWORD),
        ("model_inference", "prediction_confidence", {"type": "double"}),
        ("model_inference", "prediction_class", KEYWORD),
        ("model_inference", "error", {"type": "boolean"}),
        ("model_inference", "error_message", TEXT),
        ("model_inference", "confidence_level", KEYWORD),
        ("model_inference", "latency_category", KEYWORD),
        ("model_inference", "error_type", KEYWORD),
        ("model_inference", "prediction_correct", {"type": "boolean"}),
        ("model_inference", "prediction_accuracy", {"type": "double"}),
        ("model_training", "epoch", {"type": "long"}),
        ("model_training", "metrics", {"type": "object", "subobjects": False}),
        ("model_training", "parameters", {"type": "object"}),
        ("mlflow_event", "pipeline", KEYWORD),
        ("mlflow_event", "event_category", KEYWORD),
        ("log", "message", TEXT),
        ("label", "labelled_at", {"type": "date"}),
        ("operation", "status", KEYWORD),
        ("lineage", "inputs", KEYWORD),
        ("alert", "message", TEXT),
    ],
)
def test_known_fields_are_mapped(name: str, field: str, expected: dict[str, Any]) -> None:
    """A known field is mapped by what it holds."""
    assert expected == properties(BUILT_IN.kinds[name])[field]


@pytest.mark.parametrize("name", list(BUILT_IN.kinds))
def test_every_document_has_its_stamps_mapped(name: str) -> None:
    """What any document may carry is mapped in every kind."""
    mapped = properties(BUILT_IN.kinds[name])

    for field in ("@timestamp", "received_at"):
        assert mapped[field] == {"type": "date"}
    for field in ("type", "tenant", "event_id"):
        assert mapped[field] == KEYWORD
    assert mapped["timestamp"] == NOT_INDEXED


@pytest.mark.parametrize("name", sorted(BUILT_IN.kinds.keys() - {"mlflow_event"}))
def test_no_field_is_forgotten(name: str) -> None:
    """Every field of a schema is mapped, but for the reserved names."""
    kind = BUILT_IN.kinds[name]
    taken = {field for field, hint in kind.event.__annotations__.items() if hint != ReservedName}

    assert taken <= properties(kind).keys()
    assert not any(field.startswith("_") for field in properties(kind))


def test_an_mlflow_event_is_mapped_under_its_name() -> None:
    """The event as sent is an object whose times are not indexed, in whatever spelling they come."""
    mapped = properties(BUILT_IN.kinds["mlflow_event"])

    assert mapped["mlflow_event"]["type"] == "object"
    assert mapped["mlflow_event"]["properties"] == {
        "timestamp": NOT_INDEXED,
        "@timestamp": NOT_INDEXED,
        "type": KEYWORD,
        "event_id": KEYWORD,
        "event_type": KEYWORD,
        "source": KEYWORD,
        "details": {"type": "object"},
    }
    assert "event_type" not in mapped


@pytest.mark.parametrize("index", INDICES)
def test_kinds_of_one_index_agree(index: str) -> None:
    """The template of an index maps every field of each kind it holds, in the one way they agree on."""
    mapped = template(index)["template"]["mappings"]["properties"]

    for kind in BUILT_IN.kinds.values():
        if kind.index == index:
            assert properties(kind).items() <= mapped.items()


def test_a_template_in_full() -> None:
    """The template loses no document to a wrong type or to too many fields, and guesses no dates."""
    body = template("ml-audit")
    meta = {"managed_by": "ml-log-gateway", "version": "1.2.3"}
    mapped = body["template"]["mappings"].pop("properties")

    assert {"actor", "action", "resource", "outcome"} < mapped.keys()
    assert {
        "index_patterns": ["ml-audit-*"],
        "composed_of": [],
        "priority": 200,
        "_meta": meta,
        "template": {
            "settings": {
                "index": {
                    "number_of_shards": "2",
                    "auto_expand_replicas": "0-1",
                    "refresh_interval": "1s",
                    "mapping": {
                        "ignore_malformed": "true",
                        "total_fields": {"ignore_dynamic_beyond_limit": "true"},
                    },
                }
            },
            "mappings": {
                "_meta": meta,
                "date_detection": False,
                "numeric_detection": False,
                "dynamic_templates": [
                    {"integers": {"match_mapping_type": "long", "mapping": {"type": "double"}}},
                    {"decimals": {"match_mapping_type": "double", "mapping": {"type": "double"}}},
                    {"strings": {"match_mapping_type": "string", "mapping": KEYWORD}},
                ],
            },
        },
    } == body


def test_columns_hold_plain_values_only() -> None:
    """The columns of an index are its known fields without objects, lists and what is not indexed."""
    assert BUILT_IN.columns("ml-lineage") == {
        "@timestamp": "date",
        "received_at": "date",
        "type": "keyword",
        "tenant": "keyword",
        "event_id": "keyword",
        "node_id": "keyword",
        "node_type": "keyword",
        "name": "keyword",
        "operation": "keyword",
    }


def test_columns_of_an_index_with_two_kinds() -> None:
    """The columns of an index are those of all kinds it holds."""
    expected = {"epoch": "long", "duration_ms": "double", "pipeline": "keyword", "event_category": "keyword"}

    assert expected.items() <= BUILT_IN.columns("ml-training").items()
    assert not {"metrics", "parameters", "mlflow_event", "details"} & BUILT_IN.columns("ml-training").keys()


def test_columns_of_inference_include_what_is_added() -> None:
    """What enrichers add has columns like what is sent."""
    expected = {"prediction_correct": "boolean", "prediction_accuracy": "double", "error_message": "text"}

    assert expected.items() <= BUILT_IN.columns("ml-metrics").items()


def test_an_unknown_index_is_named() -> None:
    """Asking for an index no kind goes to fails with its name."""
    with pytest.raises(ValueError, match="'ml-other'"):
        BUILT_IN.columns("ml-other")


@pytest.mark.parametrize("name", list(BUILT_IN.kinds))
def test_the_json_schema_describes_every_field(name: str) -> None:
    """A kind's JSON schema takes further fields and says a sentence on each of its own."""
    schema = json_schema(BUILT_IN.kinds[name])

    assert schema["additionalProperties"] is True
    for field, described in schema["properties"].items():
        assert described.get("description") or field.startswith("_"), field


def test_the_json_schema_is_true_to_strictness() -> None:
    """The JSON schema says which fields are required, and that numbers may be spelled as strings."""
    schema = json_schema(BUILT_IN.kinds["model_inference"])

    assert schema["required"] == ["model_name"]
    assert {"type": "null"} in schema["properties"]["region"]["anyOf"]
    assert {"type": "number", "minimum": 0, "maximum": 1} in schema["properties"]["prediction_confidence"]["anyOf"]
