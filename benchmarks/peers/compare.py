"""Whether a peer's documents are what the gateway makes of the same events, field by field."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from benchmarks.expected import documents

A_MILLISECOND = timedelta(milliseconds=1)
OWN_TIME = "received_at"  # everybody's own: it must be there


@dataclass(frozen=True)
class Difference:
    """Documents compared; fields that differ, are missing or were added, and in how many of them."""

    compared: int
    other_index: int
    differ: dict[str, int]
    missing: dict[str, int]
    besides: dict[str, int]

    def __str__(self) -> str:
        found = [f"{self.other_index} in another index"] if self.other_index else []
        for what, fields in (("differ", self.differ), ("missing", self.missing), ("besides", self.besides)):
            if fields:
                found.append(f"{what}: " + ", ".join(f"{name} ({times})" for name, times in sorted(fields.items())))
        if not self.compared:
            return "no document could be compared"
        return (
            f"{'; '.join(found)} of {self.compared:,}" if found else f"the same fields in {self.compared:,} documents"
        )

    def told(self) -> dict[str, Any]:
        """Return it for a result."""
        return {**asdict(self), "said": str(self)}


def compare(made: list[bytes], kept: list[bytes]) -> Difference:
    """Compare the lines of a bulk with what the gateway makes of the lines ``made``."""
    expected = _by_id(documents(made).splitlines())
    differ: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    besides: Counter[str] = Counter()
    compared = other_index = 0
    for event_id, (index, document) in _by_id(kept).items():
        if event_id not in expected:
            continue
        compared += 1
        wanted_index, wanted = expected[event_id]
        other_index += index != wanted_index
        missing.update(wanted.keys() - document.keys())
        besides.update(document.keys() - wanted.keys())
        common = wanted.keys() & document.keys() - {OWN_TIME}
        differ.update(name for name in common if not _same(name, wanted[name], document[name]))
    return Difference(compared, other_index, dict(differ), dict(missing), dict(besides))


def _by_id(lines: list[bytes]) -> dict[str, tuple[str, dict[str, Any]]]:
    found = {}
    for action, source in zip(lines[::2], lines[1::2], strict=True):
        (told,) = json.loads(action).values()
        document = json.loads(source)
        found[str(document.get("event_id"))] = told["_index"], document
    return found


def _same(name: str, wanted: Any, got: Any) -> bool:
    if name == "@timestamp":  # one moment has many spellings, and some keep it as a fraction
        moments = _moment(wanted), _moment(got)
        return moments[0] is not None and moments[1] is not None and abs(moments[0] - moments[1]) <= A_MILLISECOND
    return (type(wanted) is type(got) and wanted == got) or (_number(wanted) and _number(got) and wanted == got)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
