"""Puts dead letters into their table and takes them out. Keeps promises 2 and 5.

A row is a letter. At `dead_letters.max_bytes` a refusal finds its place without its bytes, in one row for all
of the same reason, path and rule (``events`` says how many), so that the table has a bound.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Literal, NamedTuple

from msgspec.structs import replace

from gateway.errors import GatewayError
from gateway.spool.record import DeadLetter

ROW_BYTES = 256  # what a row and its places in the indices take besides texts and bytes
MAX_FOLDED = 1000  # rows of letters without bytes; further paths are kept as `$`
_FOLDED = "folded/"
_COST = f"{ROW_BYTES} + length(CAST(message AS BLOB)) + 2 * length(CAST(path AS BLOB)) + coalesce(length(data), 0)"


NO_ROOM = (
    "There is no more room for dead letters and parked documents (dead_letters.max_bytes): the sink stops until "
    "a troubled index takes its documents, dead letters are replayed or dropped (gateway dead-letters), or that limit "
    "is raised and the gateway restarted."
)


class NoRoom(GatewayError):
    """A sink's dead letters do not fit into `dead_letters.max_bytes`."""


class Letter(NamedTuple):
    """A dead letter to keep. ``origin`` says where it came from, so that it is kept once.

    A sink's letter names the ``index`` and the ``id`` of its document.
    """

    origin: str
    letter: DeadLetter
    index: str | None = None  # type: ignore[assignment]  # hides a tuple's method
    id: str | None = None

    @property
    def cost(self) -> int:
        """Bytes that it takes of `dead_letters.max_bytes`."""
        letter = self.letter
        return ROW_BYTES + len(letter.message.encode()) + 2 * len(letter.path.encode()) + len(letter.data)


class Shelf:
    """Puts letters into the table and takes them out, within the caller's transaction, and knows the sums."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.events: int
        self.bytes: int
        self.events, self.bytes = db.execute(
            f"SELECT coalesce(sum(events), 0), coalesce(sum({_COST}), 0) FROM letters"  # noqa: S608
        ).fetchone()
        self._folded = frozenset(
            origin
            for (origin,) in db.execute("SELECT origin FROM letters WHERE origin BETWEEN 'folded/' AND 'folded0'")
        )

    @property
    def sums(self) -> tuple[int, int, frozenset[str]]:
        """What a transaction that is taken back has to put back."""
        return self.events, self.bytes, self._folded

    @sums.setter
    def sums(self, sums: tuple[int, int, frozenset[str]]) -> None:
        self.events, self.bytes, self._folded = sums

    def keep(self, item: Letter, room: int) -> int:
        """Keep a letter, unless its origin is there; return how many events are kept without their bytes.

        A sink's letters are acknowledged events: the sink makes sure of room beforehand.
        """
        if item.index is None and item.cost > room:
            return self._fold(item)
        self._insert(item, kept=True)
        return 0

    def remove(self, column: Literal["origin", "id"], values: Iterable[str | int]) -> int:
        """Remove letters, return how many events."""
        before = self.events
        for value in values:
            row = self._db.execute(
                f"SELECT events, {_COST}, origin FROM letters WHERE {column} = ?",  # noqa: S608
                (value,),
            ).fetchone()
            if row is not None:
                self._db.execute(f"DELETE FROM letters WHERE {column} = ?", (value,))  # noqa: S608
                self.events -= row[0]
                self.bytes -= row[1]
                self._folded -= {row[2]}
        return before - self.events

    def _fold(self, item: Letter) -> int:
        if self._db.execute("SELECT 1 FROM letters WHERE origin = ?", (item.origin,)).fetchone():
            return 0
        letter = item.letter
        kind = f"{_FOLDED}{letter.reason}/{letter.rule}/"
        origin = kind + letter.path
        if origin not in self._folded and len(self._folded) >= MAX_FOLDED:
            origin = f"{kind}$"
        if origin in self._folded:
            self._db.execute(
                "UPDATE letters SET events = events + 1, last = max(coalesce(last, at), ?) WHERE origin = ?",
                (letter.at, origin),
            )
            self.events += 1
        else:
            self._insert(Letter(origin, replace(letter, path=origin.removeprefix(kind), data=b"")), kept=False)
            self._folded |= {origin}
        return int(letter.data_bytes > 0)

    def _insert(self, item: Letter, *, kept: bool) -> None:
        letter = item.letter
        row = (
            item.origin, letter.at, letter.source, letter.peer, letter.tenant, letter.reason, letter.path, letter.rule,
            letter.message, letter.data if kept else None, letter.data_bytes, item.index, letter.kind, item.id, kept,
        )  # fmt: skip
        # Not OR IGNORE, which would also drop a row for a value that is missing.
        inserted = self._db.execute(
            "INSERT INTO letters (origin, at, source, peer, tenant, reason, path, rule, message, data, data_bytes,"
            " index_name, kind, document_id, bytes_kept) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
            row,
        )
        if inserted.rowcount:
            self.events += 1
            self.bytes += item.cost
