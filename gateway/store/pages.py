"""A page of documents out of the embedded store."""

# ruff: noqa: S608 - names are quoted, values are bound

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from gateway.store.conditions import Parameters
from gateway.store.query import Hits, Query, decode_cursor, encode_cursor
from gateway.store.selection import count, parts
from gateway.store.tables import quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from schemas import Registry

NAME = "embedded"
# A document may have a hundred bytes or a mebibyte: how many are read at once follows the size of those before.
PAGE_BYTES = 32 << 20
FIRST_DOCUMENTS = 50

Place = tuple[int, str, str, int]
"""A document's moment in microseconds since 1970, its index, its id, its row."""


def page(db: DuckDBPyConnection, registry: Registry, query: Query) -> Hits:
    """Return the newest documents that fit, after the query's cursor; ``db`` is within a transaction.

    Of large documents there are fewer than asked for, and a cursor.
    """
    after = None if query.cursor is None else decode_cursor(NAME, query.cursor, int, str, str)
    tables = parts(db, registry, query)
    if not tables:
        return Hits(0)
    total = count(db, query, tables)

    parameters = Parameters()
    places = [
        f'SELECT epoch_us("@timestamp") AS moment, _index, _id, _row FROM {part.rows(query)}'
        f" WHERE {part.where(query, parameters, *_after(after, parameters))}"
        for part in tables
    ]
    found = db.execute(
        f"SELECT * FROM ({' UNION ALL '.join(places)}) ORDER BY moment DESC, _index, _id LIMIT {query.limit + 1}",
        parameters,
    ).fetchall()

    documents = _documents(db, found[: query.limit])
    hits = [
        {"_index": index, "_id": identity, "_source": document}
        for (_, index, identity, _), document in zip(found, documents, strict=False)
    ]
    more = len(found) > len(hits)
    return Hits(total, hits, encode_cursor(NAME, *found[len(hits) - 1][:3]) if more else None)


def _after(place: list[Any] | None, parameters: Parameters) -> list[str]:
    """Return the condition for rows that come after a place in the order of pages."""
    if place is None:
        return []
    moment, index, identity = map(parameters.add, place)
    at = f"make_timestamp({moment}::BIGINT)"
    same = f"_index > {index} OR (_index = {index} AND _id > {identity})"
    return [f'"@timestamp" <= {at} AND ("@timestamp" < {at} OR {same})']


def _documents(db: DuckDBPyConnection, places: list[Place]) -> list[dict[str, Any]]:
    """Read the documents at last, since they are most of the bytes: of the first places, until they are a page."""
    found: list[dict[str, Any]] = []
    size, step = 0, FIRST_DOCUMENTS
    while len(found) < len(places) and size < PAGE_BYTES:
        wanted = places[len(found) : len(found) + step]
        sources = _sources(db, wanted)
        found += [_document(sources[index, row]) for _, index, _, row in wanted]
        size += sum(map(len, sources.values()))
        step = max(1, min(2 * step, (PAGE_BYTES - size) * len(found) // size))
    return found


def _sources(db: DuckDBPyConnection, places: list[Place]) -> dict[tuple[str, int], str]:
    rows = defaultdict(list)
    for _, index, _, row in places:
        rows[index].append(row)
    return {
        (index, row): source
        for index, numbers in rows.items()
        for row, source in db.execute(
            f"SELECT rowid, _source FROM {quoted(index)} WHERE rowid IN ({', '.join(map(str, numbers))})"
        ).fetchall()
    }


def _document(source: str) -> dict[str, Any]:
    try:
        document = orjson.loads(source)
    except orjson.JSONDecodeError:  # deeper than it goes
        document = json.loads(source)
    return dict(document)
