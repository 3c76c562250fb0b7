"""What users are told of a kind: its JSON schema, and its fields in a list."""

from typing import Any

from pydantic import TypeAdapter

from schemas.fields import stored_fields
from schemas.kind import Kind
from schemas.types import LARGEST_LONG, MOMENT_SCHEMA, SMALLEST_LONG, Storage

_TYPES: dict[Storage, str] = {
    "keyword": "string",
    "text": "text",
    "double": "number",
    "long": "integer",
    "boolean": "boolean",
    "date": "date",
    "object": "object",
    "flat_object": "object",
    "unindexed": "object",
}
# They are the clock's, not the schemas'; where there is an `@timestamp` it does not look at `timestamp`.
_TIME = {"anyOf": [*MOMENT_SCHEMA["anyOf"], {"type": "null"}]}
_MEANING = {"description": "When it happened: ISO 8601, or a number since 1970 in s, ms, us or ns."}
_TIMES = {"@timestamp": {**_TIME, **_MEANING}, "timestamp": _MEANING}
_WHICH_DECIDES = {
    "if": {"properties": {"@timestamp": {"type": "null"}}},  # or it is not there
    "then": {"properties": {"timestamp": _TIME}},
}


def json_schema(kind: Kind) -> dict[str, Any]:
    """Give the JSON schema (draft 2020-12) of a kind's events.

    It refuses nothing that the gateway takes, but for an integer spelled with an exponent; it cannot say which number
    a string may spell, nor all that makes a time.
    """
    schema = TypeAdapter(kind.event).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"/v1/schemas/{kind.name}",
        **schema,
        "title": kind.name,
        "properties": {**schema["properties"], **_TIMES},
        **_WHICH_DECIDES,
    }


def fields(kind: Kind) -> list[dict[str, Any]]:
    """Give each field that events of a kind may have.

    `name`, `type` (string, text, number, integer, boolean, date, object, list), `required`, `description`, and where
    there are any `minimum`, `maximum` and `values`.
    """
    schema = TypeAdapter(kind.event).json_schema()
    times = [{"name": name, "type": "date", "required": False, **_MEANING} for name in _TIMES]
    return times + [
        {
            "name": name,
            "type": "list" if stored.many else _TYPES[stored.storage],
            "required": name in schema.get("required", ()),
            "description": schema["properties"][name].get("description", ""),
            **({} if stored.storage == "date" else _limits(schema["properties"][name])),
        }
        for name, _, stored in stored_fields(kind.event)
    ]


def _limits(described: dict[str, Any]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for option in described.get("anyOf", [described]):
        for name in ("minimum", "maximum"):
            if option.get(name) not in (None, SMALLEST_LONG, LARGEST_LONG):
                limits[name] = option[name]
        if "enum" in option:
            limits["values"] = option["enum"]
    return limits
