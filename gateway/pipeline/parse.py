"""Lines to JSON objects, or the reason why not."""

from __future__ import annotations

import json
import re
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
_INFINITE = (float("inf"), float("-inf"))


class Event(NamedTuple):
    """One JSON object and the bytes it was sent as."""

    line: int
    item: int | None
    data: bytes
    fields: dict[str, Any]


def parse(lines: list[bytes], first: int, max_bytes: int) -> tuple[list[Event], list[Refusal]]:
    """Return the events of the lines and the refusals; blank lines are neither.

    ``first`` is the number of the first line. An event longer than ``max_bytes`` is refused.
    """
    events: list[Event] = []
    refused: list[Refusal] = []

    def take(number: int, item: int | None, data: bytes, value: Any) -> None:
        if type(value) is dict:
            events.append(_event(number, item, data, value))
        elif isinstance(value, orjson.JSONDecodeError):
            refused.append(_not_json(number, item, data, value))
        else:
            refused.append(_not_an_object(number, item, data, value))

    for number, line in enumerate(lines, first):
        if not line or line.isspace():
            continue
        if len(line) > max_bytes and _is_too_long(line, max_bytes):
            refused.append(too_large(number, None, line, len(line), max_bytes))
            continue
        text = line.removeprefix(BOM)
        if text.lstrip()[:1] == b"[" and (items := items_of(text)) is not None:
            if len(items) > MAX_ITEMS:
                message = f"The array has {len(items)} events, the limit is {MAX_ITEMS} a line: send it in parts."
                head = line[:KEPT_BYTES]
                refused.append(Refusal(number, None, "too_large", "$", "too_large", message, "", None, head, len(line)))
                continue
            for item, data in enumerate(items):
                if len(data) > max_bytes:
                    refused.append(too_large(number, item, data, len(data), max_bytes))
                else:
                    take(number, item, data, _read(data))
        elif text and not text.isspace():
            take(number, None, line, _read(text))
    return events, refused


def _read(data: bytes) -> Any:
    """Return the value, or the error why there is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return error


def _is_too_long(line: bytes, max_bytes: int) -> bool:
    """The limit is an event's: items of an array are measured one by one, and a line end is not counted."""
    event = line.removeprefix(BOM).strip()
    return len(event) > max_bytes and event[:1] != b"["


def _event(number: int, item: int | None, data: bytes, fields: dict[str, Any]) -> Event:
    if type(fields.get("event_id")) is float:
        # A whole number beyond 64 bits was rounded: then two ids would be one and an event lost.
        with suppress(RecursionError):  # so deep it is refused later
            fields["event_id"] = json.loads(data.removeprefix(BOM), parse_int=str)["event_id"]
    return Event(number, item, data, fields)


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


class _NotFinite(float):
    """A number that JSON does not have, as it was written."""

    text: str


def _not_finite(data: bytes) -> tuple[str, str] | None:
    """Return path and text of the first NaN, Infinity or too large number; None when that is not the trouble."""

    def keep(text: str) -> _NotFinite:
        number = _NotFinite(text.replace("Infinity", "inf"))
        number.text = text
        return number

    def keep_large(text: str) -> float:
        number = float(text)
        return keep(text) if number in _INFINITE else number

    try:
        value = json.loads(data, parse_constant=keep, parse_float=keep_large, parse_int=keep_large)
    except (ValueError, RecursionError):
        return None
    trail: list[tuple[tuple[int | str, ...], Any]] = [((), value)]
    while trail:
        steps, value = trail.pop()
        if isinstance(value, _NotFinite):
            # A name may hold half a character, which nothing that is written could hold.
            return json_path(steps).encode(errors="replace").decode(), value.text
        if isinstance(value, dict):
            trail += [((*steps, key), each) for key, each in reversed(value.items())]
        elif isinstance(value, list):
            trail += [((*steps, at), each) for at, each in reversed(list(enumerate(value)))]
    return None
