"""Documents as records hold them, for tests of stores and sinks."""

from typing import Any

import orjson

from gateway.settings import Store
from gateway.spool.record import Documents
from gateway.store.embedded import EmbeddedStore

SETTINGS = Store(memory_limit="256MB", threads=1)


def group(index: str, *documents: tuple[str, dict[str, Any] | bytes]) -> Documents:
    """Return one section of a record: documents of an index, each with its `_id`."""
    lines = []
    for identity, document in documents:
        body = document if isinstance(document, bytes) else orjson.dumps(document)
        action = b'{"create":{"_index":"%s","_id":"%s"}}' % (index.encode(), identity.encode())
        lines += [action, body]
    return Documents(index, len(documents), b"".join(line + b"\n" for line in lines))


async def fill(store: EmbeddedStore, groups: list[Documents]) -> None:
    """Put documents into a store, whatever the cursor."""
    from gateway.spool.books import Cursor

    await store.commit("test", await store.cursor("test") or Cursor(), groups)
