"""The stores that one suite runs on."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from gateway.spool.record import Documents
from gateway.store.aggregation import Aggregation, Question
from gateway.store.query import Hits, Query
from gateway.store.store import Store
from tests.store.documents import group

# For a case that gets the fixture `es` by its name: what is asked for late is not seen when tests are collected.
ASKED_LATE = (pytest.mark.elasticsearch, pytest.mark.timeout(func_only=True))


class Subject:
    """A store to ask, and how documents get into it."""

    def __init__(self, store: Store, add: Callable[[list[Documents]], Awaitable[None]], prefix: str) -> None:
        self.store = store
        self.prefix = prefix
        self.put = add

    async def add(self, index: str, documents: Mapping[str, dict[str, Any] | bytes]) -> None:
        """Write documents and make them visible."""
        await self.put([group(self.prefix + index, *documents.items())])

    async def search(self, index: str = "*", **arguments: Any) -> Hits:
        """Ask, in the indices of this test."""
        return await self.store.search(Query(f"{self.prefix}{index}", **arguments))

    async def ids(self, index: str = "*", **arguments: Any) -> list[str]:
        """Ask and return the ids; the total must agree."""
        hits = await self.search(index, **arguments)
        assert hits.cursor is None
        assert len(hits.hits) == hits.total
        return [hit["_id"] for hit in hits.hits]

    async def aggregate(
        self,
        index: str = "*",
        filters: dict[str, Any] | None = None,
        by: str | tuple[str, ...] | None = (),
        **more: Any,
    ) -> Aggregation:
        """Count and measure, in the indices of this test; ``filters`` are for `Query`, the rest for `Question`."""
        query = Query(f"{self.prefix}{index}", **(filters or {}))
        return await self.store.aggregate(Question(query, (by,) if isinstance(by, str) else by or (), **more))
