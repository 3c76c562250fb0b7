"""What is said about an event that does not fit its schema."""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_JSON = json.JSONEncoder(ensure_ascii=False, default=str)
_MAX_VALUE_CHARACTERS = 100
_MAX_PATH_CHARACTERS = 500  # a name may have a million, and a path is kept in many places
# Comparing names is slow, and an event may have a hundred thousand.
_MAX_NAMES_COMPARED = 200
_MAX_KEYS_COMPARED = 50  # each with several names
_MAX_KEY_CHARACTERS = 50


class Fault(NamedTuple):
    """Where an event breaks which rule, and what it says there."""

    path: str
    rule: str
    message: str
    value: str
    hint: str | None = None


def first_faults(error: ValidationError, events: list[dict[str, Any]], known_names: Iterable[str]) -> dict[int, Fault]:
    """Give the first fault of each event that has one, by its position in the block."""
    faults: dict[int, Fault] = {}
    for details in error.errors(include_url=False, include_context=False):
        position, *steps = details["loc"]
        if isinstance(position, int) and position not in faults:
            faults[position] = _fault(details, steps, events[position], known_names)
    return faults


def _fault(details: ErrorDetails, steps: list[int | str], event: dict[str, Any], known_names: Iterable[str]) -> Fault:
    missing = details["type"] == "missing"
    return Fault(
        path=json_path(steps),
        rule=details["type"],
        message=details["msg"],
        value="" if missing else json_text(details["input"]),
        hint=_did_you_mean(str(steps[-1]), event, known_names) if missing else None,
    )


def json_path(steps: Iterable[int | str]) -> str:
    """Spell a path as JSONPath: `$.metrics.rmse`, `$.inputs[2]`, `$['a.b']`; the beginning of one that is long."""
    path = "$" + "".join(_step(step) for step in steps)
    return path if len(path) <= _MAX_PATH_CHARACTERS else f"{path[: _MAX_PATH_CHARACTERS - 1]}…"


def _step(step: int | str) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if _PLAIN_NAME.fullmatch(step):
        return f".{step}"
    escaped = step.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{escaped}']"


def json_text(value: Any) -> str:
    """Give the value as JSON, cut at 100 characters without encoding the rest of a large one."""
    if isinstance(value, str):
        return _JSON.encode(value[:_MAX_VALUE_CHARACTERS])[:_MAX_VALUE_CHARACTERS]
    text = ""
    for piece in _JSON.iterencode(value):
        text += piece[:_MAX_VALUE_CHARACTERS]
        if len(text) >= _MAX_VALUE_CHARACTERS:
            break
    return text[:_MAX_VALUE_CHARACTERS]


def misspelt(event: Iterable[str], names: tuple[str, ...]) -> str | None:
    """Say which key of the event is nearly one of the names; of several, for the first name."""
    keys = (key for key in islice(event, _MAX_KEYS_COMPARED) if key not in names and len(key) <= _MAX_KEY_CHARACTERS)
    found = [(names.index(near), key) for key in keys if (near := _nearest(key, names)) is not None]
    if not found:
        return None
    at, key = min(found)
    return _question(key, names[at])


@lru_cache(maxsize=4096)  # the events of one sender have the same keys
def _nearest(key: str, names: tuple[str, ...]) -> str | None:
    return next(iter(get_close_matches(key.casefold(), names, n=1, cutoff=0.75)), None)


def _did_you_mean(name: str, event: dict[str, Any], known_names: Iterable[str]) -> str | None:
    known = set(known_names)
    candidates = (key for key in event if key not in known and len(key) <= 2 * len(name))
    by_folded = {key.casefold(): key for key in islice(candidates, _MAX_NAMES_COMPARED)}
    close = get_close_matches(name, by_folded, n=1)
    return _question(by_folded[close[0]], name) if close else None


def _question(sent: str, meant: str) -> str:
    return f'"{sent}" was sent: did you mean "{meant}"?'
