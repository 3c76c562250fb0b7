"""The tables of the embedded store: one for each daily index, named like it.

A user's field may have any name that does not begin with ``_``: what stands beside it in SQL has one that does.

Columns: ``_key`` (64 bits of the id's MD5, to find an id again without reading all ids), ``_id``,
``@timestamp`` (UTC), ``_source`` (the document as in the record), then the known scalar fields of
the index. A value that does not fit its column is NULL there and stays in ``_source``.

Measured with inference events of 615 bytes, 18,000 a transaction, in CPU seconds per million until the
commit: this way, two strings that the engine splits, 4; a list bound for each column 4.6; a CSV file 4 and
a file more. A primary key instead of ``_key`` made it 7 at once and 12 at two million rows.
"""

# ruff: noqa: S608 - names are quoted, values are bound

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.store.rows import Rows
from schemas import Column, Registry

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_OWN = {"_key": "UBIGINT", "_id": "VARCHAR", "@timestamp": "TIMESTAMP", "_source": "VARCHAR"}
_TYPES: dict[Column, str] = {
    "double": "DOUBLE",
    "long": "BIGINT",
    "keyword": "VARCHAR",
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "TIMESTAMP",
}


@lru_cache(maxsize=4096)
def fields_of(registry: Registry, index: str) -> Mapping[str, Column]:
    """Return the columns of an index beside the store's own; none for an index of no known kind."""
    _, base = registry.split(index)
    fields = {} if base is None else registry.columns(base)
    return {field: column for field, column in fields.items() if field not in _OWN}


def quoted(name: str) -> str:
    """Return a name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a string as SQL takes it."""
    return "'" + text.replace("'", "''") + "'"


def present(db: DuckDBPyConnection, registry: Registry) -> dict[str, dict[str, Column]]:
    """Return each index with the columns that it has.

    A table from before a field was known, or was of this type, lacks it here: look it up in the document.
    """
    query = (
        "SELECT table_name, map_from_entries(list((column_name, data_type))) FROM duckdb_columns()"
        " WHERE database_name = 'store' AND schema_name = 'main' GROUP BY table_name"
    )
    return {
        index: {
            name: column for name, column in fields_of(registry, index).items() if there.get(name) == _TYPES[column]
        }
        for index, there in db.execute(query).fetchall()
    }


def prepare(db: DuckDBPyConnection, registry: Registry, index: str) -> None:
    """Make the table of an index, or give an older one exactly the columns that are known now."""
    fields = fields_of(registry, index)
    wanted = {**_OWN, **{field: _TYPES[column] for field, column in fields.items()}}
    definition = ", ".join(f"{quoted(name)} {kind}" for name, kind in wanted.items())
    db.execute(f"CREATE TABLE IF NOT EXISTS {quoted(index)} ({definition})")
    there = dict(db.execute(f"SELECT column_name, column_type FROM (DESCRIBE {quoted(index)})").fetchall())
    # Not filled from now on, or of another type: known again later it begins anew.
    for name in there:
        if there[name] != wanted.get(name):
            db.execute(f"ALTER TABLE {quoted(index)} DROP COLUMN {quoted(name)}")
    missing = [field for field in fields if there.get(field) != wanted[field]]
    if not missing:
        return
    for field in missing:
        db.execute(f"ALTER TABLE {quoted(index)} ADD COLUMN IF NOT EXISTS {quoted(field)} {wanted[field]}")
    # What was sent before the field was known is found like the rest.
    taken = ", ".join(f"{quoted(field)} = {_value(fields, field)}" for field in missing)
    db.execute(
        f"UPDATE {quoted(index)} SET {taken} FROM (SELECT rowid AS _old, {_read(fields)} AS _v"
        f" FROM {quoted(index)}) WHERE {quoted(index)}.rowid = _old"
    )


