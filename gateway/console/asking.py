"""The store as the pages ask it: what several browsers want to know at about the same time is asked once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from gateway.store.aggregation import Aggregation, Question
from gateway.store.query import Hits, Query, StoreUnavailable
from gateway.store.store import Store

FRESH_SECS = 2.0
TIMES_ITS_COST = 10
"""An answer that took long is used for longer, so that pages never keep a processor busy."""
MAX_ANSWERS = 200
ANSWER_SECS = 30.0
T = TypeVar("T")


class Asking:
    """Asks the store and remembers the answers for some seconds."""

    def __init__(self, store: Callable[[], Store | None]) -> None:
        """``store`` gives what is asked, None while it is being opened."""
        self._store = store
        self._answers: dict[Hashable, tuple[asyncio.Task[Any], list[float]]] = {}

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
        self._answers = {key: each for key, each in self._answers.items() if each[1][0] > now}
        if what not in self._answers:
            store = self._store()
            if store is None:
                raise StoreUnavailable("The store is being opened: this fills itself in a moment.")
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.pop(next(iter(self._answers), what), None)
            until = [float("inf")]  # as long as it is not there, all wait for the one
            self._answers[what] = asyncio.create_task(self._timed(ask(store), until)), until
        # One browser that leaves does not break off what others wait for.
        return await asyncio.shield(self._answers[what][0])

    async def _timed(self, answer: Awaitable[T], until: list[float]) -> T:
        began = time.monotonic()
        until[0] = 0.0  # an error is not kept
        try:
            async with asyncio.timeout(ANSWER_SECS):
                until[0] = float("inf")
                found = await answer
        except TimeoutError:
            until[0] = 0.0
            raise StoreUnavailable(
                f"The store took longer than {ANSWER_SECS:.0f} s: look at a shorter time, or filter."
            ) from None
        except BaseException:
            until[0] = 0.0
            raise
        ended = time.monotonic()
        until[0] = ended + max(FRESH_SECS, TIMES_ITS_COST * (ended - began))
        return found
