"""JSON cut into the bytes of its parts, also where a part is not sound.

What takes long is cut in steps: a generator that pauses after each, and returns what it found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from typing import TypeVar

import msgspec

Found = TypeVar("Found")
Steps = Generator[None, None, Found]
_AT_ONCE_BYTES = 32 * 1024
_STEP_BYTES = 128 * 1024
_STEP_PARTS = 1000
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_SPACE = re.compile(r"[ \t\r\n]*")
_STRING_OR_BRACKET = re.compile(rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|["{}\[\]]')
# Takes NaN, Infinity, numbers of any length and what is not UTF-8: the verdict on each part is given later.
_LENIENT = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)


def items_of(array: bytes, most: int) -> Steps[list[bytes] | None]:
    """Return the items of an array as they were sent; None when it cannot be cut.

    One bad item does not cost its neighbours: it is given like them. Of more than ``most`` not all are given.
    """
    if len(array) <= _AT_ONCE_BYTES:
        try:
            return [bytes(item) for item in _ITEMS.decode(array)]
        except (msgspec.DecodeError, RecursionError):
            pass
    text = array.decode("latin-1")  # one character a byte, so that positions are the same
    items: list[bytes] = []
    at = paused = _after_space(text, 0)
    separator = "["
    while text[at : at + 1] == separator:
        at = _after_space(text, at + 1)
        if not items and text[at : at + 1] == "]":
            break
        try:
            _, end = _LENIENT.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        items.append(array[at:end])
        if len(items) > most:
            return items
        at = _after_space(text, end)
        separator = ","
        if len(items) % _STEP_PARTS == 0 or at - paused > _STEP_BYTES:
            paused = at
            yield
    whole = text[at : at + 1] == "]" and _after_space(text, at + 1) == len(text)
    return items if whole else None


def is_one_value(text: bytes) -> Steps[bool]:
    """Say whether the first bracket of a text closes with its last one: then it is one value, sound or not."""
    depth = 0
    for number, found in enumerate(_STRING_OR_BRACKET.finditer(text), 1):
        match found[0]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
                if depth == 0:
                    return found.end() == len(text)
            case b'"':  # of a string that does not end on its line
                return False
        if number % _STEP_PARTS == 0:
            yield
    return False


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
