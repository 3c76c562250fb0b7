"""What makes two events the same: their `_id`. Keeps promise 3.

An `_id` is 15 bytes as 20 characters of URL-safe base64. With an `event_id`, or a
`request_id`, it is the beginning of a SHA-256 over tenant, kind, index day and what
identifies the event, so that it is the same in every process and after every restart.
Otherwise it is drawn new: time of receipt, a random part of this process, a counter.
"""

from __future__ import annotations

import hashlib
import os
from base64 import urlsafe_b64encode
from typing import Any

_PROCESS = os.urandom(5)
_NOT_SET = (None, "")  # an empty id names nothing: events that share it are not the same


class Identity:
    """Gives each event its `_id`."""

    def __init__(self) -> None:
        """Start a counter of its own."""
        self._counter = int.from_bytes(os.urandom(4), "big")

    def of(self, kind: str, day: str, tenant: str | None, fields: dict[str, Any], data: bytes, now_ms: int) -> str:
        """Return the `_id` of an event of ``kind`` in the index of ``day``, sent as ``data``."""
        event_id = fields.get("event_id")
        if event_id not in _NOT_SET:
            model = fields.get("model_name")
            parts = (b"event_id", str(event_id).encode(), b"" if model is None else str(model).encode())
        elif fields.get("request_id") not in _NOT_SET:
            parts = (b"bytes", data[data.find(b"{") : data.rfind(b"}") + 1], b"")
        else:
            self._counter = (self._counter + 1) & 0xFFFFFFFF
            return _text(now_ms.to_bytes(6, "big") + _PROCESS + self._counter.to_bytes(4, "big"))
        # Each part is preceded by its length, so that no two lists of parts run into the same bytes.
        digest = hashlib.sha256()
        for part in ((tenant or "").encode(), kind.encode(), day.encode(), *parts):
            digest.update(b"%d:" % len(part))
            digest.update(part)
        return _text(digest.digest()[:15])


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode()
