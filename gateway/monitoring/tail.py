"""What comes in, shown while it comes, to all who listen.

One task reads the spool behind its synced end, a few times a second and a bounded number of bytes each time, only
while somebody listens. A listener that is read for has room: one that reads slowly falls behind. Whoever is too far
behind goes on with what is newest, and is told how many documents that passed over. Nothing here has a claim on the
spool, or memory beyond a bound for each listener.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import structlog

from gateway.errors import LimitReached, Stopping
from gateway.monitoring.matching import Fits
from gateway.monitoring.reading import Found, Passed, Place, Places, look, read_id, written
from gateway.spool.books import total
from gateway.spool.folder import Folder
from gateway.spool.segment import Position

log = structlog.get_logger(__name__)
LOOK_SECS = 0.25
MISSED_LOOK_SECS = 0.05
"""Between two looks for one who comes back."""
LOOK_BYTES = 512 << 10
"""Looked at each time, for all listeners together."""
PLACES = 4
"""At which listeners stand, of which one look reads; the others have their turn with the next."""
BEHIND_BYTES = 4 << 20
MISSED_BYTES = 64 << 20
"""What one who comes back is given of the time that it was away."""
LISTENERS = 32
QUEUE_BYTES = 256 << 10
"""For each listener, and one event more."""


class Listener:
    """One who listens. `close` it."""

    def __init__(self, tail: Tail, fits: Fits, places: Places, missed: Places) -> None:
        self._tail = tail
        self._parts: list[bytes] = []
        self._size = 0
        self._told = asyncio.Event()
        self._ended = False
        self._missed = missed
        self._passed = Passed(0, places)
        self.fits = fits
        self.places = places

    @property
    def room(self) -> int:
        """How many bytes it may still be given."""
        return QUEUE_BYTES - self._size

    @property
    def id(self) -> str:
        """Where it stands, when it has taken what there was."""
        return written(self._tail.names, self.places)

    def catches_up(self) -> bool:
        """Whether it is still being given what it missed."""
        return any(at.position < end.position for at, end in zip(self.places, self._missed, strict=True))

    async def take(self, secs: float) -> bytes | None:
        """Return what has come, as server-sent events: nothing when nothing did for so long, None at the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(secs):
                await self._told.wait()
        self._tell_passed()
        if self._ended and not self._parts:
            return None
        if not self._ended:
            self._told.clear()
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        return data

    def close(self) -> None:
        """Listen no more."""
        self._tail.forget(self)

    def give(self, found: Found) -> None:
        """Take what a look has found."""
        for part in found.parts:
            if isinstance(part, Passed):
                self._pass(part)
                continue
            self._tell_passed()
            self._parts.append(part)
            self._size += len(part)
        self.places = found.places
        if self._parts:
            self._told.set()

    def go_on_at(self, places: Places) -> None:
        """Pass over what lies before these places."""
        documents = sum(max(0, there.accepted - at.accepted) for at, there in zip(self.places, places, strict=True))
        self._pass(Passed(documents, places))
        self.places = places

    def end(self) -> None:
        """Let it end."""
        self._ended = True
        self._told.set()

    def _pass(self, passed: Passed) -> None:
        self._passed = Passed(self._passed.documents + passed.documents, passed.places)
        self._told.set()

    def _tell_passed(self) -> None:
        documents, places = self._passed
        if documents:
            behind = written(self._tail.names, places).encode()
            part = b'event: passed\nid: %b\ndata: {"documents":%d}\n\n' % (behind, documents)
            self._parts.append(part)
            self._size += len(part)
            self._passed = Passed(0, places)


class Tail:
    """Everybody who listens, and what reads for them."""

    def __init__(self, folders: Sequence[Folder]) -> None:
        """Read these folders of the spool."""
        self._folders = folders
        self._paths = [each.folder for each in folders]
        self.names = [each.name for each in folders]
        self._listeners: list[Listener] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def listen(self, fits: Fits, since: str | None = None) -> Listener:
        """Begin with what comes now, or behind the id of an event.

        Raises `LimitReached`, `Stopping`, or ValueError where ``since`` is no id.
        """
        if self._closed:
            raise Stopping("The gateway is stopping: ask again in a moment.")
        newest = self._newest()
        places = newest if since is None else self._places(read_id(since), newest)
        if len(self._listeners) >= LISTENERS:
            raise LimitReached(f"{LISTENERS} follow what comes in, and more may not: end one of them.")
        listener = Listener(self, fits, places, newest)
        self._listeners.append(listener)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return listener

    def forget(self, listener: Listener) -> None:
        """Read for a listener no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def close(self) -> None:
        """End all listeners, and let nobody listen any more."""
        self._closed = True
        for listener in self._listeners:
            listener.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        marks = deque([self._newest()], maxlen=2)
        try:
            while self._listeners:
                newest = self._newest()
                if newest != marks[-1]:
                    marks.append(newest)
                ready = [each for each in self._listeners if each.room > 0 and each.places != newest]
                for listener in ready:
                    self._keep_up(listener, marks[0])
                with suppress(OSError):  # the sinks meet it too, and tell; it is tried again
                    await self._look(ready, newest)
                in_haste = any(each.catches_up() and each.room > 0 for each in self._listeners)
                await asyncio.sleep(MISSED_LOOK_SECS if in_haste else LOOK_SECS)
        except Exception:
            log.exception("What shows what comes in ended.")
            for listener in self._listeners:
                listener.end()
        finally:
            self._task = None

    def _keep_up(self, listener: Listener, mark: Places) -> None:
        """Have one that is too far behind go on where the spool ended a moment ago."""
        behind = sum(
            folder.bytes_behind(at.position) for folder, at in zip(self._folders, listener.places, strict=True)
        )
        if behind > (MISSED_BYTES if listener.catches_up() else BEHIND_BYTES):
            places = tuple(map(max, listener.places, mark))
            if places != listener.places:
                listener.go_on_at(places)

    async def _look(self, listeners: list[Listener], newest: Places) -> None:
        """Read once for all that stand at the same place."""
        together: dict[Places, list[Listener]] = {}
        for listener in listeners:
            together.setdefault(listener.places, []).append(listener)
        ends = [each.position for each in newest]
        now = list(together.items())[:PLACES]
        for places, group in now:
            wanted = [Found(each.fits, each.room, places) for each in group]
            await asyncio.to_thread(look, self._paths, places, ends, wanted, LOOK_BYTES // len(now))
            for listener, found in zip(group, wanted, strict=True):
                listener.give(found)
        had = [each for _, group in now for each in group]
        self._listeners.sort(key=lambda each: each in had)  # next time those come first that had no turn

    def _newest(self) -> Places:
        """Return where the folders end."""
        return tuple(Place(each.end, total(each.counts).accepted) for each in self._folders)

    def _places(self, known: dict[str, Place], newest: Places) -> Places:
        """Return where to go on; one that the id does not name is new, one that it is beyond another."""
        begins = (known.get(name, Place(Position(), 0)) for name in self.names)
        return tuple(at if at.position <= each.position else each for at, each in zip(begins, newest, strict=True))
