"""What all connections share: where lines go, whose keys count, and the bounds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gateway.access import Keys
from gateway.errors import SpoolFull, SpoolUnavailable, Stopping
from gateway.pipeline.block import Block, Receipt
from gateway.pipeline.intake import Intake
from gateway.room import Room
from gateway.settings import Tcp
from gateway.telemetry import Telemetry

if TYPE_CHECKING:
    from gateway.sources.tcp.connection import Connection

log = structlog.get_logger(__name__)
READ_BYTES = 256 * 1024
HELD_BYTES = 32 * 1024 * 1024
UNFINISHED_BYTES = 32 * 1024 * 1024  # of all long unfinished lines together
FULL_RETRY_SECS = 0.2


class Shared:
    """One for each source."""

    def __init__(self, settings: Tcp, intake: Intake, telemetry: Telemetry, keys: Keys, parts: int = 1) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.keys = keys
        self.connections: set[Connection] = set()
        self.stopping = False
        self.held = 0  # bytes that were read and are not on disk yet
        self.elsewhere = 0  # connections to other processes
        self.parts = parts  # processes that share the bounds in bytes
        self.room = Room(UNFINISHED_BYTES // parts)
        self.line_bytes = self.room.at_most(settings.max_line_bytes)
        self.buffer = memoryview(bytearray(READ_BYTES))  # what is read is copied out before anyone else reads
        self._intake = intake

    @property
    def is_short_of_room(self) -> bool:
        """Whether one more long line would have to wait."""
        return not self.room.has(self.line_bytes)

    def hold(self, count: int) -> None:
        """Count bytes that are held; stop or resume reading at the bounds."""
        before, self.held = self.held, self.held + count
        most = HELD_BYTES // self.parts
        if before <= most < self.held or self.held <= most // 2 < before:
            for connection in self.connections:
                connection.adjust()

    async def accept(self, block: Block) -> Receipt | None:
        """Hand a block in, waiting as long as there is no room for it; None when a stop came first."""
        while True:
            try:
                if self._intake.full() is None:
                    return await self._intake.accept(block)
            except (SpoolFull, SpoolUnavailable):
                pass
            except Stopping:
                break
            if self.stopping:
                break
            await asyncio.sleep(FULL_RETRY_SECS)
        log.error(
            "Lines that were read could not be stored before the stop: their sender was not told that they were safe.",
            peer=block.peer,
            lines=len(block.lines),
        )
        return None
