"""What a sender that asks for acknowledgements says and is told, without I/O."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from gateway.access import Keys
from gateway.pipeline.block import Refusal

MAX_HELLO_BYTES = 4096
MAX_REJECTED = 100  # in a message
MAX_CHARACTERS = 1000  # of a message
READY = b'{"ack":"ready"}\n'


class Answer(NamedTuple):
    """What a connection that said hello is told."""

    message: bytes
    accepted: bool
    tenant: str | None = None


def greet(line: bytes, keys: Keys, *, key_required: bool) -> Answer | None:
    """Answer a connection's first line; None when it is a line like any other, and nothing is said."""
    said = _hello(line)
    if said is None:
        return refuse("Nothing is taken without a key.") if key_required else None
    if not keys:
        return Answer(READY, accepted=True)
    given = said.get("key")
    key = keys.find(given.encode()) if isinstance(given, str) else None
    if key is None:
        return refuse("A key is needed." if given is None else "This key is not one of http.api_keys.")
    return Answer(READY, accepted=True, tenant=key.tenant)


def refuse(why: str) -> Answer:
    """Return the answer to a connection that is not listened to."""
    message = f'{why} Begin with the line {{"ack":true,"key":"KEY"}} and a key of http.api_keys.'
    return Answer(_line({"ack": "refused", "message": message}), accepted=False)


def acknowledged(before: int, count: int, refusals: list[Refusal]) -> bytes:
    """Return what is told of a block that is on disk: its ``count`` lines follow ``before`` earlier ones."""
    rejected: list[dict[str, Any]] = []
    for each in refusals[:MAX_REJECTED]:
        entry: dict[str, Any] = {"line": before + each.line + 1}
        if each.item is not None:
            entry["index"] = each.item
        rejected.append(entry | {"path": each.path, "rule": each.rule, "message": each.told[:MAX_CHARACTERS]})
    told: dict[str, Any] = {"acked": before + count, "rejected": rejected}
    if len(refusals) > MAX_REJECTED:
        told["omitted"] = len(refusals) - MAX_REJECTED
    return _line(told)


def _hello(line: bytes) -> dict[str, Any] | None:
    """Return what a line holds that asks for acknowledgements: ``ack`` and perhaps ``key``, nothing else."""
    if len(line) > MAX_HELLO_BYTES or b'"ack"' not in line:
        return None
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    is_hello = isinstance(said, dict) and said.get("ack") is True and said.keys() <= {"ack", "key"}
    return said if is_hello else None


def _line(said: dict[str, Any]) -> bytes:
    return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)
