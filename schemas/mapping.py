"""How documents are stored, derived from the schemas: Elasticsearch templates and columns."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from typing_extensions import is_typeddict

from schemas.added import Stamps
from schemas.fields import parts, stored_fields
from schemas.kind import Kind
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
    kinds: Iterable[Kind],
    *,
    pattern: str,
    shards: int,
    auto_expand_replicas: str,
    refresh_interval: str,
    version: str | int,
) -> dict[str, Any]:
    """Give the body of `PUT _index_template` for the index of these kinds; all of them are mapped.

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
                "properties": {name: field for kind in kinds for name, field in properties(kind).items()},
            },
        },
    }


def columns(kinds: Iterable[Kind]) -> dict[str, Column]:
    """Give the known fields of the index of these kinds that hold one plain value, and what each holds."""
    return {
        name: _COLUMNS[stored.storage]
        for kind in kinds
        for name, _, stored in _document_fields(kind)
        if stored.storage in _COLUMNS and not stored.many
    }


def _document_fields(kind: Kind) -> Iterator[tuple[str, Any, Stored]]:
    for part in (Stamps, kind.document or kind.event, kind.added):
        if part is not None:
            yield from stored_fields(part)


def _elastic(hint: Any, stored: Stored) -> dict[str, Any]:
    field = dict(_ELASTIC[stored.storage])
    nested = next((part for part in parts(hint) if is_typeddict(part)), None)
    if nested is not None:
        # The clock's fields come as sent here too, in any spelling.
        unindexed = _ELASTIC["unindexed"]
        field["properties"] = {"timestamp": unindexed, "@timestamp": unindexed} | {
            name: _elastic(hint, stored) for name, hint, stored in stored_fields(nested)
        }
    return field
