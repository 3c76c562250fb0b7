"""The books of a client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stats:
    """How many events are where: sent + recovered = acknowledged + rejected + waiting + overflowed + lost."""

    sent: int = 0
    """Taken by `send`."""
    recovered: int = 0
    """Left in the overflow file by an earlier process, and settled by this one."""
    acknowledged: int = 0
    """On the gateway's disk."""
    rejected: int = 0
    """Refused by the gateway, which keeps them as dead letters."""
    waiting: int = 0
    """In memory, also those on their way."""
    overflowed: int = 0
    """In the overflow file; those of an earlier process are not counted before they are settled."""
    lost: int = 0
    """Neither sent nor kept, and told in the log: no room for a handler's record, or at the end; a torn line."""
    overflow_bytes: int = 0
    """Bytes in the overflow file, those of an earlier process included."""
    connected: bool = False
    """Whether the gateway listens and acknowledges at the moment."""
    last_error: str | None = None
    """Why nothing is acknowledged at the moment, in a sentence; None when all is well."""
