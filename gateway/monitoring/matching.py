"""Whether one document answers a query: the store's question, asked of what has just come in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from gateway.store.conditions import matches
from gateway.store.query import Query


class Document:
    """A document as its two lines in a record have it; decoded only when a condition needs it."""

    __slots__ = ("_fields", "action", "index", "source")

    def __init__(self, index: str, action: bytes, source: bytes) -> None:
        """Take the index, and both lines without their ends."""
        self.index = index
        self.action = action
        self.source = source
        self._fields: Any = None

    @property
    def fields(self) -> Any:
        """The document's content."""
        if self._fields is None:
            self._fields = orjson.loads(self.source)
        return self._fields

    @property
    def id(self) -> str:
        """Its `_id`."""
        return str(orjson.loads(self.action)["create"]["_id"])

    def hit(self) -> bytes:
        """Return ``{"_index", "_id", "_source"}`` as one line of JSON."""
        place = self.action[self.action.index(b":") + 1 : -2]
        # Between two values a carriage return is no more than a blank, but ends a line of an event stream.
        return b'%b,"_source":%b}' % (place, self.source.replace(b"\r", b" "))


Fits = Callable[[Document], bool]


def fitting(query: Query) -> Fits:
    """Return what says whether a document fits a query's index patterns, `where` and words.

    As in a search, but that a time is compared as text, and that ``FIELD:*`` is any document that has the field.
    """
    patterns = query.patterns
    everywhere = "*" in patterns
    known: dict[str, bool] = {}
    tests = [_equal(*each) for each in query.where] + [_contains(word) for word in query.words]

    def fits(document: Document) -> bool:
        if not everywhere:
            index = document.index
            if index not in known:
                if len(known) > 1000:
                    known.clear()
                known[index] = matches(patterns, index)
            if not known[index]:
                return False
        return all(test(document) for test in tests)

    return fits


def _equal(field: str, value: str) -> Fits:
    if field == "_index":
        return lambda document: document.index == value
    if field == "_id":
        return lambda document: document.id == value
    parts = field.split(".")
    number = _number(value)
    is_any = value == "*"
    name = f'{parts[-1]}"'.encode()
    text = b"" if is_any or number is not None else value.encode()

    def same(found: Any) -> bool:
        if is_any:
            return found is not None
        if isinstance(found, str):
            return found == value
        if isinstance(found, bool):
            return value == ("true" if found else "false")
        return isinstance(found, int | float) and (found == number or str(found) == value)

    def fits(document: Document) -> bool:
        line = document.source
        # Cheap, and true for few: both must stand in the line, unless something there is escaped.
        if (name not in line or text not in line) and b"\\" not in line:
            return False
        return any(map(same, _values(document.fields, parts)))

    return fits


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _values(found: Any, parts: list[str]) -> Iterator[Any]:
    """Give the values of a dotted field, of each element of a list on the way; a key may hold dots itself."""
    for each in found if isinstance(found, list) else (found,):
        if not parts:
            yield each
        elif isinstance(each, dict):
            for end in range(1, len(parts) + 1):
                key = ".".join(parts[:end])
                if key in each:
                    yield from _values(each[key], parts[end:])


def _contains(word: str) -> Fits:
    """A word is part of one of the strings of the document, whatever the case; names are no strings."""
    lowered = word.lower()
    text = lowered.encode()

    def fits(document: Document) -> bool:
        line = document.source
        if line.isascii() and b"\\" not in line and text not in line.lower():
            return False
        waiting = [document.fields]
        while waiting:  # a document may be nested deeper than calls may be
            found = waiting.pop()
            if isinstance(found, str):
                if lowered in found.lower():
                    return True
            elif isinstance(found, dict):
                waiting.extend(found.values())
            elif isinstance(found, list):
                waiting.extend(found)
        return False

    return fits
