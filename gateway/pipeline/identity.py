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
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_MAX_KEPT = 1000
_MAX_KEPT_BYTES = 200
_EVENT_IDS = [b"8:event_id%d:" % length for length in range(100)]  # what stands before an id of a length


class Identity:
    """Gives each event its `_id`."""

    def __init__(self) -> None:
        """Start a counter of its own."""
        self._counter = int.from_bytes(os.urandom(4), "big")
        self._models: dict[str, bytes] = {}  # as they end what identifies an event

    def of(self, place: bytes, fields: dict[str, Any], data: bytes, now_ms: int) -> bytes:
        """Return the `_id` of an event sent as ``data``, among those of its `place`."""
        event_id = fields.get("event_id")
        if event_id is not None and event_id != "":  # an empty id names nothing: events that share it are not the same
            own = event_id.encode() if type(event_id) is str else str(event_id).encode()
            begins = _EVENT_IDS[len(own)] if len(own) < len(_EVENT_IDS) else b"8:event_id%d:" % len(own)
            model = fields.get("model_name")
            ends = self._models.get(model) if type(model) is str else None
            text = b"".join((place, begins, own, ends or self._of_model(model)))
        elif fields.get("request_id") not in (None, ""):
            own = data[data.find(b"{") : data.rfind(b"}") + 1]
            text = b"".join((place, b"5:bytes%d:" % len(own), own, b"0:"))
        else:
            self._counter = (self._counter + 1) & 0xFFFFFFFF
            drawn = now_ms.to_bytes(6, "big") + _PROCESS + self._counter.to_bytes(4, "big")
            return b2a_base64(drawn, newline=False).translate(_URL_SAFE)
        return b2a_base64(sha256(text).digest()[:15], newline=False).translate(_URL_SAFE)

    def _of_model(self, model: Any) -> bytes:
        part = _part("" if model is None else str(model))
        # To a dict 1 and true are one key; a name may have a million characters.
        if type(model) is str and len(part) < _MAX_KEPT_BYTES:
            if len(self._models) >= _MAX_KEPT:
                self._models.clear()
            self._models[model] = part
        return part


def place(kind: str, day: str, tenant: str | None) -> bytes:
    """Return what the events of a tenant, a kind and a day have in common."""
    return _part(tenant or "") + _part(kind) + _part(day)


def _part(text: str) -> bytes:
    """Put its length before a part, so that no two lists of parts run into the same bytes."""
    part = text.encode()
    return b"%d:%b" % (len(part), part)
