"""What sources hand their blocks to in tests: an intake that is told what to say, and the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.pipeline.block import Block, Receipt, Refusal
from gateway.pipeline.intake import Door
from gateway.settings import Spool as SpoolSettings
from gateway.spool.record import Counts, DeadLetter, Draft
from gateway.spool.segment import Position
from gateway.spool.spool import Spool
from gateway.telemetry import Telemetry
from tests.pipeline.blocks import Stored, new_digest, stored_in


class FakeIntake:
    """Keeps what it is given, and says what it is told to say."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: take all, refuse nothing."""
        self.blocks: list[Block] = []
        self.why_full: str | None = None
        self.error: Exception | None = None
        self.refusals: list[Refusal] = []
        self.open = asyncio.Event()
        self.open.set()

    @property
    def lines(self) -> list[bytes]:
        """All lines of all blocks that are not empty."""
        return [line for block in self.blocks for line in block.lines if line]

    async def accept(self, block: Block) -> Receipt:
        """Take a block, as soon as the intake is open."""
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.blocks.append(block)
        return Receipt(len(block.lines) - len(self.refusals), self.refusals)

    def full(self) -> str | None:
        """Return what the test set."""
        return self.why_full


def refusal(line: int, value: str = "", item: int | None = None, hint: str | None = None) -> Refusal:
    """Return a refusal as the pipeline makes them."""
    return Refusal(line, item, "schema", "$.x", "float_type", "It is no number.", value, hint, b"{}", 2)


@dataclass
class RealIntake:
    """The real pipeline in front of a real spool."""

    door: Door
    spool: Spool

    def stored(self) -> tuple[list[Stored], list[DeadLetter]]:
        """Return all documents and dead letters on disk."""
        documents: list[Stored] = []
        letters: list[DeadLetter] = []
        reader = self.spool.reader("test", None)
        while items := reader.read(self.spool.end, 1 << 20):
            for item in items:
                documents += stored_in(Draft("", Counts(), item.record.documents()))
                letters += item.record.dead_letters()
        return documents, letters

    def records(self) -> Position:
        """Return the end of the spool, which moves with every record."""
        return self.spool.end


@asynccontextmanager
async def real_intake(
    folder: Path, *, max_line_bytes: int = 1 << 20, max_bytes: int = 1 << 30
) -> AsyncIterator[RealIntake]:
    """Open a spool with the pipeline before it; close it in the end."""
    telemetry = Telemetry()
    settings = SpoolSettings(max_bytes=max_bytes, min_free_bytes=0)
    spool = Spool(folder / "spool" / "0", settings, telemetry.group_synced)
    digest = new_digest(max_line_bytes=max_line_bytes, max_age_days=None)
    try:
        yield RealIntake(Door(digest, spool.append, spool.full, telemetry), spool)
    finally:
        await spool.stop()
