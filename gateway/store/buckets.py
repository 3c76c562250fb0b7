"""Buckets of documents out of the embedded store.

Each statement reads the tables anew: the values of the field with the most documents, the documents of each
bucket, then each measured field. So none holds more than the values of one field at a time.

Measured with a million inference events of 640 bytes, in CPU seconds: count by a column, or by the minute, 0.04;
with mean and percentiles of a column 0.1; each reading of a field that is no column 0.5 more, under a dot 0.7.
Exact percentiles took half the time of approximate ones.
"""

# ruff: noqa: S608 - names are quoted, values are bound

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.store.aggregation import (
    MAX_BUCKETS,
    MAX_KEYWORD,
    MAX_TEXT,
    Aggregation,
    Place,
    Question,
    aggregation,
    number,
)
from gateway.store.conditions import Parameters, values_in_source
from gateway.store.selection import Part, count, parts
from gateway.store.tables import quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from schemas import Registry

# Exact percentiles hold eight bytes a document; of more documents they are approximated.
EXACT_DOCUMENTS = 10_000_000
_KEY = ("b", "n", "s")
_FUNCTIONS = {"avg": "avg(v)", "sum": "sum(v)", "min": "min(v)", "max": "max(v)"}


class _Values(NamedTuple):
    """A field's values: the SQL for their list, and for one of them, ``v``, as boolean, number and string."""

    list: str
    b: str = "NULL::BOOLEAN"
    n: str = "NULL::DOUBLE"
    s: str = "NULL::VARCHAR"


def aggregate(db: DuckDBPyConnection, registry: Registry, question: Question) -> Aggregation:
    """Count and measure; ``db`` is within a transaction."""
    tables = parts(db, registry, question.query)
    total = count(db, question.query, tables) if tables else 0
    if not total:
        return aggregation(question, 0, [], {}, {})
    asked = _Asked(db, question, tables, total)
    if question.by is None:
        counts = asked.counts() if question.interval else {}
        return aggregation(question, total, [], counts, asked.figures())
    keys = asked.keys()
    counts = asked.counts() if question.interval else dict(asked.shown)
    return aggregation(question, total, keys, counts, asked.figures(), asked.missing, asked.other)


