"""What a source hands in, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Broken(NamedTuple):
    """A line that the source itself could not take whole."""

    line: int
    reason: str  # too_large or cut
    message: str
    data: bytes  # its beginning
    data_bytes: int  # its whole length as far as it was seen


@dataclass(slots=True)
class Block:
    """Events as they came, a line each (an array is one line), in order."""

    source: str
    peer: str
    lines: list[bytes]
    tenant: str | None = None
    broken: list[Broken] = field(default_factory=list)
    kind: str | None = None  # what all of them are, whatever they say
    peers: list[str] | None = None  # of each line, where `peer` is only that of the first

    def peer_of(self, line: int) -> str:
        """Return who sent a line."""
        return self.peer if self.peers is None else self.peers[line]


class Refusal(NamedTuple):
    """Why an event was not taken. ``line`` counts from 0 in the block; ``item`` in an array."""

    line: int
    item: int | None
    reason: str
    path: str
    rule: str
    message: str
    value: str
    hint: str | None
    data: bytes
    data_bytes: int

    @property
    def told(self) -> str:
        """The message, and the hint if there is one: for those who are told in one sentence."""
        return self.message if self.hint is None else f"{self.message} {self.hint}"


class Receipt(NamedTuple):
    """What became of a block that is now on disk."""

    accepted: int
    refusals: list[Refusal]
