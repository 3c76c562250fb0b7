"""Lines to JSON objects, or the reason why not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from gateway.pipeline.block import Refusal
from gateway.pipeline.items import items_of
from schemas.fault import json_path, json_text

BOM = b"\xef\xbb\xbf"
MAX_ITEMS = 20_000  # of an array on a line: one line is one step of work
KEPT_BYTES = 4096  # of an event that is too large
_TLS_HELLO = b"\x16\x03"
_HTTP_REQUEST = re.compile(rb"[A-Z]{3,10} \S+ HTTP/1\.[01]\s*")
# Of one step: a millisecond or two of work.
STEP_BYTES = 32 * 1024
STEP_EVENTS = 200
STEP_BLANKS = 1000
# Of events that are taken at once in one step: what each costs beyond its bytes counts as bytes too.
QUICK_STEP_BYTES = 256 * 1024
QUICK_EVENT_BYTES = 512


class Event(NamedTuple):
    """One JSON object and the bytes it was sent as."""

    line: int
    item: int | None
    data: bytes
    fields: dict[str, Any]


Take = Callable[[list[bytes], int, int, int | None], tuple[int, int]]
"""Is asked to take events, as bytes, from the one of a number on; stops where it cannot take one, or at about so many
bytes. The last argument is the line of an array whose items they are; None: each is a line. Returns the number of the
first that it did not take, and how many bytes it took, with `QUICK_EVENT_BYTES` for each event.
"""


class Parser:
    """Reads the lines of a block, a part of them at a time.

    Blank lines are neither events nor refused. An event longer than ``max_bytes`` is refused. What `Take` takes is not
    read here.
    """

    def __init__(self, lines: list[bytes], max_bytes: int, take: Take | None = None) -> None:
        self._pieces = _pieces(lines, max_bytes, take or _take_none)
        self.done = False

    def step(self) -> tuple[list[Event], list[Refusal]]:
        """Return the next events and refusals: as many as do not hold up others for long."""
        events: list[Event] = []
        refused: list[Refusal] = []
        size = 0
        for piece in self._pieces:
            if isinstance(piece, Event):
                events.append(piece)
            elif piece is not None:
                refused.append(piece)
            else:  # nothing is found for a while
                break
            size += len(piece.data)
            if size >= STEP_BYTES or len(events) + len(refused) >= STEP_EVENTS:
                break
        else:
            self.done = True
        return events, refused


def _take_none(events: list[bytes], first: int, room: int, line: int | None) -> tuple[int, int]:
    return first, 0


class _Left:
    """What `Take` leaves."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._room = QUICK_STEP_BYTES

    def of(self, events: list[bytes], line: int | None) -> Iterator[int | None]:
        """Yield the number of each event that is left, and None now and then while none is."""
        at = 0
        while at < len(events):
            at, taken = self._take(events, at, self._room, line)
            self._room -= taken
            if self._room <= 0:
                self._room = QUICK_STEP_BYTES
                yield None
            elif at < len(events):
                yield at
                at += 1


def _pieces(lines: list[bytes], max_bytes: int, take: Take) -> Iterator[Event | Refusal | None]:
    """Yield each event or the refusal of it, and None now and then while nothing is found."""
    left = _Left(take)
    for number in left.of(lines, None):
        if number is None:
            yield None
            continue
        line = lines[number]
        if not line or line.isspace():
            if number % STEP_BLANKS == 0:
                yield None
            continue
        if len(line) > max_bytes and _is_too_long(line, max_bytes):
            yield too_large(number, None, line, len(line), max_bytes)
            continue
        text = line.removeprefix(BOM)
        if text.lstrip()[:1] == b"[" and (items := (yield from items_of(text, MAX_ITEMS))) is not None:
            if len(items) > MAX_ITEMS:
                message = f"The array has more than {MAX_ITEMS} events: send it in parts."
                head = line[:KEPT_BYTES]
                yield Refusal(number, None, "too_large", "$", "too_large", message, "", None, head, len(line))
                continue
            for item in left.of(items, number):
                if item is None:
                    yield None
                elif len(items[item]) > max_bytes:
                    yield too_large(number, item, items[item], len(items[item]), max_bytes)
                else:
                    yield _piece(number, item, items[item], items[item])
        elif text and not text.isspace():
            yield _piece(number, None, line, text)


