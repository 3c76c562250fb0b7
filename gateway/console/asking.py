"""The store as the pages ask it: what several browsers want to know at about the same time is asked once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Hashable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gateway.store.aggregation import Aggregation, Question
from gateway.store.query import Hits, Query, StoreOpening, StoreUnavailable
from gateway.store.store import Index, Store

FRESH_SECS = 2.0
TIMES_ITS_COST = 10
"""An answer that took long is used for longer, so that pages never keep a processor busy."""
MAX_ANSWERS = 200
ANSWER_SECS = 30.0
AT_ONCE = 2
"""A page has many questions: so many are put to the store at a time, and each is timed by itself."""
T = TypeVar("T")


class Asked(NamedTuple):
    """A question that was put to the store, in words, and how many seconds the store took."""

    what: str
    secs: float


asked: ContextVar[list[Asked] | None] = ContextVar("asked", default=None)
"""Where what is asked is noted; what another had asked already took no time."""


class Asking:
    """Asks the store and remembers the answers for some seconds."""

    def __init__(self, store: Callable[[], Store | None]) -> None:
        """``store`` gives what is asked, None while it is being opened."""
        self._store = store
        self._answers: dict[Hashable, _Answer] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def search(self, query: Query) -> Hits:
        """Return a page of documents; raise `QueryError` or `StoreUnavailable`."""
        return await self._ask(query, lambda store: store.search(query))

    async def aggregate(self, question: Question) -> Aggregation:
        """Count and measure; raise `QueryError` or `StoreUnavailable`."""
        return await self._ask(question, lambda store: store.aggregate(question))

    async def made(self, name: Hashable, make: Callable[[Store], Awaitable[T]]) -> T:
        """Return what ``make`` makes of several answers; kept under ``name``, which says all that it depends on."""
        return await self._ask(name, make)

    async def _ask(self, what: Hashable, ask: Callable[[Store], Awaitable[T]]) -> T:
        now = time.monotonic()
        # What is no longer fresh is never asked for again, since time goes on; and it may be large.
        self._answers = {key: each for key, each in self._answers.items() if each.until > now}
        if what not in self._answers:
            store = self._store()
            if store is None:
                raise StoreOpening("The store is being opened: this fills itself in a moment.")
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.pop(next(iter(self._answers)))
            answer = self._answers[what] = _Answer()
            answer.task = asyncio.create_task(self._answered(answer, ask, _Timed(store, self._turns)))
        else:
            answer = self._answers[what]
            _note("what was asked already", 0.0)
        answer.waiting += 1
        try:
            # One browser that leaves does not break off what others wait for.
            return await asyncio.shield(answer.task)
        finally:
            answer.waiting -= 1
            if not answer.waiting and not answer.task.done():
                answer.until = 0.0
                answer.task.cancel()

    async def _answered(self, answer: _Answer, ask: Callable[[Store], Awaitable[T]], store: _Timed) -> T:
        until = 0.0  # an error is not kept
        try:
            async with asyncio.timeout(ANSWER_SECS):
                found = await ask(store)
            until = time.monotonic() + max(FRESH_SECS, TIMES_ITS_COST * store.secs)
            return found
        except TimeoutError:
            raise StoreUnavailable(
                f"The store took longer than {ANSWER_SECS:.0f} s: look at a shorter time, or filter."
            ) from None
        finally:
            answer.until = until


@dataclass
class _Answer:
    task: asyncio.Task[Any] = None  # type: ignore[assignment]  # from the next line on
    until: float = math.inf
    """When it is too old, by the monotonic clock; as long as it is not there, all wait for the one."""
    waiting: int = 0


class _Timed:
    """A store that answers in turns, and for each answer notes how long it took."""

    def __init__(self, store: Store, turns: asyncio.Semaphore) -> None:
        self._store, self._turns = store, turns
        self.secs = 0.0

    async def search(self, query: Query) -> Hits:
        words = f"search {query.index}, {len(query.where)} filters, {len(query.words)} words"
        return await self._in_turn(words, lambda: self._store.search(query))

    async def aggregate(self, question: Question) -> Aggregation:
        words = [f"count {question.query.index}"]
        words += [f"by {', '.join(question.by)}"] if question.by else []
        words += [f"every {question.interval}"] if question.interval else []
        words += [f"{len(question.query.where)} filters"] if question.query.where else []
        return await self._in_turn(", ".join([*words, *question.metrics]), lambda: self._store.aggregate(question))

    async def indices(self) -> list[Index]:
        return await self._in_turn("indices", self._store.indices)

    async def export(self, index: str, file: Path) -> None:
        await self._in_turn(f"export {index}", lambda: self._store.export(index, file))

    async def _in_turn(self, words: str, ask: Callable[[], Awaitable[T]]) -> T:
        async with self._turns:
            began = time.monotonic()
            found = await ask()
            spent = time.monotonic() - began
        self.secs += spent
        _note(words, spent)
        return found


def _note(words: str, secs: float) -> None:
    if (noted := asked.get()) is not None:
        noted.append(Asked(words, secs))
