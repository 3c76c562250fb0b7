"""How the indices in Elasticsearch have a field.

The same field may be mapped differently from index to index, and Elasticsearch then fails, or leaves values
out without a word. So each type of a field is asked for in the indices that have it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.store.aggregation import iso, number

Filter = dict[str, Any]
Key = tuple[int, Any]
"""A key and before it the rank of its type: Python would take 1 for true."""

_FAMILIES = {
    **dict.fromkeys(("double", "float", "half_float", "scaled_float"), "number"),
    **dict.fromkeys(("long", "integer", "short", "byte", "unsigned_long"), "number"),
    **dict.fromkeys(("keyword", "constant_keyword", "wildcard"), "string"),
    **dict.fromkeys(("date", "date_nanos"), "date"),
    "boolean": "boolean",
}
_RANKS = {"boolean": 0, "number": 1, "string": 2, "date": 2}


class Where(NamedTuple):
    """A field as some of the indices have it; ``name`` is what Elasticsearch calls it there."""

    family: str
    name: str
    indices: tuple[str, ...]

    def key(self, value: Any) -> Key:
        """Return what a bucket's key means."""
        rank = _RANKS[self.family]
        match self.family:
            case "boolean":
                return rank, bool(value)
            case "number":
                return rank, number(float(value))
            case "date":
                return rank, iso(int(value) * 1000, "milliseconds")
        return rank, value

    def same(self, value: Any) -> Filter:
        """Return the filter for documents with a value, as a bucket's key has it."""
        return {"match": {self.name: {"query": value, "lenient": True}}}

    def exists(self) -> Filter:
        """Return the filter for documents with any value."""
        return {"exists": {"field": self.name}} if self.name != "_index" else {"match_all": {}}


class Fields:
    """The fields of the indices that a question is about."""

    def __init__(self, caps: Mapping[str, Any], indices: tuple[str, ...]) -> None:
        """``caps`` is what Elasticsearch's field_caps said of all fields that are asked for by its `spellings`."""
        self._caps = caps
        self.indices = indices

    def where(self, field: str) -> list[Where]:
        """Return how the indices have a field; not those that do not have it, or as an object."""
        if field == "_index":
            return [Where("string", "_index", self.indices)]
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        as_keyword = self._caps.get(f"{field}.keyword", {})
        for kind, caps in self._caps.get(field, {}).items():
            indices = [index for index in caps.get("indices", self.indices) if index in self.indices]
            if kind == "text" and "keyword" in as_keyword:
                found["string", f"{field}.keyword"] += indices
            elif kind in _FAMILIES:
                found[_FAMILIES[kind], field] += indices
        return [Where(family, name, tuple(sorted(indices))) for (family, name), indices in found.items() if indices]


def spellings(fields: set[str]) -> list[str]:
    """Return the names that Elasticsearch is to be asked for."""
    return sorted({"@timestamp", *fields, *(f"{field}.keyword" for field in fields)})


def within(indices: tuple[str, ...], conditions: list[Filter]) -> Filter:
    """Return the filter for documents of some indices that fulfil conditions."""
    return {"bool": {"filter": [*conditions, {"terms": {"_index": list(indices)}}]}}
