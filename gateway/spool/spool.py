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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import structlog

from gateway.errors import SpoolFull, SpoolUnavailable, Stopping
from gateway.settings import Spool as SpoolSettings
from gateway.spool.ages import Ages, written_at
from gateway.spool.appender import Appender
from gateway.spool.books import Cursor, total
from gateway.spool.reader import Reader
from gateway.spool.record import Counts, Draft
from gateway.spool.segment import Position, path_of, segments_in
from gateway.spool.skipping import first_place

log = structlog.get_logger(__name__)
FREE_CHECK_SECS = 1.0
RETRY_SECS = 0.5
ROOM_BYTES = 1 << 20  # after a failed write this much has to be free, else the next one fails too
_UNKNOWN = "sinks that are being opened"


class Observer(Protocol):
    """Is told of each group that was synced."""

    def __call__(self, *, records: int, seconds: float) -> None: ...


class Spool:
    """One folder of segments, its end, and who still needs which part of it."""

    def __init__(self, folder: Path, settings: SpoolSettings, observe: Observer) -> None:
        """Open the folder; raise OSError or `FormatVersionError`. Blocks."""
        self._settings = settings
        self._observe = observe
        self.max_bytes = settings.max_bytes
        self._segment_bytes = min(settings.segment_bytes, settings.max_bytes // 8)
        self._appender = Appender(folder, self._segment_bytes, lambda text: log.warning(text))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._waiting: list[tuple[Draft, asyncio.Future[None]]] = []
        self._waiting_bytes = 0  # of drafts that are not on disk yet
        self._writer: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        # Until all readers are known nothing is deleted: the first name stands for the others.
        self._needs: dict[str, Position] = {_UNKNOWN: Position()}
        # Closed segments and their sizes.
        self._closed = {each: path_of(folder, each).stat().st_size for each in segments_in(folder)}
        self._ages = Ages()
        self._free_bytes = _free_bytes(folder)
        self._free_checked = time.monotonic()
        self._stopped = False
        self.folder = folder
        self.end = self._appender.end
        # What is written from now on goes into segments of these numbers.
        self._opened = self.end, Position(self._appender.sequence + 1, 0)
        self.counts: dict[str, Counts] = self._appender.counts
        self.failure: str | None = None

    @property
    def name(self) -> str:
        """The folder's name, under which cursors are kept."""
        return self.folder.name

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return sum(self._closed.values()) + (0 if self.end.segment in self._closed else self.end.offset)

    @property
    def segments(self) -> int:
        """Number of files."""
        return len({*self._closed, self.end.segment})

    def full(self) -> str | None:
        """Return why nothing can be taken now, naming limit and setting; None when there is room."""
        held, limit = self.bytes + self._waiting_bytes, self.max_bytes
        if held >= limit:
            slowest = self.slowest()
            # When nobody needs anything any more the last file may be as large as it is: the next write closes it.
            if slowest or not self._needs or self._waiting_bytes >= limit:
                return (
                    f"The spool holds {held} bytes, its limit is {limit} (spool.max_bytes); it waits for "
                    f"{slowest or 'its sinks'}. See the sink's last_error on /status, or raise spool.max_bytes."
                )
        free = self._free_bytes - self._waiting_bytes
        if free < self._settings.min_free_bytes:
            if time.monotonic() - self._free_checked > FREE_CHECK_SECS and not self._stopped:
                self._free_checked = time.monotonic()
                self._thread.submit(self._check_free)
            return (
                f"The disk of {self.folder} has {max(0, free)} bytes free, fewer than "
                f"{self._settings.min_free_bytes} (spool.min_free_bytes)."
            )
        return None

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
        self.end, self.counts = end, self._appender.counts
        for _, done in group:
            done.set_result(None)
        self._ages.mark(end, time.time())
        self._changed.set()
        self._changed = asyncio.Event()
        if group:
            self._observe(records=len(group), seconds=time.monotonic() - started)

    def _put(self, drafts: list[Draft]) -> Position:
        if not drafts and _free_bytes(self.folder) < ROOM_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        end = self._appender.write(drafts)
        self._check_free()
        return end

    def _check_free(self) -> None:
        with suppress(OSError):  # what is on disk stays there
            self._free_bytes = _free_bytes(self.folder)

    def reader(self, name: str, cursor: Cursor | None) -> Reader:
        """Return a reader that begins at a cursor, or at the oldest record; its place is kept from now on. Blocks."""
        if cursor is None:
            reader = Reader(self.folder, Position(), None, 0)
        else:
            known = None if cursor.base is None else cursor.accepted
            reader = Reader(self.folder, cursor.position, known, cursor.sequence)
        self._needs[name] = reader.position
        if reader.position < self.end:
            self._mark_oldest(reader.position)
        return reader

    def new_cursor(self) -> Cursor:
        """Return a cursor before the oldest record, so that what waits is counted from the start. Blocks."""
        begin = self.at(Position()).accepted
        return Cursor(accepted=begin, base=begin)

    def at(self, position: Position) -> Cursor:
        """Return a cursor that says only where, and how many events had been accepted up to there. Blocks."""
        accepted = total(self.counts).accepted  # read first: senders may be at work already
        for item in Reader(self.folder, position, None, 0).read(self.end, 1)[:1]:
            header = item.record.header
            return Cursor(position, header.sequence - 1, header.accepted - header.documents)
        return Cursor(position, 0, accepted)

    def place_to_skip(self, name: str) -> Position | None:
        """Return up to where a reader has to skip, a segment before any sender would wait; None when it need not."""
        sizes = {**self._closed, self.end.segment: self.end.offset}
        excess = self._waiting_bytes + self.bytes - self.max_bytes
        lack = self._waiting_bytes + self._settings.min_free_bytes - self._free_bytes
        found = first_place(name, dict(self._needs), sizes, excess, lack, ahead=self._segment_bytes)
        return None if self._stopped else found

    def attached(self) -> None:
        """Say that all readers are known: from now on what none of them needs is deleted."""
        self._needs.pop(_UNKNOWN, None)
        if self._needs:
            name, position = next(iter(self._needs.items()))
            self.release(name, position)

    def outlives(self, cursor: Cursor) -> bool:
        """Whether a cursor points behind the end: then the folder was replaced since."""
        before, since = self._opened
        return cursor.position > self.end or before < cursor.position < since

    async def wait_beyond(self, position: Position) -> None:
        """Return when there is something behind ``position``."""
        while self.end <= position:
            await self._changed.wait()

    def release(self, name: str, position: Position) -> None:
        """Say that a reader needs nothing before ``position`` any more; delete what nobody needs."""
        self._needs[name] = position
        oldest = min(self._needs.values())
        if oldest == Position():
            return
        self._ages.forget(oldest)
        if self._stopped:
            return  # the thread is ending; the next start deletes
        for segment in sorted(self._closed):
            if segment == self.end.segment or oldest < Position(segment, self._closed[segment]):
                break
            self._free_bytes += self._closed.pop(segment)  # until it is asked for again
            # A crash before the file is gone does no harm: the next release deletes it.
            self._thread.submit(path_of(self.folder, segment).unlink, missing_ok=True)

    def slowest(self) -> str | None:
        """Return the reader that is furthest behind, None when all are at the end."""
        behind = {name: position for name, position in dict(self._needs).items() if position < self.end}
        return min(behind, key=lambda name: behind[name]) if behind else None

    def oldest_secs(self) -> float:
        """Return how long ago the oldest record that is still needed was written, within half a second.

        Less exactly when much waits, and the age of the oldest found at start until all of that is taken.
        """
        oldest = self._ages.oldest()
        if oldest is None or min(self._needs.values(), default=self.end) >= self.end:
            return 0.0
        return max(0.0, time.time() - oldest)

    async def stop(self) -> None:
        """Take nothing more, finish what was taken, close the file. May be called again."""
        again, self._stopped = self._stopped, True
        while self._writer is not None:
            await asyncio.wait([self._writer])
        if again:
            return
        await asyncio.get_running_loop().run_in_executor(self._thread, self._appender.close)
        self._thread.shutdown()

    def _mark_oldest(self, position: Position) -> None:
        """Remember when the record at ``position`` was written: it is from before this start."""
        segment = max((each for each in self._closed if each <= position.segment), default=min(self._closed, default=0))
        offset = position.offset if segment == position.segment else Position().offset
        if (moment := written_at(path_of(self.folder, segment), offset)) is not None:
            self._ages.mark_first(self.end, moment)


def _fail(done: asyncio.Future[None], error: Exception) -> None:
    done.set_exception(error)
    done.exception()  # retrieved: the sender may be gone


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
