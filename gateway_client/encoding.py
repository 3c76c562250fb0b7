"""An event to the line it is sent as."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4


def encode(event: Mapping[str, Any], secs: float | None = None) -> bytes:
    """Return an event as one line of JSON with its line end; the mapping stays as it is.

    Where it has none, ``event_id`` and ``timestamp`` are added: by them a gateway recognises an event that
    is sent again. ``secs`` is when it happened, seconds since 1970; None is now.
    TypeError and ValueError name the field that JSON cannot hold.
    """
    if not isinstance(event, Mapping):
        raise TypeError(f"An event is a mapping such as {{'model_name': 'churn'}}, not {_kind(event)}.")
    fields = dict(event)
    if fields.get("event_id") is None or fields["event_id"] == "":
        fields["event_id"] = uuid4().hex
    if fields.get("timestamp") is None and fields.get("@timestamp") is None:
        fields["timestamp"] = _utc(secs)
    if fields.get("type") == "label" and fields.get("labelled_at") is None:
        fields["labelled_at"] = _utc(secs)  # decides a label's day: without it a re-send may be another label
    try:
        return _ENCODER.encode(fields).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise _told(fields) or error from None


def decode(line: bytes) -> dict[str, Any]:
    """Return the event of a line; a line that is none, as a damaged file may hold, is given as `line`."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    return event if isinstance(event, dict) else {"line": line.decode(errors="replace")}


def _utc(secs: float | None) -> str:
    when = datetime.now(UTC) if secs is None else datetime.fromtimestamp(secs, UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value it cannot; TypeError when there is nothing."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    item = getattr(value, "item", None)  # the scalars of NumPy, PyTorch and their like
    if not callable(item):
        raise TypeError
    return item()


# ASCII alone would let half a character pass, which the gateway refuses.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


def _told(fields: dict[str, Any]) -> TypeError | ValueError | None:
    try:
        return _mistake(fields, "$")
    except RecursionError:
        return ValueError("The event is nested too deep, or holds itself: JSON cannot hold that.")


def _mistake(value: Any, path: str) -> TypeError | ValueError | None:
    """Return what is wrong, found by looking at each part."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if not isinstance(key, (str, int, float, type(None))):
                return TypeError(f"{path} has a key that is {_kind(key)}: keys of JSON are strings.")
            if found := _mistake(each, f"{path}.{key}"):
                return found
        return None
    if isinstance(value, (list, tuple)):
        return next((found for at, each in enumerate(value) if (found := _mistake(each, f"{path}[{at}]"))), None)
    try:
        _ENCODER.encode(value).encode()
    except UnicodeEncodeError:
        return ValueError(f"{path} holds half a character, which no text may: clean it with encode(errors='replace').")
    except Exception:
        try:
            number = value if isinstance(value, float) else _plain(value)
            if math.isnan(number) or math.isinf(number):
                return ValueError(f"{path} is {number}, which JSON does not have: leave it out, or send None.")
        except Exception:  # noqa: S110 - then it is no number
            pass
        return TypeError(f"{path} is {_kind(value)}, which JSON cannot hold: send a string, numbers or a list of them.")
    return None


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
