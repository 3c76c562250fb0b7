"""Events that come alone, joined to blocks. Keeps promises 1, 5 and 7.

Those that arrive while a block is on its way to the disk make the next one: many senders of single events share a
digest, a record and a sync, and one alone waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import NamedTuple

from gateway.pipeline.block import Block, Receipt, Refusal
from gateway.pipeline.intake import Intake

MAX_EVENT_BYTES = 4096  # a larger one goes by itself
MAX_BRACKETS = 10  # in an event, and so at most 1000 in a block, which the intake takes without a wait
MAX_EVENTS = 100
_TAKEN = Receipt(1, [])


class _Single(NamedTuple):
    peer: str
    line: bytes
    answer: asyncio.Future[Refusal | None]


def alone(body: bytes) -> bytes | None:
    """Return the one small event that a body holds; None for any other body, which may be an event too."""
    line = body[:-1] if body.endswith(b"\n") else body
    fits = line[:1] == b"{" and len(line) <= MAX_EVENT_BYTES and b"\n" not in line
    return line if fits and line.count(b"{") <= MAX_BRACKETS else None


class Gathering:
    """Hands single events to the intake together."""

    def __init__(self, source: str, intake: Intake) -> None:
        self._source = source
        self._intake = intake
        # By tenant and kind, which a block has but one of.
        self._waiting: dict[tuple[str | None, str | None], list[_Single]] = defaultdict(list)
        self._tasks: dict[tuple[str | None, str | None], asyncio.Task[None]] = {}

    async def accept(self, peer: str, line: bytes, tenant: str | None, kind: str | None) -> Receipt:
        """Return when an event is on disk, what became of it; raise what the intake raises."""
        answer: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        whose = tenant, kind
        self._waiting[whose].append(_Single(peer, line, answer))
        if whose not in self._tasks:
            self._tasks[whose] = asyncio.create_task(self._deliver(whose))
        refusal = await answer
        return _TAKEN if refusal is None else Receipt(0, [refusal._replace(line=0)])

    async def _deliver(self, whose: tuple[str | None, str | None]) -> None:
        """Take what waits until nothing does. Of another sender's mistakes nobody learns."""
        try:
            while waiting := self._waiting.pop(whose, []):
                singles = waiting[:MAX_EVENTS]
                if len(waiting) > MAX_EVENTS:
                    self._waiting[whose] = waiting[MAX_EVENTS:]
                peers = [each.peer for each in singles]
                lines = [each.line for each in singles]
                tenant, kind = whose
                try:
                    receipt = await self._intake.accept(Block(self._source, peers[0], lines, tenant, [], kind, peers))
                except Exception as error:
                    for each in singles:
                        if not each.answer.done():
                            each.answer.set_exception(error)
                    continue
                refused = {each.line: each for each in receipt.refusals}
                for number, each in enumerate(singles):
                    if not each.answer.done():  # its request may have been broken off
                        each.answer.set_result(refused.get(number))
        finally:
            del self._tasks[whose]
