"""Figures as people write them; for templates."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gateway.telling import severity

ABSENT = "–"
MOST_CHARACTERS = 10_000


def whole(value: float | None) -> str:
    """Write a count: 1,234,567."""
    return ABSENT if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with about so many digits that matter."""
    if value is None:
        return ABSENT
    if value == 0 or abs(value) >= 10**digits:
        return f"{value:,.0f}"
    text = f"{value:,.{digits}g}"
    return f"{value:.2e}" if "e" in text else text


def fixed(value: float | None, decimals: int = 3) -> str:
    """Write a number with so many decimals, for columns that are compared: 0.850."""
    return ABSENT if value is None else f"{value:,.{decimals}f}"


def share(value: float | None, digits: int = 1) -> str:
    """Write 0.934 as 93.4 %."""
    return ABSENT if value is None else f"{value * 100:.{digits}f} %"


def milliseconds(value: float | None) -> str:
    """Write a duration given in milliseconds: 0.42 ms, 31 ms, 1.2 s, 3 min."""
    if value is None:
        return ABSENT
    if value < 1000:
        return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
    return f"{value / 1000:.1f} s" if value < 120_000 else duration(value / 1000)


def duration(secs: float | None) -> str:
    """Write seconds: 3 s, 5 min 20 s, 12 min, 3 h 5 min, 2 d 4 h."""
    if secs is None or not math.isfinite(secs):  # an average of numbers whose sum is none
        return ABSENT
    if secs < 60:
        return f"{secs:.0f} s"
    if secs < 600:
        minutes, rest = divmod(round(secs), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if secs < 3600:
        return f"{secs / 60:.0f} min"
    hours, minutes = divmod(round(secs / 60), 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def size(count: float | None) -> str:
    """Write bytes: 512 bytes, 3.4 MiB."""
    if count is None:
        return ABSENT
    for unit, each in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= each:
            return f"{count / each:.1f} {unit}"
    return f"{count:.0f} bytes"


def iso(secs: float) -> str:
    """Write seconds since 1970 as `<time>` takes them."""
    return datetime.fromtimestamp(secs, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(text: Any) -> str:
    """Write an ISO time short, until the page shows it in the reader's own zone: 2026-11-21 12:30:01."""
    return str(text)[:19].replace("T", " ")


def document(fields: Any) -> str:
    """Write a document as indented JSON, the beginning of one that is long."""
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}\n… {len(text) - MOST_CHARACTERS:,} more characters"


FILTERS: dict[str, Callable[..., str]] = {
    each.__name__: each
    for each in (whole, number, fixed, share, milliseconds, duration, size, iso, clock, severity, document)
}
