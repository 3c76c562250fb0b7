"""The spool as the rest of the gateway sees it: append and wait, read behind, let go.

Promise 1: `append` returns when the record is synced; whoever appends while a sync runs
shares the next one. Promise 5: at `spool.max_bytes`, or with less than `spool.min_free_bytes`
free on the disk, `append` raises `SpoolFull` and takes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path
from typing import Protocol

import structlog

from gateway.errors import SpoolFull, SpoolUnavailable, Stopping
from gateway.settings import Spool as SpoolSettings
from gateway.spool import folder as disk
from gateway.spool.appender import Appender
from gateway.spool.folder import Folder
from gateway.spool.record import Draft
from gateway.spool.segment import Position

log = structlog.get_logger(__name__)
RETRY_SECS = 0.5
ROOM_BYTES = 1 << 20  # after a failed write this much has to be free, else the next one fails too


class Observer(Protocol):
    """Is told of each group that was synced."""

    def __call__(self, *, records: int, seconds: float) -> None: ...


class Spool(Folder):
    """One folder of segments that this process writes.

    In a receiver ``granted`` says up to how many `appended` bytes it may write, and why no more: the owner, who
    knows all folders, gives it.
    """

    def __init__(self, folder: Path, settings: SpoolSettings, observe: Observer, folders: int = 1) -> None:
        """Open the folder, one of so many; raise OSError or `FormatVersionError`. Blocks."""
        segment_bytes = disk.segment_bytes(settings, folders)
        self._appender = Appender(folder, segment_bytes, lambda text: log.warning(text))
        super().__init__(folder, settings, self._appender, segment_bytes)
        self._observe = observe
        self._waiting: list[tuple[Draft, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self.appended = 0  # bytes, since the start
        self.granted: tuple[int, str] | None = None

    def full(self) -> str | None:
        """Return why nothing can be taken now, naming limit and setting; None when there is room."""
        if self.granted is None:
            return super().full()
        upto, why = self.granted
        return why if self.appended + self._waiting_bytes >= upto else self._full_disk()

    def closed(self) -> str | None:
        """Return what `full` does; raise `SpoolUnavailable` while the disk fails."""
        if self.failure:
            raise SpoolUnavailable(self.failure)
        return self.full()

    async def append(self, draft: Draft) -> None:
        """Put a draft on disk and return when it is synced.

        Raises `SpoolFull`, `SpoolUnavailable` or `Stopping`; then nothing was taken.
        """
        if self._stopped:
            raise Stopping("The gateway is stopping: send again in a moment.")
        if full := self.closed():
            raise SpoolFull(full)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((draft, done))
        self._waiting_bytes += draft.size
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        # A caller that goes away does not undo what is being written.
        await asyncio.shield(done)

    async def _write(self) -> None:
        try:
            while self._waiting or (self.failure and not self._stopped):
                if self.failure and not self._waiting:
                    # Nothing is taken meanwhile: whether it is over is tried with nothing.
                    await asyncio.sleep(RETRY_SECS)
                group, self._waiting = self._waiting, []
                try:
                    await self._write_group(group)
                finally:
                    self._waiting_bytes -= sum(draft.size for draft, _ in group)
        finally:
            self._writer = None

    async def _write_group(self, group: list[tuple[Draft, asyncio.Future[None]]]) -> None:
        started = time.monotonic()
        drafts = [draft for draft, _ in group]
        try:
            end = await asyncio.get_running_loop().run_in_executor(self._thread, self._put, drafts)
        except OSError as error:
            if not self.failure or group:
                reason = error.strerror or error
                self.failure = f"The spool in {self.folder} cannot be written ({reason}): make room or mend the disk."
                log.error(self.failure)
            for _, done in group:
                _fail(done, SpoolUnavailable(self.failure))
            return
        except Exception as error:
            # A draft that cannot be written, such as one that is too long, harms nobody but its sender.
            if len(group) > 1:
                for each in group:
                    await self._write_group([each])
                return
            log.error("A record cannot be written.", error=str(error))
            for _, done in group:
                _fail(done, error)
            return
        if self.failure:
            log.info("The spool can be written again.")
        self.failure = None
        if end.segment != self.end.segment and self.end.segment:
            self._closed[self.end.segment] = self.end.offset
        self.appended += end.offset - (self.end.offset if end.segment == self.end.segment else 0)
        self._moved(end, self._appender.counts)
        for _, done in group:
            done.set_result(None)
        if group:
            self._observe(records=len(group), seconds=time.monotonic() - started)

    def _put(self, drafts: list[Draft]) -> Position:
        if not drafts and disk.free_bytes(self.folder) < ROOM_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        end = self._appender.write(drafts)
        self._check_free()
        return end

    async def stop(self) -> None:
        """Take nothing more, finish what was taken, close the file. May be called again."""
        again, self._stopped = self._stopped, True
        while self._writer is not None:
            await asyncio.wait([self._writer])
        if again:
            return
        await asyncio.get_running_loop().run_in_executor(self._thread, self._appender.close)
        await super().stop()


def _fail(done: asyncio.Future[None], error: Exception) -> None:
    done.set_exception(error)
    done.exception()  # retrieved: the sender may be gone
