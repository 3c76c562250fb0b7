"""How documents are stored, derived from the schemas: Elasticsearch templates and columns."""

from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Literal, NotRequired, Required, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from typing_extensions import is_typeddict

from schemas.added import Stamps
from schemas.kinds import KINDS, Kind
from schemas.types import Storage, Stored

Column = Literal["double", "long", "keyword", "text", "boolean", "date"]

# Lucene refuses a term over 32,766 bytes, and a character takes up to four of them.
_KEYWORD = {"type": "keyword", "ignore_above": 8191}
_ELASTIC: dict[Storage, dict[str, Any]] = {
    "keyword": _KEYWORD,
    "text": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 1024}}},
    "double": {"type": "double"},
    "long": {"type": "long"},
    "boolean": {"type": "boolean"},
    "date": {"type": "date"},
    "object": {"type": "object"},
    "flat_object": {"type": "object", "subobjects": False},
    "unindexed": {"type": "object", "enabled": False},
}
_COLUMNS: dict[Storage, Column] = {
    "keyword": "keyword",
    "text": "text",
    "double": "double",
    "long": "long",
    "boolean": "boolean",
    "date": "date",
}
# A first `1` must not make a field that cuts the next `1.5`, nor a first date-like string a date.
_DYNAMIC_TEMPLATES = [
    {"integers": {"match_mapping_type": "long", "mapping": {"type": "double"}}},
    {"decimals": {"match_mapping_type": "double", "mapping": {"type": "double"}}},
    {"strings": {"match_mapping_type": "string", "mapping": _KEYWORD}},
]
_PRIORITY = 200


def properties(kind: Kind) -> dict[str, Any]:
    """Give the Elasticsearch mapping of the known fields of a kind's documents."""
    return {name: _elastic(hint, stored) for name, hint, stored in _document_fields(kind)}


def index_template(
    index: str,
    *,
    pattern: str,
    shards: int,
    auto_expand_replicas: str,
    refresh_interval: str,
    version: str | int,
) -> dict[str, Any]:
    """Give the body of `PUT _index_template` for an index; all kinds it holds are mapped.

    It is spelled as Elasticsearch gives it back, so that the two can be compared.
    """
    meta = {"managed_by": "ml-log-gateway", "version": version}
    return {
        "index_patterns": [pattern],
        "composed_of": [],
        "priority": _PRIORITY,
        "_meta": meta,
        "template": {
            "settings": {
                "index": {
                    "number_of_shards": str(shards),
                    "auto_expand_replicas": auto_expand_replicas,
                    "refresh_interval": refresh_interval,
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
                "dynamic_templates": _DYNAMIC_TEMPLATES,
                "properties": {name: field for kind in _kinds_in(index) for name, field in properties(kind).items()},
            },
        },
    }


def columns(index: str) -> dict[str, Column]:
    """Give the known fields of an index that hold one plain value, and what each holds."""
    return {
        name: _COLUMNS[stored.storage]
        for kind in _kinds_in(index)
        for name, _, stored in _document_fields(kind)
        if stored.storage in _COLUMNS and not stored.many
    }


def json_schema(kind: Kind) -> dict[str, Any]:
    """Give the JSON schema of a kind's events."""
    return TypeAdapter(kind.event).json_schema()


def _kinds_in(index: str) -> list[Kind]:
    kinds = [kind for kind in KINDS.values() if kind.index == index]
    if not kinds:
        raise ValueError(f"no kind of event goes to the index {index!r}")
    return kinds


def _document_fields(kind: Kind) -> Iterator[tuple[str, Any, Stored]]:
    for part in (Stamps, kind.document or kind.event, kind.added):
        if part is not None:
            yield from _fields(part)


def _fields(typed_dict: Any) -> Iterator[tuple[str, Any, Stored]]:
    """Walk the fields that are stored; the refused names are not among them."""
    for name, hint in get_type_hints(typed_dict, include_extras=True).items():
        stored = _stored(hint)
        if stored is not None:
            yield name, hint, stored


def _stored(hint: Any) -> Stored | None:
    return next((part for part in _parts(hint) if isinstance(part, Stored)), None)


def _parts(hint: Any) -> Iterator[Any]:
    """Walk an annotation from the outside in: its metadata, then what it annotates."""
    if get_origin(hint) is Annotated:
        yield from hint.__metadata__
        yield from _parts(hint.__origin__)
    elif get_origin(hint) in (Required, NotRequired):
        yield from _parts(get_args(hint)[0])
    elif NoneType in get_args(hint):
        yield from _parts(next(option for option in get_args(hint) if option is not NoneType))
    else:
        yield hint


def _elastic(hint: Any, stored: Stored) -> dict[str, Any]:
    field = dict(_ELASTIC[stored.storage])
    nested = next((part for part in _parts(hint) if is_typeddict(part)), None)
    if nested is not None:
        # The clock's fields come as sent here too, in any spelling.
        unindexed = _ELASTIC["unindexed"]
        field["properties"] = {"timestamp": unindexed, "@timestamp": unindexed} | {
            name: _elastic(hint, stored) for name, hint, stored in _fields(nested)
        }
    return field
