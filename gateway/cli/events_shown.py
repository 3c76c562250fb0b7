"""An event as one line of a terminal: when, what kind, who, and what matters about it."""

from __future__ import annotations

import math
from typing import Any

from rich.text import Text

from gateway.cli.ask import plain
from gateway.telling import tell

_STATES = {"": "", "good": "green", "warn": "yellow", "bad": "red", "soft": "dim"}
_KINDS = {
    "prediction": "cyan", "training": "magenta", "mlflow": "magenta", "quality": "yellow", "log": "blue",
    "label": "green", "operation": "blue", "audit": "blue", "lineage": "magenta", "alert": "red",
}  # fmt: skip
_WIDE = 100
_NARROW = 70


def line(hit: dict[str, Any], prefix: str, width: int | None) -> Text:
    """Return the line of ``{"_index", "_id", "_source"}``, no longer than ``width`` cells; None: whole."""
    fields = hit["_source"]
    kind, who, parts = tell(hit, prefix)
    cells = math.inf if width is None else width
    is_wide = cells >= _WIDE
    shown = Text(end="")
    shown.append(_time(fields, exact=is_wide) + " ", "dim")
    shown.append(f"{_short(plain(kind), 10):10} ", _KINDS.get(kind, ""))
    about = plain(who)
    shown.append(f"{about:24} " if is_wide else f"{_short(about, 20 if cells >= _NARROW else 14)} ", "bold")
    for number, part in enumerate(parts):
        shown.append(("  " if number else "") + plain(part.text), _STATES[part.state])
    if width is not None:
        shown.truncate(width, overflow="ellipsis")
    shown.rstrip()
    return shown


def _time(fields: dict[str, Any], *, exact: bool) -> str:
    """Return the time of an event, with its day where that is not the day on which it came."""
    when, came = (str(fields.get(name) or "") for name in ("@timestamp", "received_at"))
    clock = f"{when[11:23].rstrip('Z'):12}" if exact else when[11:19]
    return plain(clock if when[:10] == came[:10] else f"{when[:10]} {clock}")


def _short(text: str, cells: int) -> str:
    return text if len(text) <= cells else f"{text[: cells - 1]}…"