class _Asked:
    """One question to the tables."""

    def __init__(self, db: DuckDBPyConnection, question: Question, tables: list[Part], total: int) -> None:
        self._db = db
        self._question = question
        self._tables = tables
        self._total = total
        self._top: list[tuple[bool | None, float | None, str | None]] = []
        self.shown: dict[Place, int] = {}
        self.missing = self.other = 0

    def keys(self) -> list[Any]:
        """Find the values with the most documents; return them as JSON has them."""
        parameters = Parameters()
        found = self._db.execute(
            f"WITH counted AS (SELECT b, n, s, count(*) AS c FROM ({self._rows(parameters)}) GROUP BY b, n, s)"
            " SELECT b, n, s, c, (SELECT sum(c) FROM counted)::BIGINT FROM counted"
            # Documents without a value come first, if there are any.
            " ORDER BY coalesce(b::VARCHAR, n::VARCHAR, s) IS NULL DESC, c DESC,"
            " b NULLS LAST, n NULLS LAST, s NULLS LAST"
            f" LIMIT {self._question.limit + 1}",
            parameters,
        ).fetchall()
        everything = found[0][-1]
        if found[0][:3] == (None, None, None):
            self.missing = found.pop(0)[3]
        found = found[: self._question.limit]
        self._top = [(b, n, s) for b, n, s, _, _ in found]
        self.shown = {(None, place): documents for place, (*_, documents, _) in enumerate(found)}
        self.other = everything - self.missing - sum(self.shown.values())
        return [s if s is not None else number(n) if n is not None else b for b, n, s in self._top]

    def counts(self) -> dict[Place, int]:
        """Count the documents of each bucket."""
        return {place: documents for place, (documents,) in self._by_place("count(*)")}

    def figures(self) -> dict[Place, dict[str, float | None]]:
        """Measure each bucket that has a number."""
        quantile = "quantile_cont" if self._total <= EXACT_DOCUMENTS else "approx_quantile"
        found: dict[Place, dict[str, float | None]] = {}
        for field in self._question.fields:
            asked = self._question.of(field)
            percents = self._question.percents(field)
            wanted = [_FUNCTIONS.get(metric.function, "NULL") for metric in asked]
            fractions = ", ".join(str(percent / 100) for percent in percents)
            wanted.append(f"{quantile}(v, [{fractions}])" if percents else "NULL")
            for place, (*plain, quantiles) in self._by_place(", ".join(wanted), field):
                measured = found.setdefault(place, {})
                at = dict(zip(percents, quantiles or (), strict=False))
                for metric, value in zip(asked, plain, strict=True):
                    measured[metric.name] = value if metric.percent is None else at.get(metric.percent)
        return found

    def _by_place(self, wanted: str, field: str | None = None) -> Iterator[tuple[Place, tuple[Any, ...]]]:
        """Return what is wanted of each bucket; of the values of a field when one is named."""
        parameters = Parameters()
        rows = self._rows(parameters, field)
        if not rows:
            return
        place = "NULL"
        if self._question.by is not None:
            kinds = zip(_KEY, ("BOOLEAN", "DOUBLE", "VARCHAR"), zip(*self._top, strict=True), strict=False)
            lists = [f"unnest({parameters.add(list(each))}::{kind}[]) AS {name}" for name, kind, each in kinds]
            if not lists:
                return
            same = " AND ".join(f"rows.{name} IS NOT DISTINCT FROM keys.{name}" for name in _KEY)
            place = "place"
            rows = (
                f"SELECT * FROM ({rows}) AS rows JOIN"
                f" (SELECT {', '.join(lists)}, unnest(range({len(self._top)})) AS place) AS keys ON {same}"
            )
        found = self._db.execute(
            f"SELECT t, {place}, {wanted} FROM ({rows}) GROUP BY ALL LIMIT {MAX_BUCKETS + 1}", parameters
        ).fetchall()
        yield from (((since, position), tuple(values)) for since, position, *values in found)

    def _rows(self, parameters: Parameters, field: str | None = None) -> str:
        """Return rows of stretch ``t``, key ``b``, ``n`` or ``s`` and value ``v``: one for each key and value.

        A document without a key has one row all the same. Empty when no table can have numbers in the field.
        """
        question, query = self._question, self._question.query
        stretch = "NULL::BIGINT"
        if question.interval_secs is not None:
            width = f"to_microseconds({question.interval_secs * 1_000_000})"
            stretch = f"epoch_us(time_bucket({width}, \"@timestamp\", TIMESTAMP '1970-01-01'))"
        found = []
        for part in self._tables:
            value = None if field is None else _values(field, part, parameters)
            if value is not None and value.n == _Values.n:
                continue
            key = _Values("[NULL]") if question.by is None else _values(question.by, part, parameters)
            fields = {name for name in (question.by, field) if name is not None}
            rows = (
                f"SELECT {stretch} AS t, {key.list} AS keys, {'[NULL]' if value is None else value.list} AS numbers"
                f" FROM {part.rows(query, fields)} WHERE {part.where(query, parameters)}"
            )
            each = "NULL" if question.by is None else f"unnest({_each_once(key)})"
            rows = f"SELECT t, {each} AS v, numbers FROM ({rows})"
            rows = f"SELECT t, {key.b} AS b, {key.n} AS n, {key.s} AS s, numbers FROM ({rows})"
            if value is not None:
                rows = f"SELECT t, b, n, s, {value.n} AS v FROM (SELECT t, b, n, s, unnest(numbers) AS v FROM ({rows}))"
            found.append(rows)
        return " UNION ALL ".join(found)


def _values(field: str, part: Part, parameters: Parameters) -> _Values:
    """Return how a field is read from the tables of a part."""
    column = quoted(field)
    if field == "_index":
        return _Values("[_index]", s="v")
    match "date" if field == "@timestamp" else part.columns.get(field):
        case None:
            text, string = "v::VARCHAR", _short("v ->> '$'", MAX_KEYWORD)
            return _Values(
                values_in_source(field, parameters),
                b=f"CASE {text} WHEN 'true' THEN true WHEN 'false' THEN false END",
                n=f"CASE WHEN {text} < ':' AND NOT starts_with({text}, '\"') THEN TRY_CAST({text} AS DOUBLE) END",
                s=f"CASE WHEN starts_with({text}, '\"') THEN {string} END",
            )
        case "keyword" | "text" as kind:
            # A list where one value is expected stands there as its JSON.
            return _Values(
                f"CASE WHEN starts_with({column}, '[') AND json_valid({column})"
                f" THEN json_extract_string({column}, '$[*]') ELSE [{column}] END",
                s=_short("v", MAX_TEXT if kind == "text" else MAX_KEYWORD),
            )
        case "boolean":
            return _Values(f"[{column}]", b="v")
        case "date":
            return _Values(f"[{column}]", s="strftime(v, '%Y-%m-%dT%H:%M:%S.%gZ')")
        case _:
            return _Values(f"[{column}::DOUBLE]", n="v")


def _short(text: str, characters: int) -> str:
    return f"CASE WHEN strlen({text}) <= {characters} OR length({text}) <= {characters} THEN {text} END"


def _each_once(key: _Values) -> str:
    """Return the SQL for the list of the keys of a document, each once; of none, NULL."""
    is_key = f"coalesce(({key.b})::VARCHAR, ({key.n})::VARCHAR, {key.s}) IS NOT NULL"
    several = f"list_distinct(list_filter(keys, lambda v: {is_key}))"
    return f"CASE WHEN len(keys) = 1 THEN keys WHEN len({several}) > 0 THEN {several} ELSE [NULL] END"
