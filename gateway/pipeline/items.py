"""JSON cut into the bytes of its parts, also where a part is not sound."""

from __future__ import annotations

import json
import re

import msgspec

_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_SPACE = re.compile(r"[ \t\r\n]*")
# Takes NaN, Infinity, numbers of any length and what is not UTF-8: the verdict on each part is given later.
_LENIENT = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)


def items_of(array: bytes) -> list[bytes] | None:
    """Return the items of an array as they were sent; None when it cannot be cut.

    One bad item does not cost its neighbours: it is given like them.
    """
    try:
        return [bytes(item) for item in _ITEMS.decode(array)]
    except (msgspec.DecodeError, RecursionError):
        return _cut(array)


def is_one_value(data: bytes) -> bool:
    """Whether the bytes are one JSON value, sound or not, and not several."""
    text = data.decode("latin-1")
    try:
        _, end = _LENIENT.raw_decode(text, _after_space(text, 0))
    except (ValueError, RecursionError):
        return False
    return _after_space(text, end) == len(text)


def _cut(array: bytes) -> list[bytes] | None:
    text = array.decode("latin-1")  # one character a byte, so that positions are the same
    items: list[bytes] = []
    at = _after_space(text, 0)
    separator = "["
    while text[at : at + 1] == separator:
        at = _after_space(text, at + 1)
        try:
            _, end = _LENIENT.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        items.append(array[at:end])
        at = _after_space(text, end)
        separator = ","
    whole = text[at : at + 1] == "]" and _after_space(text, at + 1) == len(text)
    return items if whole else None


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
