"""What an operator does with dead letters: looks at them, takes them out, sends them again, drops them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson
import structlog

from gateway.data_dir import lock_data_dir
from gateway.errors import GatewayError, LimitReached, Stopping
from gateway.kinds import make_registry
from gateway.operations.formats import check_formats
from gateway.operations.letter_forms import MAX_IDS, Parameters, chosen, flag, group_json, letter_json, number
from gateway.operations.replay import Replay, Trial
from gateway.pipeline.configured import make_digest
from gateway.pipeline.digest import Digest
from gateway.settings import Settings
from gateway.spool.chosen import Choice, Group, Held, Reading, batch, groups, heads, newest
from gateway.spool.folders import Folders
from gateway.spool.letters import LetterBox
from gateway.spool.record import Draft
from gateway.spool.state import State
from gateway.store.query import QueryError

log = structlog.get_logger(__name__)
BATCH_LETTERS, BATCH_BYTES = 1000, 4 << 20
MAX_LIMIT = 1000
STOP_SECS = 5.0
FRESH_SECS = 1.0
T = TypeVar("T")


class DeadLetters:
    """The dead letters of one data directory. All calls raise `GatewayError`, `QueryError` for what makes no sense.

    ``Parameters`` are names and values as `/v1/dead-letters` takes them.
    """

    def __init__(
        self,
        state: State,
        reading: Reading,
        spool: Folders,
        boxes: list[LetterBox],
        digest: Digest,
        trials: Callable[[], Mapping[str, Trial]],
    ) -> None:
        self._state = state
        self._reading = reading
        self._spool = spool
        self._boxes = boxes
        self._digest = digest
        self._trials = trials
        self._work: asyncio.Task[Any] | None = None
        self._wanted, self._stopping = True, False

    async def find(self, parameters: Parameters) -> dict[str, Any]:
        """Return the groups of letters, or with ``each=true`` single letters, newest first."""
        each = flag(parameters, "each")
        choice, more = chosen(parameters, "each", "limit", *(["before"] if each else []))
        limit = number("limit", more.get("limit", "100"), MAX_LIMIT)
        # Who was just refused looks here next. A disk that fails keeps nobody from what is there.
        with suppress(TimeoutError, GatewayError):
            async with asyncio.timeout(FRESH_SECS):
                await self._catch_up()
        if each:
            before = number("before", more["before"]) if "before" in more else None
            found = await self._ask(partial(heads, choice=choice, limit=limit, before=before))
            return {
                "letters": [letter_json(letter, head=True) for letter in found],
                "before": found[-1].id if len(found) == limit else None,
            }
        result = await self._ask(partial(groups, choice=choice, limit=limit))
        examples = {
            letter.id: letter
            for first in range(0, len(result.groups), MAX_IDS)
            for letter in await self._ask(_of(result.groups[first : first + MAX_IDS]))
        }
        return {
            "total": result.events,
            "bytes": self._state.letter_bytes,
            "without_bytes": result.without_bytes,
            "groups": [group_json(group, examples.get(group.newest)) for group in result.groups],
            "groups_omitted": result.all_groups - len(result.groups),
        }

    async def show(self, letter_id: int) -> dict[str, Any] | None:
        """Return all of a letter, None when there is none of this id."""
        found = await self._ask(partial(_next, Choice(ids=(letter_id,)), 0, letter_id))
        return letter_json(found[0]) if found else None

    def export(self, parameters: Parameters) -> AsyncIterator[bytes]:
        """Return all of the letters chosen, oldest first, as lines of JSON: some MiB at a time."""
        choice, _ = chosen(parameters)
        return self._exported(choice)

    async def replay(self, parameters: Parameters) -> dict[str, Any]:
        """Send letters again, those that pass; with ``dry_run=true`` say only which would.

        Raises `LimitReached` while another one is under way, `Incomplete` when it fails midway.
        """
        dry_run = flag(parameters, "dry_run")
        choice, _ = chosen(parameters, "dry_run")
        return await self._alone(self._replay(choice, dry_run=dry_run))

    async def drop(self, parameters: Parameters) -> dict[str, Any]:
        """Delete letters; all of them only with ``all=true``. Raises as `replay`."""
        everything = flag(parameters, "all")
        choice, _ = chosen(parameters, "all")
        if choice == Choice() and not everything:
            raise QueryError("Nothing is chosen: name an id, a filter such as reason=json, or all=true.")
        return await self._alone(self._drop(choice))

    async def stop(self) -> None:
        """End what is under way between two steps."""
        self._stopping = True
        if self._work is not None:
            await asyncio.wait({self._work}, timeout=STOP_SECS)
            self._work.cancel()

    async def _alone(self, work: Coroutine[Any, Any, T]) -> T:
        """Do one thing at a time, and a step of it to its end: also when the caller goes."""
        if self._work is not None and not self._work.done():
            work.close()
            raise LimitReached("Dead letters are being replayed or dropped: ask again when that is done.")
        self._wanted = True
        self._work = asyncio.create_task(work)
        self._work.add_done_callback(_look)
        try:
            return await asyncio.shield(self._work)
        except asyncio.CancelledError:
            self._wanted = False
            raise

    async def _replay(self, choice: Choice, *, dry_run: bool) -> dict[str, Any]:
        await self._catch_up()
        replay = Replay(self._digest, self._trials(), dry_run=dry_run)
        report = await replay.run(self._batches(choice, lambda: self._wanted), self._settle)
        if not dry_run:
            log.info("Dead letters were replayed.", events=report["replayed"], stay=report["stay"])
        return report

    async def _settle(self, draft: Draft) -> None:
        await self._spool.own.append(draft)
        await self._catch_up()

    async def _drop(self, choice: Choice) -> dict[str, Any]:
        await self._catch_up()
        dropped = 0
        async for letters in self._batches(choice, lambda: self._wanted):
            ids = [letter.id for letter in letters]
            try:
                dropped += await self._state.run(partial(self._state.drop, ids))
            except sqlite3.Error as error:
                raise GatewayError(f"Dead letters cannot be deleted now ({error}): {dropped} were.") from None
        log.info("Dead letters were dropped.", events=dropped)
        return {"dropped": dropped}

    async def _exported(self, choice: Choice) -> AsyncIterator[bytes]:
        async for letters in self._batches(choice):
            yield await asyncio.to_thread(_lines, letters)

    async def _batches(self, choice: Choice, wanted: Callable[[], bool] = lambda: True) -> AsyncIterator[list[Held]]:
        """Give the letters chosen that are there now, oldest first."""
        after, upto = 0, await self._ask(newest)
        while found := await self._ask(partial(_next, choice, after, upto)):
            yield found
            after = found[-1].id
            if self._stopping:
                raise Stopping("The gateway is stopping: ask again at the next start for the rest.")
            if not wanted():
                raise GatewayError("Nobody waits for the answer any more.")

    async def _catch_up(self) -> None:
        """Return when the table has all that is in the spool."""
        try:
            for box in self._boxes:
                await box.catch_up()
        except OSError as error:
            raise GatewayError(f"The spool cannot be read ({error.strerror or error}): mend the disk.") from None

    async def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._reading.ask(question)
        except sqlite3.Error as error:
            raise GatewayError(f"The dead letters cannot be read ({error}): is the disk sound?") from None


@asynccontextmanager
async def alone(settings: Settings) -> AsyncIterator[DeadLetters]:
    """Give the dead letters of a data directory on which no gateway runs; raise `GatewayError`."""
    file = settings.data_dir / "state.sqlite3"
    if not await asyncio.to_thread(file.exists):
        raise GatewayError(f"{file} is not there: name the data directory with GATEWAY_DATA_DIR or --config.")
    lock = await asyncio.to_thread(lock_data_dir, settings.data_dir)
    try:
        letters = await asyncio.to_thread(_open, settings, file)
        try:
            await letters._catch_up()
            yield letters
        finally:
            await letters._spool.stop()
            await asyncio.to_thread(letters._reading.close)
            await asyncio.to_thread(letters._state.close)
    finally:
        os.close(lock)


def _open(settings: Settings, file: Path) -> DeadLetters:
    digest = make_digest(settings, make_registry(settings))
    try:
        check_formats(settings.data_dir)
        state = State(file, settings.dead_letters.max_bytes)
        spool = Folders(settings.data_dir / "spool", settings.spool, lambda *, records, seconds: None)
    except OSError as error:
        raise GatewayError(
            f"{error.filename or settings.data_dir} cannot be used ({error.strerror}): mend that, or set "
            "GATEWAY_DATA_DIR to another directory."
        ) from None
    return DeadLetters(state, Reading(file), spool, [LetterBox(each, state) for each in spool.all], digest, dict)


def _next(choice: Choice, after: int, upto: int, db: sqlite3.Connection) -> list[Held]:
    return batch(db, choice, after, upto, BATCH_LETTERS, BATCH_BYTES)


def _of(found: list[Group]) -> Callable[[sqlite3.Connection], list[Held]]:
    return partial(heads, choice=Choice(ids=tuple(group.newest for group in found)), limit=MAX_IDS)


def _lines(letters: list[Held]) -> bytes:
    return b"".join(orjson.dumps(letter_json(each), option=orjson.OPT_APPEND_NEWLINE) for each in letters)


def _look(work: asyncio.Task[Any]) -> None:
    """Take note of how it ended, for those who left before."""
    if not work.cancelled():
        work.exception()