def insert(db: DuckDBPyConnection, registry: Registry, index: str, new: Rows) -> list[bytes]:
    """Add rows whose id is not there yet; return the ids that were there."""
    ids = b"\n".join(new.ids).decode()
    documents = b"\n".join(new.documents).decode()
    table = quoted(index)
    # Reading the keys alone costs a fifth of reading the ids, and hardly ever is one there.
    (known,) = db.execute(
        f"SELECT count(*) FROM {table} WHERE _key IN (SELECT md5_number_lower(unnest(string_split($1, chr(10)))))",
        [ids],
    ).fetchall()[0]
    there = []
    if known:
        there = db.execute(
            f"SELECT _id FROM (SELECT unnest(string_split($1, chr(10))) AS _id) AS _new"
            f" WHERE EXISTS (SELECT 1 FROM {table} AS _old"
            " WHERE _old._key = md5_number_lower(_new._id) AND _old._id = _new._id)",
            [ids],
        ).fetchall()
    only_new = f"WHERE NOT EXISTS (SELECT 1 FROM {table} AS _old WHERE _old._key = _new._key AND _old._id = _new._id)"
    fields = fields_of(registry, index)
    values = "".join(f", {_value(fields, field)}" for field in fields)
    received = f"{_value(fields, 'received_at')}, " if "received_at" in fields else ""
    names = ", ".join(map(quoted, (*_OWN, *fields)))
    db.execute(
        f"INSERT INTO {table} ({names})"
        f" SELECT _key, _id, coalesce(_v.\"@timestamp\" AT TIME ZONE 'UTC', {received}'epoch'), _source{values}"
        f" FROM (SELECT *, {_read(fields)} AS _v FROM ("
        "  SELECT *, md5_number_lower(_id) AS _key FROM ("
        "   SELECT unnest(string_split($1, chr(10))) AS _id, unnest(string_split($2, chr(10))) AS _source)"
        f" ) AS _new {only_new if there else ''})",
        [ids, documents],
    )
    return [identity.encode() for (identity,) in there]


def delete(db: DuckDBPyConnection, index: str, ids: Collection[str]) -> tuple[int, bool]:
    """Delete rows; return how many, and whether others are left."""
    db.execute(f"DELETE FROM {quoted(index)} WHERE _id IN (SELECT unnest($1))", [list(ids)])
    (removed,) = db.fetchall()[0]
    return int(removed), bool(db.execute(f"SELECT 1 FROM {quoted(index)} LIMIT 1").fetchall())


def selection(registry: Registry, index: str, there: Mapping[str, Column]) -> str:
    """Return the query for all rows: `_id`, `@timestamp`, the known fields, `_source`; ``there`` as from `present`."""
    fields = fields_of(registry, index)
    values = "".join(
        f"{quoted(field)}, " if field in there else f"{_looked_up(field, column)} AS {quoted(field)}, "
        for field, column in fields.items()
    )
    return f'SELECT _id, "@timestamp", {values}_source FROM {quoted(index)}'


def _looked_up(field: str, column: Column) -> str:
    zone = " AT TIME ZONE 'UTC'" if column == "date" else ""
    return f"struct_extract({_read({field: column})}, {literal(field)}){zone}"


def _read(fields: Mapping[str, Column]) -> str:
    """Return the expression that reads the known fields of a document, NULL for those of another type."""
    # Read with its zone: a plain TIMESTAMP would drop the offset of `10:00+02:00`.
    types = {field: _TYPES[column] for field, column in fields.items()} | {"@timestamp": "TIMESTAMP"}
    structure = {name: "TIMESTAMPTZ" if kind == "TIMESTAMP" else kind for name, kind in types.items()}
    return f"json_transform(_source, {literal(json.dumps(structure))})"


def _value(fields: Mapping[str, Column], field: str) -> str:
    zone = " AT TIME ZONE 'UTC'" if fields[field] == "date" else ""
    return f"_v.{quoted(field)}{zone}"
