"""A page of documents out of the embedded store.

All documents are looked at once, for how many fit and where the newest of them are: to look for a word is most of
the work. With a million documents of 680 bytes that took 0.5 CPU seconds.
"""

# ruff: noqa: S608 - names are quoted, values are bound

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from gateway.store.conditions import Parameters
from gateway.store.query import Hits, Query, decode_cursor, encode_cursor
from gateway.store.selection import Part, parts
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
    total, found = _newest(db, query, tables, after)
    documents = _documents(db, found[: query.limit])
    hits = [
        {"_index": index, "_id": identity, "_source": document}
        for (_, index, identity, _), document in zip(found, documents, strict=False)
    ]
    more = len(found) > len(hits)
    return Hits(total, hits, encode_cursor(NAME, *found[len(hits) - 1][:3]) if more else None)


def _newest(
    db: DuckDBPyConnection, query: Query, tables: list[Part], after: list[Any] | None
) -> tuple[int, list[Place]]:
    """Return how many documents fit, and the places of the newest after the cursor, one more than a page has."""
    wanted = query.limit + 1
    parameters = Parameters()
    rows = [
        f'SELECT epoch_us("@timestamp") AS moment, _index, _row, {_after(after, parameters)} AS after'
        f" FROM {part.rows(query)} WHERE {part.where(query, parameters)}"
        for part in tables
    ]
    place = "{'moment': moment, 'index': _index, 'row': _row}"
    ((total, newest),) = db.execute(
        f"SELECT count(*), arg_max({place}, moment, {wanted}) FILTER (after) FROM ({' UNION ALL '.join(rows)})",
        parameters,
    ).fetchall()
    found = [(each["moment"], each["index"], each["row"]) for each in newest or ()]
    oldest = min((moment for moment, _, _ in found), default=0)
    more: list[Place] = []
    if len(found) == wanted:  # of its oldest moment there may be others, which come first
        found = [each for each in found if each[0] > oldest]
        more = _of_moment(db, query, tables, after, oldest, wanted - len(found))
    ids = _read(db, "_id", [(index, row) for _, index, row in found])
    places = [(moment, index, ids[index, row], row) for moment, index, row in found]
    return total, sorted(places, key=lambda place: (-place[0], *place[1:])) + more


def _of_moment(
    db: DuckDBPyConnection, query: Query, tables: list[Part], after: list[Any] | None, moment: int, limit: int
) -> list[Place]:
    """Return the first places of one moment."""
    parameters = Parameters()
    at = f'"@timestamp" = make_timestamp({parameters.add(moment)}::BIGINT)'
    rows = [
        f"SELECT {parameters.add(moment)}::BIGINT, _index, _id, _row FROM {part.rows(query)}"
        f" WHERE {part.where(query, parameters, at, _after(after, parameters))}"
        for part in tables
    ]
    return db.execute(f"{' UNION ALL '.join(rows)} ORDER BY _index, _id LIMIT {limit}", parameters).fetchall()


def _after(place: list[Any] | None, parameters: Parameters) -> str:
    """Return the condition for rows that come after a place in the order of pages."""
    if place is None:
        return "true"
    moment, index, identity = map(parameters.add, place)
    at = f"make_timestamp({moment}::BIGINT)"
    same = f"_index > {index} OR (_index = {index} AND _id > {identity})"
    return f'"@timestamp" <= {at} AND ("@timestamp" < {at} OR {same})'


def _documents(db: DuckDBPyConnection, places: list[Place]) -> list[dict[str, Any]]:
    """Read the documents at last, since they are most of the bytes: of the first places, until they are a page."""
    found: list[dict[str, Any]] = []
    size, step = 0, FIRST_DOCUMENTS
    while len(found) < len(places) and size < PAGE_BYTES:
        wanted = places[len(found) : len(found) + step]
        sources = _read(db, "_source", [(index, row) for _, index, _, row in wanted])
        found += [_document(sources[index, row]) for _, index, _, row in wanted]
        size += sum(map(len, sources.values()))
        step = max(1, min(2 * step, (PAGE_BYTES - size) * len(found) // size))
    return found


def _read(db: DuckDBPyConnection, column: str, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Return a column of rows, each given by index and row."""
    rows = defaultdict(list)
    for index, row in places:
        rows[index].append(row)
    return {
        (index, row): value
        for index, numbers in rows.items()
        # Bound, not spelled out: of 10,000 rows the text alone took five times as long.
        for row, value in db.execute(
            f"SELECT rowid, {column} FROM {quoted(index)} WHERE rowid IN (SELECT unnest($1::BIGINT[]))", [numbers]
        ).fetchall()
    }


def _document(source: str) -> dict[str, Any]:
    try:
        document = orjson.loads(source)
    except orjson.JSONDecodeError:  # deeper than it goes
        document = json.loads(source)
    return dict(document)
