"""A page of documents out of the embedded store."""

# ruff: noqa: S608 - names are quoted, values are bound

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from gateway.store.conditions import Parameters, conditions, matches
from gateway.store.query import Hits, Query, decode_cursor, encode_cursor
from gateway.store.tables import fields_of, literal, quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from schemas import Column

NAME = "embedded"
_NO_CONDITION = "true"


def page(db: DuckDBPyConnection, query: Query) -> Hits:
    """Return the newest documents that fit, after the query's cursor; ``db`` is within a transaction."""
    after = None if query.cursor is None else decode_cursor(NAME, query.cursor, int, str, str)
    # A table from before a field was known lacks its column; there the field is looked up in the document.
    known = {
        index: {name: column for name, column in fields_of(index).items() if name in set(names)}
        for index, names in db.execute(
            "SELECT table_name, list(column_name) FROM duckdb_columns()"
            " WHERE database_name = 'store' AND schema_name = 'main' GROUP BY table_name"
        ).fetchall()
        if matches(query.patterns, index)
    }
    if not known:
        return Hits(0)

    # Tables with the same columns go together: planning the conditions for each cost more than reading it.
    alike = defaultdict(list)
    for index, fields in known.items():
        alike[tuple(sorted(fields.items()))].append(index)
    parts = [(_union(indices, query, dict(fields)), dict(fields)) for fields, indices in alike.items()]

    parameters = Parameters()
    counts = [
        f"SELECT count(*) AS n FROM {rows} WHERE {_all(conditions(query, fields, parameters))}"
        for rows, fields in parts
    ]
    ((total,),) = db.execute(f"SELECT sum(n)::BIGINT FROM ({' UNION ALL '.join(counts)})", parameters).fetchall()

    parameters = Parameters()
    places = [
        f'SELECT epoch_us("@timestamp") AS moment, index_name, _id, row FROM {rows}'
        f" WHERE {_all([*conditions(query, fields, parameters), *_after(after, parameters)])}"
        for rows, fields in parts
    ]
    found = db.execute(
        f"SELECT * FROM ({' UNION ALL '.join(places)}) ORDER BY moment DESC, index_name, _id LIMIT {query.limit + 1}",
        parameters,
    ).fetchall()

    shown = found[: query.limit]
    sources = _sources(db, shown)
    hits = [{"_index": index, "_id": identity, "_source": sources[index, row]} for _, index, identity, row in shown]
    return Hits(total, hits, encode_cursor(NAME, *shown[-1][:3]) if len(found) > query.limit else None)


def _all(found: list[str]) -> str:
    return " AND ".join(f"({condition})" for condition in found) or _NO_CONDITION


def _union(indices: list[str], query: Query, fields: dict[str, Column]) -> str:
    """Return the rows of several tables, as far as the query needs them."""
    asked = "".join(f", {quoted(field)}" for field in sorted({field for field, _ in query.where} & fields.keys()))
    tables = (
        f'SELECT {literal(index)} AS index_name, rowid AS row, _id, "@timestamp", _source{asked} FROM {quoted(index)}'
        for index in indices
    )
    return f"({' UNION ALL '.join(tables)})"


def _after(place: list[Any] | None, parameters: Parameters) -> list[str]:
    """Return the condition for rows that come after a place in the order of pages."""
    if place is None:
        return []
    moment, index, identity = map(parameters.add, place)
    at = f"make_timestamp({moment}::BIGINT)"
    same = f"index_name > {index} OR (index_name = {index} AND _id > {identity})"
    return [f'"@timestamp" <= {at} AND ("@timestamp" < {at} OR {same})']


def _sources(db: DuckDBPyConnection, places: list[tuple[int, str, str, int]]) -> dict[tuple[str, int], dict[str, Any]]:
    """Read the documents at last, since they are most of the bytes."""
    rows = defaultdict(list)
    for _, index, _, row in places:
        rows[index].append(row)
    return {
        (index, row): _document(source)
        for index, wanted in rows.items()
        for row, source in db.execute(
            f"SELECT rowid, _source FROM {quoted(index)} WHERE rowid IN ({', '.join(map(str, wanted))})"
        ).fetchall()
    }


def _document(source: str) -> dict[str, Any]:
    try:
        document = orjson.loads(source)
    except orjson.JSONDecodeError:  # deeper than it goes
        document = json.loads(source)
    return dict(document)
