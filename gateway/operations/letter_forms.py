"""What is asked of dead letters, and what is answered, as `/v1/dead-letters` has it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.spool.chosen import HEAD_BYTES, Choice, Group, Held
from gateway.store.query import Query, QueryError

MAX_IDS = 500
_FILTERS = ("reason", "path", "rule", "source", "index", "tenant")
_TIMES = ("from", "to")
_REASONS = ("json", "schema", "clock", "too_large", "cut", "mapping", "sink")
Parameters = Sequence[tuple[str, str]]


def chosen(parameters: Parameters, *others: str) -> tuple[Choice, dict[str, str]]:
    """Return the filters, and what else was given; raise `QueryError` for what makes no sense."""
    ids = [number("id", value, 1 << 62) for name, value in parameters if name == "id"]
    if len(ids) > MAX_IDS:
        raise QueryError(f"id is given {len(ids)} times, the limit is {MAX_IDS}.")
    given: dict[str, str] = {}
    known = sorted({"id", *_FILTERS, *_TIMES, *others})
    for name, value in parameters:
        if name not in known:
            raise QueryError(f"{name!r} is not a parameter: there are {', '.join(known)}.")
        if name in given:
            raise QueryError(f"{name} is given more than once.")
        if name != "id":
            given[name] = value
    if given.get("reason", "json") not in _REASONS:
        raise QueryError(f"reason must be one of {', '.join(_REASONS)}, not {given['reason'][:20]!r}.")
    times = Query(since=given.get("from"), until=given.get("to"))
    since, until = (None if each is None else each / 1e6 for each in (times.since_us, times.until_us))
    reason, path, rule, source, index, tenant = (given.get(name) for name in _FILTERS)
    return Choice(tuple(ids), reason, path, rule, source, index, tenant, since, until), given


def flag(parameters: Parameters, name: str) -> bool:
    """Return a parameter that is true or false, and false when it is not there."""
    value = next((value for given, value in parameters if given == name), "false")
    if value not in ("true", "false"):
        raise QueryError(f"{name} must be true or false, not {value[:20]!r}.")
    return value == "true"


def number(name: str, text: str, most: int = 1 << 62) -> int:
    """Return a parameter that is a number from 1 to ``most``."""
    if not text.isascii() or not text.isdigit() or len(text) > 19 or not 1 <= int(text) <= most:
        raise QueryError(f"{name} must be a number from 1 to {most}, not {text[:20]!r}.")
    return int(text)


def group_json(group: Group, example: Held | None) -> dict[str, Any]:
    """Return a group as the answer has it, with its newest letter."""
    return {
        "reason": group.reason,
        "path": group.path,
        "rule": group.rule,
        "count": group.events,
        "first": _time(group.first),
        "last": _time(group.last),
        "without_bytes": group.without_bytes,
        "example": None if example is None else letter_json(example, head=True),
    }


def letter_json(letter: Held, *, head: bool = False) -> dict[str, Any]:
    """Return a letter as the answers have it; ``head``: with the beginning of its bytes alone, as text."""
    data = letter.data
    shown: dict[str, Any] = {"data": None}
    if data is not None and head:
        # What is cut off within a character is left out.
        whole = letter.data_bytes <= HEAD_BYTES
        shown = {"data": data.decode(errors="replace") if whole else data.decode(errors="ignore")}
    elif data is not None:
        try:
            shown = {"data": data.decode()}
        except UnicodeDecodeError:
            shown = {"data_base64": b64encode(data).decode()}
    return {
        "id": letter.id,
        "at": _time(letter.at),
        **({} if letter.last is None else {"last": _time(letter.last)}),
        "source": letter.source,
        "peer": letter.peer,
        "tenant": letter.tenant,
        "kind": letter.kind,
        "reason": letter.reason,
        "path": letter.path,
        "rule": letter.rule,
        "message": letter.message,
        "index": letter.index,
        "document_id": letter.document_id,
        "events": letter.events,
        "bytes_kept": bool(letter.bytes_kept),
        "data_bytes": letter.data_bytes,
        **shown,
    }


def _time(secs: float) -> str:
    return datetime.fromtimestamp(secs, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
