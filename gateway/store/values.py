"""How the values of a field are read from the tables of the embedded store."""

# ruff: noqa: S608 - names are quoted, values are bound

from __future__ import annotations

from typing import NamedTuple

from gateway.store.aggregation import FURTHEST, MAX_KEYWORD, MAX_TEXT, NEAR, Key
from gateway.store.conditions import Parameters, values_in_source
from gateway.store.selection import Part
from gateway.store.tables import quoted

TYPES = {"b": "BOOLEAN", "n": "DOUBLE", "s": "VARCHAR"}
"""The types a value may have. A key has a column for each of them, at most one of which is not NULL."""


class Values(NamedTuple):
    """A field's values, in SQL."""

    list: str
    """All of a document, some of which may be NULL."""
    one: str | None
    """The only one, for documents that do not fulfil ``several``; None where any document may have several."""
    several: str
    """Whether a document has a list."""
    types: dict[str, str]
    """The value ``{v}`` as those of `TYPES` that it can have, NULL where it has another."""

    def of(self, value: str) -> dict[str, str]:
        """Return ``value``, one of these, by type."""
        return {kind: text.replace("{v}", value) for kind, text in self.types.items()}

    @property
    def present(self) -> str:
        """Whether a document has a value."""
        some = f"len(list_filter({self.list}, lambda v: {_is_there(self.of('v'))})) > 0"
        if self.one is None:
            return some
        one = _is_there(self.of(self.one))
        return one if self.several == "false" else f"CASE WHEN {self.several} THEN {some} ELSE {one} END"

    def unnested(self, rows: str, name: str, into: dict[str, str]) -> str:
        """Return ``rows`` with one for each different value in its column of values ``name``, at least one.

        ``into`` names the columns that replace it, by type.
        """
        typed = ", ".join(f"'{kind}': {text}" for kind, text in self.of("v").items())
        rows = f"SELECT * REPLACE (list_transform({name}, lambda v: {{{typed}}}) AS {name}) FROM ({rows})"
        there = _is_there({kind: f"v.{kind}" for kind in self.types})
        # Most often there is one.
        each = (
            f"CASE WHEN len({name}) = 1 THEN {name}"
            f" WHEN len(list_filter({name}, lambda v: {there})) > 0"
            f" THEN list_distinct(list_filter({name}, lambda v: {there})) ELSE [NULL] END"
        )
        rows = f"SELECT * REPLACE (unnest({each}) AS {name}) FROM ({rows})"
        columns = typed_columns({kind: f"{name}.{kind}" for kind in self.types}, into)
        return f"SELECT * EXCLUDE ({name}), {columns} FROM ({rows})"


def typed_columns(value: dict[str, str], into: dict[str, str]) -> str:
    """Return the columns of a value; ``into`` names them by type."""
    return ", ".join(f"({value.get(kind, f'NULL::{TYPES[kind]}')}) AS {name}" for kind, name in into.items())


def key_values(key: Key, part: Part, parameters: Parameters) -> Values:
    """Return the values that documents are put into buckets by: of a histogram how many widths from 0."""
    found = values(key.field, part, parameters)
    if key.width is None:
        return found
    if "n" not in found.types:
        return found._replace(types={"n": "NULL::DOUBLE"})
    widths = f"({found.types['n']}) / {parameters.add(float(key.width))}::DOUBLE"
    steps = f"CASE WHEN abs({widths}) < {FURTHEST} THEN floor({widths} + {NEAR}) END"
    return found._replace(types={"n": steps})


def values(field: str, part: Part, parameters: Parameters) -> Values:
    """Return how a field is read from the tables of a part."""
    column = quoted(field)
    if field == "_index":
        return _scalar("_index", "s")
    match "date" if field == "@timestamp" else part.columns.get(field):
        case None:
            text, string = "({v})::VARCHAR", _short("({v}) ->> '$'", MAX_KEYWORD)
            types = {
                "b": f"CASE {text} WHEN 'true' THEN true WHEN 'false' THEN false END",
                "n": f"CASE WHEN {text} < ':' AND NOT starts_with({text}, '\"') THEN TRY_CAST({text} AS DOUBLE) END",
                "s": f"CASE WHEN starts_with({text}, '\"') THEN {string} END",
            }
            return Values(values_in_source(field, parameters), None, "true", types)
        case "keyword" | "text" as kind:
            # A list where one value is expected stands there as its JSON.
            several = f"CASE WHEN starts_with({column}, '[') THEN json_valid({column}) ELSE false END"
            values = f"CASE WHEN {several} THEN json_extract_string({column}, '$[*]') ELSE [{column}] END"
            return Values(values, column, several, {"s": _short("{v}", MAX_TEXT if kind == "text" else MAX_KEYWORD)})
        case "boolean":
            return _scalar(column, "b")
        case "date":
            return _scalar(column, "s", "strftime({v}, '%Y-%m-%dT%H:%M:%S.%gZ')")
        case _:
            return _scalar(f"{column}::DOUBLE", "n")


def _scalar(column: str, kind: str, text: str = "{v}") -> Values:
    return Values(f"[{column}]", column, "false", {kind: text})


def _short(text: str, characters: int) -> str:
    return f"CASE WHEN strlen({text}) <= {characters} OR length({text}) <= {characters} THEN {text} END"


def _is_there(value: dict[str, str]) -> str:
    return "(" + " OR ".join(f"({text}) IS NOT NULL" for text in value.values()) + ")"
