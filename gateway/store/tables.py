"""The tables of the embedded store: one for each daily index, named like it.

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
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.store.rows import Rows
from schemas import KINDS, Column, columns

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
_DAY = re.compile(r"-\d{4}\.\d\d\.\d\d$")


@lru_cache(maxsize=4096)
def fields_of(index: str) -> Mapping[str, Column]:
    """Return the columns of an index beside the store's own; none for an index of no known kind."""
    name = _DAY.sub("", index)
    bases = [kind.index for kind in KINDS.values() if name.endswith(kind.index)]
    fields = columns(max(bases, key=len)) if bases else {}
    return {field: column for field, column in fields.items() if field not in _OWN}


def quoted(name: str) -> str:
    """Return a name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a string as SQL takes it."""
    return "'" + text.replace("'", "''") + "'"


def prepare(db: DuckDBPyConnection, index: str) -> None:
    """Make the table of an index, or give an older one the columns that came since."""
    wanted = {**_OWN, **{field: _TYPES[column] for field, column in fields_of(index).items()}}
    definition = ", ".join(f"{quoted(name)} {kind}" for name, kind in wanted.items())
    db.execute(f"CREATE TABLE IF NOT EXISTS {quoted(index)} ({definition})")
    there = {name for (name,) in db.execute(f"SELECT column_name FROM (DESCRIBE {quoted(index)})").fetchall()}
    missing = [field for field in fields_of(index) if field not in there]
    if not missing:
        return
    for field in missing:
        db.execute(f"ALTER TABLE {quoted(index)} ADD COLUMN IF NOT EXISTS {quoted(field)} {wanted[field]}")
    # What was sent before the field was known is found like the rest.
    taken = ", ".join(f"{quoted(field)} = {_value(index, field)}" for field in missing)
    db.execute(
        f"UPDATE {quoted(index)} SET {taken} FROM (SELECT rowid AS old, {_read(index)} AS v"
        f" FROM {quoted(index)}) WHERE {quoted(index)}.rowid = old"
    )


def insert(db: DuckDBPyConnection, index: str, new: Rows) -> int:
    """Add rows whose id is not there yet; return how many that were."""
    ids = b"\n".join(new.ids).decode()
    documents = b"\n".join(new.documents).decode()
    table = quoted(index)
    # Reading the keys alone costs a fifth of reading the ids, and hardly ever is one there.
    (known,) = db.execute(
        f"SELECT count(*) FROM {table} WHERE _key IN (SELECT md5_number_lower(unnest(string_split($1, chr(10)))))",
        [ids],
    ).fetchall()[0]
    only_new = f"WHERE NOT EXISTS (SELECT 1 FROM {table} AS old WHERE old._key = new._key AND old._id = new._id)"
    fields = fields_of(index)
    values = "".join(f", {_value(index, field)}" for field in fields)
    received = f"{_value(index, 'received_at')}, " if "received_at" in fields else ""
    names = ", ".join(map(quoted, (*_OWN, *fields)))
    db.execute(
        f"INSERT INTO {table} ({names})"
        f" SELECT _key, _id, coalesce(v.\"@timestamp\" AT TIME ZONE 'UTC', {received}'epoch'), _source{values}"
        f" FROM (SELECT *, {_read(index)} AS v FROM ("
        "  SELECT *, md5_number_lower(_id) AS _key FROM ("
        "   SELECT unnest(string_split($1, chr(10))) AS _id, unnest(string_split($2, chr(10))) AS _source)"
        f" ) AS new {only_new if known else ''})",
        [ids, documents],
    )
    (inserted,) = db.fetchall()[0]
    return int(inserted)


def _read(index: str) -> str:
    """Return the expression that reads the known fields of a document, NULL for those of another type."""
    # Read with its zone: a plain TIMESTAMP would drop the offset of `10:00+02:00`.
    types = {field: _TYPES[column] for field, column in fields_of(index).items()} | {"@timestamp": "TIMESTAMP"}
    structure = {name: "TIMESTAMPTZ" if kind == "TIMESTAMP" else kind for name, kind in types.items()}
    return f"json_transform(_source, {literal(json.dumps(structure))})"


def _value(index: str, field: str) -> str:
    zone = " AT TIME ZONE 'UTC'" if fields_of(index)[field] == "date" else ""
    return f"v.{quoted(field)}{zone}"
