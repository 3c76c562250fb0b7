"""The one door: every source hands its blocks in here. Keeps promises 1 and 7."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from typing import Protocol

from gateway.pipeline.block import Block, Receipt
from gateway.pipeline.digest import Digest, Digestion
from gateway.pipeline.turns import TURNS
from gateway.room import Room
from gateway.spool.record import Draft
from gateway.telemetry import Telemetry

# An event costs about a kilobyte beyond its bytes while it is worked on, however small it is.
EVENTS_AT_ONCE = 100_000
FREE_EVENTS = 1000  # of a block: such a block waits for nobody


class Intake(Protocol):
    """What a source knows of the rest of the gateway."""

    async def accept(self, block: Block) -> Receipt:
        """Return when the block is on disk, as documents and dead letters.

        Raises `SpoolFull`, `SpoolUnavailable` or `Stopping`; then nothing of it was taken.
        """

    def full(self) -> str | None:
        """Return why nothing can be taken now, None when there is room; raise `SpoolUnavailable` for other trouble."""


class Door:
    """The intake: digests blocks and appends them to the spool."""

    def __init__(
        self,
        digest: Digest,
        append: Callable[[Draft], Awaitable[None]],
        full: Callable[[], str | None],
        telemetry: Telemetry,
        parts: int = 1,
    ) -> None:
        """``parts``: so many processes share the room for events under work."""
        self._digest = digest
        self._append = append
        self._telemetry = telemetry
        self._room = Room(EVENTS_AT_ONCE // parts)
        self.full = full

    async def accept(self, block: Block) -> Receipt:
        """Return when the block is on disk."""
        async with self._room.share() as share:
            # A line is one event, unless it is an array of as many, or somewhat less, as it has brackets.
            arrays = [line for line in block.lines if line[:1] != b"{"]
            events = len(block.lines) + sum(line.count(b"{") for line in arrays)
            if events > FREE_EVENTS:
                await share.reach(events)
            return await self._accept(block)

    async def _accept(self, block: Block) -> Receipt:
        work = self._digest.block(block, time.time())
        await TURNS.take(_steps(work), block.peer)
        draft = work.draft()
        if draft.counts.received:
            await self._append(draft)
        if work.refusals:
            work.refusals.sort(key=lambda each: (each.line, each.item or 0))
            first = work.refusals[0]
            self._telemetry.events_refused(
                draft.source, block.peer_of(first.line), [each.reason for each in work.refusals],
                rule=first.rule, path=first.path, message=first.told, value=first.value,
            )  # fmt: skip
        return Receipt(draft.counts.accepted, work.refusals)


def _steps(work: Digestion) -> Generator[None, None, None]:
    while work.step():
        yield
