"""What `gateway verify` asks of the running gateway: which of its events arrived, and away with them.

Its events go the whole way of every other event, into an index of their own. Their `event_id` makes their
`_id` known beforehand: Elasticsearch gives a document by its `_id` at once, whatever the refresh interval.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gateway.errors import GatewayError
from gateway.pipeline.identity import Identity, place
from gateway.settings import Settings
from gateway.sinks.elasticsearch.client import RequestFailed, request
from gateway.sinks.elasticsearch.templates import MANAGED_BY
from gateway.store.query import Query
from schemas.kinds import VERIFICATION

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

    from gateway.store.embedded import EmbeddedStore

LISTENERS = ("tcp", "tls", "http")
ASK_SECS = 5.0
_DAY = re.compile(r"\d{4}\.\d\d\.\d\d")
T = TypeVar("T")


def event(verify_id: str, via: str) -> dict[str, str]:
    """Return the event that a verification sends to a listener."""
    return {"type": VERIFICATION.type, "verify_id": verify_id, "via": via, "event_id": f"{verify_id}-{via}"}


@dataclass(frozen=True)
class Found:
    """An event of a verification, where it is stored."""

    via: str
    index: str
    id: str


class Place(Protocol):
    """Where a sink writes to. Both calls raise `GatewayError`."""

    async def find(self, verify_id: str, tenant: str | None) -> list[Found]:
        """Return what is there of a verification; ``tenant`` is the one that its HTTP event was sent by."""

    async def remove(self, found: Iterable[Found]) -> None:
        """Delete that, and the indices of verifications that are no longer needed."""


class Verification:
    """All sinks of a gateway."""

    def __init__(self, settings: Settings) -> None:
        """Name the sinks; their `places` come once they are open."""
        sinks = {"embedded": settings.store_enabled, "elasticsearch": bool(settings.elasticsearch.urls)}
        self.places: dict[str, Place | None] = {name: None for name, used in sinks.items() if used}

    async def arrived(self, verify_id: str, tenant: str | None) -> dict[str, Any]:
        """Return for each sink ``arrived``, the listeners whose event it has, and ``error``, why that is not known."""

        async def vias(place: Place) -> list[str]:
            return sorted(each.via for each in await place.find(verify_id, tenant))

        return await self._ask_all("arrived", vias)

    async def remove(self, verify_id: str, tenant: str | None) -> dict[str, Any]:
        """Delete; return for each sink ``removed``, how many events, and ``error``, why some may be left."""

        async def count(place: Place) -> int:
            found = await place.find(verify_id, tenant)
            await place.remove(found)
            return len(found)

        return await self._ask_all("removed", count)

    async def _ask_all(self, name: str, ask: Callable[[Place], Awaitable[Any]]) -> dict[str, Any]:
        answers = await asyncio.gather(*(_answer(place, ask) for place in self.places.values()))
        sinks = {sink: {name: said, "error": error} for sink, (said, error) in zip(self.places, answers, strict=True)}
        return {"sinks": sinks}


class InEmbeddedStore:
    """The embedded store, which drops an index with its last document."""

    def __init__(self, store: EmbeddedStore, index_prefix: str) -> None:
        self._store = store
        self._indices = f"{index_prefix}{VERIFICATION.index}-*"

    async def find(self, verify_id: str, tenant: str | None) -> list[Found]:
        """Search."""
        hits = await self._store.search(Query(self._indices, where=(("verify_id", verify_id),)))
        return [Found(str(hit["_source"].get("via")), hit["_index"], hit["_id"]) for hit in hits.hits]

    async def remove(self, found: Iterable[Found]) -> None:
        """Delete rows."""
        ids = defaultdict(list)
        for each in found:
            ids[each.index].append(each.id)
        for index, of_index in ids.items():
            await self._store.remove(index, of_index)


class InElasticsearch:
    """Elasticsearch, as far as the gateway's key may.

    Today's index stays, empty: between the look whether it is empty and its deletion another gateway's
    verification could write into it. What is left of earlier days goes whole.
    """

    def __init__(self, client: AsyncElasticsearch, index_prefix: str) -> None:
        self._client = client
        self._index = f"{index_prefix}{VERIFICATION.index}"
        self._identity = Identity()

    async def find(self, verify_id: str, tenant: str | None) -> list[Found]:
        """Get the documents by their ids, of today and, as it may just have struck midnight, yesterday."""
        wanted = []
        for via in LISTENERS:
            sent, of = event(verify_id, via), tenant if via == "http" else None
            for day in _last_days():
                identity = self._identity.of(place(VERIFICATION.name, day, of), sent, b"", 0).decode()
                wanted.append(Found(via, f"{self._index}-{day}", identity))
        body = {"docs": [{"_index": each.index, "_id": each.id} for each in wanted]}
        answer = await request(self._client, "POST", "/_mget?_source=false", body=body)
        try:
            answers = answer["docs"]
            reasons = [
                each["error"]["reason"]
                for each in answers
                if "error" in each and each["error"]["type"] != "index_not_found_exception"
            ]
            there = [one for one, each in zip(wanted, answers, strict=True) if each.get("found")]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise RequestFailed("Elasticsearch gave an answer to a request for documents that is not one.") from None
        if reasons and not there:
            raise RequestFailed(f"Elasticsearch does not give the documents: {reasons[0]}.")
        return there

    async def remove(self, found: Iterable[Found]) -> None:
        """Delete documents, then the indices of earlier days."""
        for each in found:
            await self._delete(f"/{each.index}/_doc/{each.id}?refresh=true")
        mark = {"mappings": {"_meta": {"managed_by": MANAGED_BY}}}
        path = f"/{self._index}-*/_mapping?filter_path=*.mappings._meta.managed_by"
        indices = await request(self._client, "GET", path)
        if not isinstance(indices, dict):
            raise RequestFailed("Elasticsearch gave an answer to a request for indices that is not one.")
        for index, mapping in indices.items():
            day = index.removeprefix(f"{self._index}-")
            if mapping == mark and _DAY.fullmatch(day) and day < min(_last_days()):
                await self._delete(f"/{index}")

    async def _delete(self, path: str) -> None:
        try:
            await request(self._client, "DELETE", path)
        except RequestFailed as error:
            if error.status != 404:  # else it is gone already
                raise


async def _answer(place: Place | None, ask: Callable[[Place], Awaitable[T]]) -> tuple[T | None, str | None]:
    """Return what a place says, or why it does not."""
    if place is None:
        return None, "It is being opened: ask again in a moment."
    try:
        async with asyncio.timeout(ASK_SECS):
            return await ask(place), None
    except TimeoutError:
        return None, f"It gave no answer within {ASK_SECS:g} s."
    except GatewayError as error:
        return None, str(error)


def _last_days() -> list[str]:
    now = datetime.now(UTC)
    return [f"{when:%Y.%m.%d}" for when in (now, now - timedelta(days=1))]