def _piece(number: int, item: int | None, data: bytes, text: bytes) -> Event | Refusal:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _not_json(number, item, data, error)
    if type(value) is not dict:
        return _not_an_object(number, item, data, value)
    if type(value.get("event_id")) is float:
        # A whole number beyond 64 bits was rounded: then two ids would be one and an event lost.
        with suppress(RecursionError):  # so deep it is refused later
            value["event_id"] = json.loads(text, parse_int=str)["event_id"]
    return Event(number, item, data, value)


def _is_too_long(line: bytes, max_bytes: int) -> bool:
    """The limit is an event's: items of an array are measured one by one, and a line end is not counted."""
    event = line.removeprefix(BOM).strip()
    return len(event) > max_bytes and event[:1] != b"["


def too_large(line: int, item: int | None, data: bytes, data_bytes: int, max_bytes: int) -> Refusal:
    """Return the refusal of an event over the limit."""
    message = f"The event has {data_bytes} bytes, the limit is {max_bytes} (tcp.max_line_bytes)."
    return Refusal(line, item, "too_large", "$", "too_large", message, "", None, data[:KEPT_BYTES], data_bytes)


def _refusal(
    line: int,
    item: int | None,
    data: bytes,
    rule: str,
    message: str,
    value: str = "",
    hint: str | None = None,
    path: str = "$",
) -> Refusal:
    return Refusal(line, item, "json", path, rule, message, value[:100], hint, data, len(data))


def _not_an_object(line: int, item: int | None, data: bytes, value: Any) -> Refusal:
    message = 'An event is a JSON object, such as {"model_name": "fraud"}.'
    return _refusal(line, item, data, "not_an_object", message, json_text(value))


def _not_json(line: int, item: int | None, data: bytes, error: orjson.JSONDecodeError) -> Refusal:
    text = data.removeprefix(BOM)
    try:
        text.decode()
    except UnicodeDecodeError as broken:
        message = f"Not valid UTF-8: {broken.reason}, at byte {broken.start}."
        return _refusal(line, item, data, "utf8_invalid", message, hint=_wrong_port(text))
    if b"NaN" in text or b"Infinity" in text or "infinity" in error.msg:
        found = _not_finite(text)
        if found is not None:
            path, value = found
            message = f"{value[:100]} is not a JSON number."
            return _refusal(line, item, data, "not_finite", message, value, "Leave the field out, or send null.", path)
    value = error.doc[max(0, error.pos - 20) : error.pos + 20]
    message = f"Not valid JSON: {error.msg}, at character {error.pos}."
    hint = _wrong_port(text)
    if error.msg.startswith("unexpected content") and error.doc[error.pos :].lstrip(", ").startswith(("{", "[")):
        hint = "Send one event a line, or an array. curl -d takes out the line ends: use --data-binary."
    return _refusal(line, item, data, "json_invalid", message, value, hint)


def _wrong_port(text: bytes) -> str | None:
    """Say where a line belongs that is the beginning of another protocol."""
    if text.startswith(_TLS_HELLO):
        return "This is TLS: send it to tcp.tls_port."
    return "This is HTTP: send it to http.port." if _HTTP_REQUEST.fullmatch(text) else None


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _not_finite(data: bytes) -> tuple[str, str] | None:
    """Return path and text of the first NaN, Infinity or too large number; None when that is not the trouble."""
    try:
        value = json.loads(data, parse_constant=_Number, parse_float=_Number, parse_int=_Number)
    except (ValueError, RecursionError):
        return None
    path: list[int | str] = []
    levels: list[Iterator[tuple[int | str, Any]]] = [iter([("", value)])]
    while levels:
        for step, each in levels[-1]:
            kind = type(each)
            if kind is _Number:
                if not math.isfinite(float(each)):
                    # A name may hold half a character, which nothing that is written could hold.
                    return json_path([*path, step][1:]).encode(errors="replace").decode(), str(each)
            elif each and (kind is dict or kind is list):
                path.append(step)
                levels.append(iter(each.items()) if kind is dict else enumerate(each))
                break
        else:
            levels.pop()
            del path[-1:]
    return None
