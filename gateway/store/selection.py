"""The tables of the embedded store that a query reads."""

# ruff: noqa: S608 - names are quoted, values are bound

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from gateway.store.conditions import Parameters, conditions, matches
from gateway.store.query import Query
from gateway.store.tables import literal, present, quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from schemas import Column, Registry

_NO_CONDITION = "true"


class Part(NamedTuple):
    """Indices whose tables have the same columns."""

    indices: list[str]
    columns: dict[str, Column]

    def rows(self, query: Query, fields: Iterable[str] = ()) -> str:
        """Return the rows as far as the query and ``fields`` need them; `where` says which of them fit."""
        needed = sorted({*fields, *(field for field, _ in query.where)} & self.columns.keys())
        asked = "".join(f", {quoted(field)}" for field in needed)
        own = '_id, "@timestamp", _source'
        tables = (
            f"SELECT {literal(index)} AS _index, rowid AS _row, {own}{asked} FROM {quoted(index)}"
            for index in self.indices
        )
        return f"({' UNION ALL '.join(tables)})"

    def where(self, query: Query, parameters: Parameters, *more: str) -> str:
        """Return the condition under which a row fits."""
        found = (*conditions(query, self.columns, parameters), *more)
        return " AND ".join(f"({condition})" for condition in found) or _NO_CONDITION


def parts(db: DuckDBPyConnection, registry: Registry, query: Query) -> list[Part]:
    """Return the tables that a query reads.

    Those with the same columns go together: planning the conditions for each cost more than reading it.
    """
    alike = defaultdict(list)
    for index, fields in present(db, registry).items():
        if matches(query.patterns, index):
            alike[tuple(sorted(fields.items()))].append(index)
    return [Part(indices, dict(fields)) for fields, indices in alike.items()]
