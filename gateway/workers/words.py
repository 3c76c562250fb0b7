"""What the owner and a receiver say to each other, over a pair of sockets that only they have."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, cast

import msgspec

from gateway.spool.record import Counts
from gateway.spool.segment import Position

_LENGTH = struct.Struct("<I")


class Word(msgspec.Struct, tag=True, array_like=True):
    """One message."""


# Said by a receiver.


class Opened(Word):
    """Its folder is open: all segments with their sizes, the end, the running counts."""

    closed: dict[int, int]
    end: Position
    counts: dict[str, Counts]


class Wrote(Word):
    """A group is synced; told before any of its senders is. ``closed``: the segment before, when there is a new one."""

    closed: dict[int, int]
    end: Position
    counts: dict[str, Counts]
    appended: int  # bytes since its start


class Listening(Word):
    """It accepts connections."""


class Unable(Word):
    """It cannot work, and ends."""

    why: str


class Live(Word):
    """How its sources stand, and why its folder cannot be written."""

    sources: dict[str, dict[str, Any]]
    failure: str | None


class Metrics(Word):
    """By how much its counters rose."""

    risen: list[tuple[str, dict[str, str], float]]


class Logged(Word):
    """A line for the log."""

    logger: str
    level: int
    words: dict[str, Any]


# Said by both.


class Spent(Word):
    """A tenant's bytes were taken: the rate limit holds over all processes."""

    tenant: str | None
    size: int


# Said by the owner.


class Begin(Word):
    """The settings, pickled, and how many receivers there are."""

    settings: bytes
    receivers: int


class Grant(Word):
    """Up to so many `appended` bytes may be written, and why no more."""

    upto: int
    why: str


class Others(Word):
    """Connections of each source to other receivers, and how many receivers work."""

    connections: dict[str, int]
    receivers: int


class Stop(Word):
    """Finish what was read, and end."""


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(
    Opened | Wrote | Listening | Unable | Live | Metrics | Logged | Spent | Begin | Grant | Others | Stop
).decode


class Channel(asyncio.Protocol):
    """One end. Words are handled as they arrive, without a task, so that one said before an answer is heard before."""

    def __init__(self, hear: Callable[[Word], None], lost: Callable[[], None]) -> None:
        """``lost`` is called when the other end is no more."""
        self._hear = hear
        self._lost = lost
        self._rest = b""
        self._transport: asyncio.WriteTransport | None = None

    def say(self, word: Word) -> None:
        """Send a word; to nobody, when the other end is no more."""
        if self._transport is not None and not self._transport.is_closing():
            data = _ENCODE(word)
            self._transport.write(_LENGTH.pack(len(data)) + data)

    def close(self) -> None:
        """Say and hear nothing more."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        at = 0
        while at + _LENGTH.size <= len(data):
            end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
            if end > len(data):
                break
            self._hear(_DECODE(data[at + _LENGTH.size : end]))
            at = end
        self._rest = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()
