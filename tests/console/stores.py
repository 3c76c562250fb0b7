"""A console's questions, answered from documents in a store of its own."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.console.asking import Asking
from gateway.store.embedded import EmbeddedStore
from tests.store.documents import SETTINGS, fill, group

Document = dict[str, Any]


@asynccontextmanager
async def asking(folder: Path, documents: Mapping[str, Iterable[Document]]) -> AsyncIterator[Asking]:
    """Give what the pages ask; ``documents`` by their index."""
    store = EmbeddedStore(folder / "store.duckdb", SETTINGS)
    await store.open()
    try:
        numbered = {
            index: [(f"{index}-{n}", each) for n, each in enumerate(found)] for index, found in documents.items()
        }
        await fill(store, [group(index, *found) for index, found in numbered.items()])
        yield Asking(lambda: store)
    finally:
        await store.close()
