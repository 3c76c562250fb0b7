"""What makes two events the same: their `_id`. Keeps promise 3.

An `_id` is 15 bytes as 20 characters of URL-safe base64. With an `event_id`, or a
`request_id`, it is the beginning of a SHA-256 over tenant, kind, index day and what
identifies the event, so that it is the same in every process and after every restart.
Otherwise it is drawn new: time of receipt, a random part of this process, a counter.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from hashlib import sha256
from typing import Any

_PROCESS = os.urandom(5)
_NOT_SET = (None, "")  # an empty id names nothing: events that share it are not the same
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_MAX_KEPT = 1000
_MAX_KEPT_BYTES = 200


class Identity:
    """Gives each event its `_id`."""

    def __init__(self) -> None:
        """Start a counter of its own."""
        self._counter = int.from_bytes(os.urandom(4), "big")
        # Of what many events have in common: the hash so far, and what follows of their model.
        self._begun: dict[tuple[str, str, str | None, int], Any] = {}
        self._models: dict[str, bytes] = {}

    def of(self, kind: str, day: str, tenant: str | None, fields: dict[str, Any], data: bytes, now_ms: int) -> bytes:
        """Return the `_id` of an event of ``kind`` in the index of ``day``, sent as ``data``."""
        event_id = fields.get("event_id")
        if event_id not in _NOT_SET:
            own = str(event_id).encode()
            key = kind, day, tenant, len(own)
            begun = self._begun.get(key)
            if begun is None:
                begun = _keep(self._begun, key, _begin(kind, day, tenant, b"event_id", own))
            model = fields.get("model_name")
            digest = begun.copy()
            digest.update(own + ((type(model) is str and self._models.get(model)) or self._of_model(model)))
        elif fields.get("request_id") not in _NOT_SET:
            own = data[data.find(b"{") : data.rfind(b"}") + 1]
            digest = _begin(kind, day, tenant, b"bytes", own)
            digest.update(own + b"0:")
        else:
            self._counter = (self._counter + 1) & 0xFFFFFFFF
            drawn = now_ms.to_bytes(6, "big") + _PROCESS + self._counter.to_bytes(4, "big")
            return b2a_base64(drawn, newline=False).translate(_URL_SAFE)
        return b2a_base64(digest.digest()[:15], newline=False).translate(_URL_SAFE)

    def _of_model(self, model: Any) -> bytes:
        part = _part(b"" if model is None else str(model).encode())
        # To a dict 1 and true are one key; a name may have a million characters.
        return _keep(self._models, model, part) if type(model) is str and len(part) < _MAX_KEPT_BYTES else part


def _begin(kind: str, day: str, tenant: str | None, rule: bytes, own: bytes) -> Any:
    """Begin a hash with all that precedes what is an event's ``own``."""
    parts = (*map(str.encode, (tenant or "", kind, day)), rule)
    return sha256(b"".join(map(_part, parts)) + b"%d:" % len(own))


def _part(part: bytes) -> bytes:
    """Put its length before a part, so that no two lists of parts run into the same bytes."""
    return b"%d:%b" % (len(part), part)


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> Any:
    if len(kept) >= _MAX_KEPT:
        kept.clear()
    kept[key] = value
    return value
