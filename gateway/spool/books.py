"""The books: every event that came in is somewhere. Keeps promise 6."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from gateway.spool.record import Counts
from gateway.spool.segment import Position


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a sink has come in a folder, and what became of the events up to there.

    ``accepted`` is the running count of the record at the cursor, ``base`` the one at which
    this sink began: accepted - base = indexed + duplicates + dead_letters + skipped + damaged + parked.
    """

    position: Position = field(default_factory=Position)
    sequence: int = 0
    accepted: int = 0
    base: int | None = None
    indexed: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    skipped: int = 0
    damaged: int = 0
    parked: int = 0  # put aside by the sink, to be tried again: they still wait

    def advanced(self, **changes: Any) -> Cursor:
        """Return this cursor with other values."""
        return replace(self, **changes)

    def skipped_to(self, place: Cursor) -> Cursor:
        """Return this cursor moved on to a place, with the events before it skipped; itself when it is there."""
        if place.position <= self.position:
            return self
        return self.advanced(
            position=place.position,
            sequence=max(self.sequence, place.sequence),
            accepted=max(self.accepted, place.accepted),
            skipped=self.skipped + max(0, place.accepted - self.accepted),
        )


def sink_books(cursor: Cursor, accepted: int) -> tuple[dict[str, int], int]:
    """Return a sink's books and the difference, given all ``accepted`` events of the folder."""
    base = accepted if cursor.base is None else cursor.base
    behind = accepted - (cursor.accepted if cursor.base is not None else accepted)
    books = {
        "indexed": cursor.indexed,
        "duplicates": cursor.duplicates,
        "waiting": behind + cursor.parked,
        "dead_letters": cursor.dead_letters,
        "skipped": cursor.skipped,
        "damaged": cursor.damaged,
    }
    return books, accepted - base - sum(books.values())


def total(counts: dict[str, Counts]) -> Counts:
    """Return the sums over all sources."""
    result = Counts()
    for each in counts.values():
        result = result.plus(each)
    return result
