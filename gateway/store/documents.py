"""All documents of an index in Elasticsearch as they are at one moment, page by page."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import orjson

from gateway.store.query import StoreUnavailable
from gateway.store.rows import Rows

# A page follows the size of the documents before it: they may have a hundred bytes or a million.
PAGE_BYTES = 4 << 20
FIRST_DOCUMENTS, MOST_DOCUMENTS = 100, 2000
KEEP_ALIVE = "2m"

Call = Callable[..., Awaitable[dict[str, Any]]]


async def pages(call: Call, index: str) -> AsyncGenerator[Rows, None]:
    """Yield every document once, whatever is written meanwhile. ``call`` asks by the name of the client's method."""
    view = (await call("open_point_in_time", index=index, keep_alive=KEEP_ALIVE))["id"]
    try:
        after, size = None, FIRST_DOCUMENTS
        while True:
            answer = await call(
                "search",
                pit={"id": view, "keep_alive": KEEP_ALIVE},
                sort=[{"_shard_doc": "asc"}],
                search_after=after,
                size=size,
                track_total_hits=False,
                allow_partial_search_results=False,
            )
            view, hits = answer["pit_id"], answer["hits"]["hits"]
            if not hits:
                return
            page = Rows([hit["_id"].encode() for hit in hits], [_text(hit["_source"]) for hit in hits])
            yield page
            after = hits[-1]["sort"]
            average = sum(map(len, page.documents)) // len(hits) + 1
            size = max(1, min(2 * size, MOST_DOCUMENTS, PAGE_BYTES // average))
    finally:
        with suppress(StoreUnavailable):  # Elasticsearch closes it by itself, after KEEP_ALIVE
            await call("close_point_in_time", id=view)


def _text(document: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(document)
    except TypeError:  # deeper, or a larger integer, than it goes
        return json.dumps(document).encode()
