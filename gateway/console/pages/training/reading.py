"""The runs that a page looks at, read from the store once for all its panels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.console.asking import Asking
from gateway.console.pages.training.events import Event, Report, told
from gateway.console.pages.training.runs import Run, together
from gateway.console.view import View
from gateway.store.query import MAX_LIMIT, Query
from gateway.store.store import Store

MOST_DOCUMENTS = 20_000
"""The newest ones are read, with what is made of them about 0.4 CPU-s."""
MOST_WITH_DOCUMENT = 1000
"""Errors that can be shown whole."""
RUN_FIELDS = ("mlflow_event.details.run_id", "run_id")


@dataclass(frozen=True)
class Runs:
    """Runs, the newest first, and what of the documents of the stretch they were made from."""

    runs: list[Run]
    read: int
    total: int

    def of(self, filters: Mapping[str, str]) -> Runs:
        """Return those that fit the filters."""
        run, model, event = (filters[name] for name in ("run", "model", "event"))
        kept = [
            each
            for each in self.runs
            if (not run or each.key == run)
            and (not model or model in each.models)
            and (not event or event in each.categories)
        ]
        return replace(self, runs=kept)


async def runs(asking: Asking, prefix: str, view: View) -> Runs:
    """Return the runs of a stretch of time, all that the filters leave; ``prefix`` stands before the indices' names."""
    run = view.filters["run"]
    found = await _all(asking, prefix, view, run)
    if run and not found.runs:  # the name of one that has no id
        found = await _all(asking, prefix, view, "")
    return found.of(view.filters)


async def _all(asking: Asking, prefix: str, view: View, run: str) -> Runs:
    whole = replace(view, filters={}).query(f"{prefix}ml-training-*", {}, limit=MAX_LIMIT)
    queries = [replace(whole, where=((field, run),)) for field in RUN_FIELDS] if run else [whole]

    async def read(store: Store) -> Runs:
        documents: list[Event | Report] = []
        total = 0
        for query in queries:
            total += await _read(store, query, documents)
        return Runs(await asyncio.to_thread(together, documents), len(documents), total)

    # A stretch that ends now is a little older for whoever asks next, and no other.
    return await asking.made(("training", whole.index, view.range or (view.since, view.until), run), read)


async def _read(store: Store, query: Query, into: list[Event | Report]) -> int:
    """Read documents, page by page; return how many there are in all."""
    total, cursor = 0, None
    kept = 0
    while len(into) < MOST_DOCUMENTS:
        page = await store.search(replace(query, cursor=cursor))
        total = total if cursor else page.total
        found = await asyncio.to_thread(list, map(told, page.hits))
        for each in found[: MOST_DOCUMENTS - len(into)]:
            kept += each.hit is not None
            into.append(each if kept <= MOST_WITH_DOCUMENT else each._replace(hit=None))
        cursor = page.cursor
        if cursor is None:
            break
    return total
