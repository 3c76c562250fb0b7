"""A query as SQL conditions on the tables of the embedded store."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from gateway.store.query import Query
from gateway.store.tables import quoted
from schemas import Column

# A dotted field can be split in 2^(n-1) ways; of a longer one the outermost two are tried.
_MAX_PARTS = 5
_NUMBER_TYPES = "('DOUBLE', 'BIGINT', 'UBIGINT', 'HUGEINT', 'UHUGEINT')"


class Parameters(dict[str, Any]):
    """The values of a statement, each under a name of its own."""

    def add(self, value: Any) -> str:
        """Keep a value, once; return what stands for it in SQL."""
        for name, there in self.items():
            if type(there) is type(value) and there == value:
                return f"${name}"
        name = f"p{len(self)}"
        self[name] = value
        return f"${name}"


def matches(patterns: list[str], index: str) -> bool:
    """Whether an index fits one of the patterns."""
    return any(_fits(pattern, index) for pattern in patterns)


def _fits(pattern: str, index: str) -> bool:
    """Compare piece by piece: a regular expression with many stars takes time without end."""
    first, *middle, last = pattern.split("*") if "*" in pattern else (pattern, None)
    if last is None:
        return first == index
    if len(first) + len(last) > len(index) or not (index.startswith(first) and index.endswith(last)):
        return False
    at, end = len(first), len(index) - len(last)
    for piece in middle:
        found = index.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def conditions(query: Query, columns: Mapping[str, Column], parameters: Parameters) -> list[str]:
    """Return the conditions under which a row of an index with these columns fits; its name is `_index`."""
    found = []
    if query.since_us is not None:
        found.append(f'"@timestamp" >= make_timestamp({parameters.add(query.since_us)}::BIGINT)')
    if query.until_us is not None:
        found.append(f'"@timestamp" < make_timestamp({parameters.add(query.until_us)}::BIGINT)')
    found += [_equal(field, value, columns, parameters) for field, value in query.where]
    found += [_contains(word, parameters) for word in query.words]
    return found


def _contains(word: str, parameters: Parameters) -> str:
    """A word is part of one of the strings of the document, not of a name or a number."""
    lowered = f"lower({parameters.add(word)}::VARCHAR)"
    return (
        f"(contains(lower(_source), {lowered}) OR contains(_source, '\\'))"
        " AND len(list_filter(json_extract(_source, '$..*'),"
        f" lambda v: json_type(v) = 'VARCHAR' AND contains(lower(v ->> '$'), {lowered}))) > 0"
    )


def _equal(field: str, value: str, columns: Mapping[str, Column], parameters: Parameters) -> str:
    if field == "_index":
        return f"_index = {parameters.add(value)}"
    if field == "_id":
        return f"_id = {parameters.add(value)}"
    column = quoted(field)
    match columns.get(field):
        case None:
            return _equal_in_source(field, value, parameters)
        case "keyword" | "text":
            # A list where one value is expected stands there as its JSON.
            same = parameters.add(value)
            return (
                f"({column} = {same} OR (starts_with({column}, '[') AND CASE WHEN json_valid({column})"
                f" THEN list_contains(json_extract_string({column}, '$[*]'), {same}) ELSE false END))"
            )
        case "boolean":
            return f"{column} = {value}" if value in ("true", "false") else "false"
        case "date":
            # To the millisecond, as Elasticsearch.
            moment = f"TRY_CAST({parameters.add(value)}::VARCHAR AS TIMESTAMPTZ)"
            return f"epoch_ms({column}) = epoch_ms({moment} AT TIME ZONE 'UTC')"
        case _:
            number = _number(value)
            return "false" if number is None else f"{column} = {parameters.add(number)}"


def _number(value: str) -> int | float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(value) if re.fullmatch(r"-?\d{1,18}", value, re.ASCII) else number


def _equal_in_source(field: str, value: str, parameters: Parameters) -> str:
    same = f"v ->> '$' = {parameters.add(value)}::VARCHAR"
    number = _number(value)
    if number is not None:
        same += (
            f" OR (json_type(v) IN {_NUMBER_TYPES} AND TRY_CAST(v ->> '$' AS DOUBLE) = {parameters.add(float(number))})"
        )
    # Cheap, and true for few: the name and a string as they must stand in the text, unless something there is escaped.
    texts = [field.split(".")[-1] + '"', *([value] if number is None else [])]
    there = " AND ".join(f"contains(_source, {parameters.add(text)})" for text in texts)
    return (
        f"(({there}) OR contains(_source, '\\'))"
        f" AND len(list_filter({values_in_source(field, parameters)}, lambda v: {same})) > 0"
    )


def values_in_source(field: str, parameters: Parameters) -> str:
    """Return the expression for the list of a field's values in the document, as JSON; NULL may be among them."""
    parts = field.split(".")
    ways = _ways(parts) if len(parts) <= _MAX_PARTS else [parts, [field]]
    values = [_values(way, parameters) for way in ways]
    if len(ways) == 1:
        return values[0]
    # Most often no list is on the way, nor at its end: reading the document once, for all ways, then does.
    ends = ["".join(map(_pointer, way)) for way in ways]
    steps = ["".join(map(_pointer, way[:length])) for way in ways for length in range(1, len(way))]
    there = f"json_extract(_source, {parameters.add(list(dict.fromkeys(ends + steps)))})"
    return (
        f"list_transform([{there}], lambda there: CASE WHEN len(list_filter(there, lambda v: starts_with(v, '['))) = 0"
        f" THEN list_filter(there[:{len(ends)}], lambda v: v IS NOT NULL) ELSE flatten([{', '.join(values)}]) END)[1]"
    )


def _ways(parts: list[str]) -> list[list[str]]:
    """Return all ways to read ``a.b.c``: a key may hold dots itself."""
    if not parts:
        return [[]]
    return [[".".join(parts[:end]), *rest] for end in range(1, len(parts) + 1) for rest in _ways(parts[end:])]


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _values(keys: list[str], parameters: Parameters) -> str:
    """Return the expression for the list of values under keys, through lists at every step."""
    first, *rest = (parameters.add(_pointer(key)) for key in keys)
    values = f"[json_extract(_source, {first})]"
    for pointer in rest:
        values = (
            f"flatten(list_transform({values}, lambda v: CASE WHEN starts_with(v::VARCHAR, '[')"
            f" THEN list_transform(json_extract(v, '$[*]'), lambda e: json_extract(e, {pointer}))"
            f" ELSE [json_extract(v, {pointer})] END))"
        )
    return (
        f"flatten(list_transform({values}, lambda v: CASE WHEN starts_with(v::VARCHAR, '[')"
        " THEN json_extract(v, '$[*]') ELSE [v] END))"
    )
