"""What every store is to the rest of the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from gateway.store.aggregation import Aggregation, Question
from gateway.store.query import Hits, Query


class Index(NamedTuple):
    """A daily index: its documents, and about how many bytes of disk they take, where that is known."""

    name: str
    documents: int
    bytes: int | None


class Store(Protocol):
    """Answers queries."""

    async def search(self, query: Query) -> Hits:
        """Return a page; raise `QueryError` or `StoreUnavailable`."""

    async def aggregate(self, question: Question) -> Aggregation:
        """Count and measure; raise `QueryError` or `StoreUnavailable`."""

    async def indices(self) -> list[Index]:
        """Return the indices that hold documents; raise `StoreUnavailable`."""

    async def export(self, index: str, file: Path) -> None:
        """Write an index of one moment (`gateway.store.parquet`); raise `UnknownIndex` or `StoreUnavailable`."""
