"""The types of events that a schema takes and leaves as they are, for a decoder that is faster than pydantic.

They are read from the core schema, which is all that pydantic itself goes by. What is not known here has no such type,
and its events are read by pydantic.
"""

from collections.abc import Mapping
from typing import Any, Literal, Required, TypedDict, Union

from schemas.types import LONG, UNCHANGED

# Whatever else may be told of a schema changes what it takes; these keys do not, or are looked at.
_TOLD = {"type", "metadata", "ref", "serialization", "json_schema_input_schema"}
_KEYS = {
    "any": set[str](),
    "bool": {"strict"},
    "dict": {"keys_schema", "values_schema", "fail_fast"},
    "function-plain": {"function"},
    "list": {"items_schema", "fail_fast"},
    "literal": {"expected"},
    "nullable": {"schema"},
    "str": {"coerce_numbers_to_str"},
    "typed-dict": {"cls", "computed_fields", "config", "extra_behavior", "fields"},
    "typed-dict-field": {"schema", "required"},
}
_CONFIG = {"extra_fields_behavior": "allow"}
_PLAIN = Union[str, bool, LONG, float, None]  # noqa: UP007 - as a type it is no constant
# They are the clock's, not the schemas'.
_TIMES: Mapping[str, Any] = {"@timestamp": _PLAIN, "timestamp": _PLAIN}
UNCHECKED: Any = Union[_PLAIN, list[_PLAIN], dict[str, Any]]  # noqa: UP007
"""Most values of a field that no schema knows, but for integers beyond 64 bits outside of objects."""


class _UnknownSchema(Exception):
    """A schema of which it cannot be said what it leaves as it is."""


def unchanged(event: Any) -> Any | None:
    """Give a TypedDict for msgspec from the core schema of an event's TypedDict; None: there is none.

    What it takes pydantic takes too, with the same values; it takes less. Fields that it does not name it passes over.
    """
    try:
        _check_keys(event, "typed-dict")
        config = {name: value for name, value in event.get("config", {}).items() if name != "title"}
        if config != _CONFIG or event.get("extra_behavior") != "allow" or event.get("computed_fields"):
            return None
        fields = dict(_TIMES)
        for name, field in event["fields"].items():
            _check_keys(field, "typed-dict-field")
            kept = _kept(field["schema"])
            fields[name] = Required[kept] if field.get("required", True) else kept
    except (_UnknownSchema, KeyError, TypeError):  # or one of another form than pydantic's have now
        return None
    return _make(fields)


def extended(event: Any, fields: Mapping[str, Any]) -> Any:
    """Give a type that `unchanged` gave with more fields."""
    return _make({**event.__annotations__, **fields})


def _make(fields: Mapping[str, Any]) -> Any:
    make: Any = TypedDict
    return make("Unchanged", fields, total=False)


def _kept(schema: Any) -> Any:
    """Give the type of the values that a core schema takes and leaves as they are."""
    kind = schema["type"]
    _check_keys(schema, kind)
    match kind:
        case "str":
            return str
        case "bool":
            return bool
        case "any":
            return _PLAIN
        case "nullable":
            return Union[_kept(schema["schema"]), None]  # noqa: UP007
        case "literal" if all(type(word) is str for word in schema["expected"]):
            return Literal[tuple(schema["expected"])]
        case "list" if "items_schema" in schema:
            return list[_kept(schema["items_schema"])]  # type: ignore[misc]
        case "dict" if schema.get("keys_schema", {}).keys() == {"type"} and schema["keys_schema"]["type"] == "str":
            values = schema.get("values_schema", {"type": "any"})
            return dict[str, Any if values["type"] == "any" else _kept(values)]  # type: ignore[misc]
        case "function-plain" if schema["function"]["type"] == "no-info":
            known = UNCHANGED.get(schema["function"]["function"])
            if known is not None:
                return known
    raise _UnknownSchema


def _check_keys(schema: Any, kind: str) -> None:
    if schema["type"] != kind or not schema.keys() <= _TOLD | _KEYS.get(kind, set()):
        raise _UnknownSchema
