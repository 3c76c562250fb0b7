"""The field that an event was refused for, found in the event's own bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import orjson

AROUND = 1500
"""Characters that are shown before and behind a field, and at most of it."""
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]{1,9})\]|\['((?:[^'\\]|\\.)*)'\]", re.DOTALL)
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_SPACE = re.compile(rb"[ \t\r\n]*")
_BEGIN = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*")
_NAME = re.compile(rb"(%b)[ \t\r\n]*:[ \t\r\n]*" % _STRING, re.DOTALL)
_COMMA = re.compile(rb"[ \t\r\n]*,")
_SCALAR = re.compile(rb'%b|[^][{}",:\s]+' % _STRING, re.DOTALL)
_BRACKET = re.compile(rb"%b|[][{}]" % _STRING, re.DOTALL)
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


class Line(NamedTuple):
    """An event as text: what is before the field, the field's value, what is behind it; all before when none is marked.

    Bytes that are not UTF-8, and characters that cannot be seen, are written as escapes such as ``\\xff``.
    """

    before: str
    field: str
    after: str
    is_whole: bool
    """Whether nothing is left out."""


def marked(data: bytes, path: str, around: int = AROUND) -> Line:
    """Return an event with the field at a JSON path such as ``$.details.x[2]`` marked, shortened around it."""
    found = place(data, path)
    if found is None:
        text = _text(data)
        short = _left_out(text, 2 * around, 0)
        return Line(short, "", "", short == text)
    parts = [_text(part) for part in (data[: found[0]], data[found[0] : found[1]], data[found[1] :])]
    half = around // 2
    before, field, after = (
        _left_out(parts[0], 0, around),
        _left_out(parts[1], half, half),
        _left_out(parts[2], around, 0),
    )
    return Line(before, field, after, [before, field, after] == parts)


def place(data: bytes, path: str) -> tuple[int, int] | None:
    """Return where the value at a path begins and ends; None where there is none, or where the bytes are no JSON.

    Of several members with the same name it is the last, as for the gateway.
    """
    steps = _steps(path)
    if not steps:
        return None
    begin = _BEGIN.match(data)
    at, end = begin.end() if begin else 0, 0
    for step in steps:
        found = None
        for name, *where in _members(data, at):
            if name == step:
                found = where
        if found is None:
            return None
        at, end = found
    return at, end


def _steps(path: str) -> list[str | int]:
    """Read a path; of one that was cut short, or is none, there are no steps."""
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            return []
        name, number, quoted = found.groups()
        steps.append(name if name is not None else int(number) if number else re.sub(r"\\(.)", r"\1", quoted))
        at = found.end()
    return steps


def _members(data: bytes, at: int) -> Iterator[tuple[str | int | None, int, int]]:
    """Give name or number, begin and end of each value in the object or list that begins at ``at``."""
    opening = data[at : at + 1]
    if opening not in (b"{", b"["):
        return
    at += 1
    for number in count():
        name: str | int | None = number
        at = _after(_SPACE, data, at)
        if opening == b"{":
            key = _NAME.match(data, at)
            if key is None:
                return
            name, at = _decoded(key[1]), key.end()
        end = _end(data, at)
        if end is None:
            return
        yield name, at, end
        comma = _COMMA.match(data, end)
        if comma is None:
            return
        at = comma.end()


def _end(data: bytes, at: int) -> int | None:
    """Return where the value that begins at ``at`` ends."""
    if data[at : at + 1] not in (b"{", b"["):
        scalar = _SCALAR.match(data, at)
        return None if scalar is None else scalar.end()
    depth = 0  # counted: an event may be nested deeper than calls may be
    for found in _BRACKET.finditer(data, at):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    return None


def _after(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    found = pattern.match(data, at)
    return at if found is None else found.end()


def _decoded(key: bytes) -> str | None:
    try:
        return str(orjson.loads(key))
    except ValueError:  # not UTF-8
        return None


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace").translate(_CONTROLS)


def _left_out(text: str, first: int, last: int) -> str:
    """Return the beginning and the end of a text that is longer than both."""
    if len(text) <= first + last:
        return text
    return f"{text[:first]} … {len(text) - first - last:,} characters … {text[len(text) - last :]}"
