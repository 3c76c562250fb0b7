"""Events of any kind, newest first: those that fit the filters of the address, each told in few words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from gateway.console.asking import Asking
from gateway.console.layout import Context, Page
from gateway.console.view import View
from gateway.store.aggregation import MAX_KEYS, Question
from gateway.telling import tell

PATH = "/events"
FIELDS = {
    "model": "model_name", "version": "model_version", "environment": "environment", "region": "region",
    "error": "error", "error_type": "error_type",
}  # fmt: skip
"""The field of each filter but that of the kind and that of words."""
EVENTS = 50
MOST_PARTS = 6


def page(asking: Asking, prefix: str, kinds: Sequence[str]) -> Page:
    """Return the page; ``prefix``: of all indices, ``kinds``: their names without prefix and day."""

    async def events(view: View) -> Context:
        cursor = view.filters["cursor"] or None
        index = f"{prefix}{view.filters['kind'] or '*'}-*"
        query = view.query(index, FIELDS, limit=EVENTS, cursor=cursor)
        found, models = await asyncio.gather(
            asking.search(query), asking.aggregate(Question(view.query(index, {}), ("model_name",), limit=MAX_KEYS))
        )
        return {
            "rows": [row(hit, prefix) for hit in found.hits],
            "total": found.total,
            "older": found.cursor,
            "cursor": cursor,
            "choices": {"model": sorted(str(each["key"]) for each in models.buckets)},
        }

    return Page(
        "events",
        PATH,
        "Events",
        filters=("kind", *FIELDS, "q", "cursor"),
        panels={"events": events},
        facts={"kinds": sorted({*kinds}), "more": [name for name in FIELDS if name != "model"]},
    )


def row(hit: dict[str, Any], prefix: str) -> Context:
    """Return what is shown of a document of the store."""
    source = hit["_source"]
    kind, who, parts = tell(hit, prefix)
    request = source.get("request_id")
    return {
        "id": f"{hit['_index']}-{hit['_id']}",
        "time": source.get("@timestamp", ""),
        "kind": kind,
        "who": who,
        "request": request,
        "parts": [part for part in parts if part.text != str(request)][:MOST_PARTS],
        "document": source,
    }
