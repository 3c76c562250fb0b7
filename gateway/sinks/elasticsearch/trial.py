"""What Elasticsearch would say to documents, without anybody seeing them.

They go into an index of their own with the target's mapping and limits, which is deleted at once. Its name is
covered by the privileges of `gateway verify`; it is hidden, and no pattern of an event's index fits it.
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch import templates
from gateway.sinks.elasticsearch.client import RequestFailed, bulk, request
from gateway.sinks.elasticsearch.verdicts import Ruling, Verdict, rewritten, rule
from schemas import Registry

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

log = structlog.get_logger(__name__)
VERIFICATION = "ml-verify"
LEFT_SECS = 600  # an index of this age is what a crash left
# What decides whether a document is taken; not what runs pipelines, or places and copies shards.
_SETTINGS = ("mapping", "analysis", "similarity", "max_ngram_diff", "max_shingle_diff")
_BLOCKS = ("write", "read_only", "read_only_allow_delete")
# What a mapping means that says nothing of it: else the template of `ml-verify` would say it.
_DEFAULT_MAPPING = {"dynamic": "true", "date_detection": True, "numeric_detection": False, "dynamic_templates": []}
_FIELDS_LIMIT = 1000
_ODD = "Elasticsearch gave an answer to a request for an index that is not one."
Body = dict[str, Any]


class Trial:
    """Tries documents."""

    def __init__(self, client: AsyncElasticsearch, settings: Elasticsearch, prefix: str, registry: Registry) -> None:
        self._client = client
        self._settings = settings
        self._name = f"{prefix}{VERIFICATION}-trial-"
        wanted = templates.wanted(settings, prefix, registry).get(templates.name_of(prefix, VERIFICATION), {})
        self._own_fields = set(wanted.get("template", {}).get("mappings", {}).get("properties", {}))

    async def run(self, documents: Sequence[tuple[str, bytes]]) -> list[str | None]:
        """Return for each index name and document why it would not be taken now, None when it would.

        Raises `RequestFailed` when that cannot be known.
        """
        await self._clean()
        reasons: list[str | None] = [None] * len(documents)
        by_index = defaultdict(list)
        for at, (index, _) in enumerate(documents):
            by_index[index].append(at)
        for index, places in by_index.items():
            target = await self._target(index)
            closed = _closed(index, target)
            if closed is None:
                found = await self._try(target, [documents[at][1] for at in places])
            else:
                found = [closed] * len(places)
            for at, reason in zip(places, found, strict=True):
                reasons[at] = reason
        return reasons

    async def _target(self, index: str) -> Body:
        """Return what Elasticsearch has of an index, or what it would make it of."""
        try:
            answer = await request(self._client, "GET", f"/{index}")
        except RequestFailed as error:
            if error.status != 404:
                raise
            answer = await request(self._client, "POST", f"/_index_template/_simulate_index/{index}")
            target = answer.get("template", {}) if isinstance(answer, dict) else None
        else:
            # Of another name where this one is an alias.
            target = next(iter(answer.values())) if isinstance(answer, dict) and len(answer) == 1 else None
        if not isinstance(target, dict):
            raise RequestFailed(_ODD)
        return target

    async def _try(self, target: Body, sources: list[bytes]) -> list[str | None]:
        name = f"{self._name}{int(time.time())}-{secrets.token_hex(4)}"
        try:
            await request(self._client, "PUT", f"/{name}", body=self._body(target))
            rulings = [
                ruling
                for batch in _batches(sources, self._settings.max_batch_bytes)
                for ruling in await self._rulings(name, batch)
            ]
        finally:
            await self._delete(name)
        return [_reason(ruling) for ruling in rulings]

    def _body(self, target: Body) -> Body:
        """Return an index like the target, as far as it decides whether a document is taken."""
        try:
            mappings = {**_DEFAULT_MAPPING, **target.get("mappings", {})}
            index = target.get("settings", {}).get("index", {})
            settings = {name: index[name] for name in _SETTINGS if name in index}
            mapping = {"ignore_malformed": False, **settings.get("mapping", {})}
            fields = {"ignore_dynamic_beyond_limit": False, **mapping.get("total_fields", {})}
            # The template of `ml-verify` adds its fields: they take no room from the target's.
            more = len(self._own_fields - set(mappings.get("properties", {})))
            fields["limit"] = int(fields.get("limit", _FIELDS_LIMIT)) + more
        except (AttributeError, KeyError, TypeError, ValueError):
            raise RequestFailed(_ODD) from None
        settings |= {
            "mapping": {**mapping, "total_fields": fields},
            "hidden": True,
            "number_of_shards": 1,
            "auto_expand_replicas": False,
            "number_of_replicas": 0,
            "default_pipeline": "_none",
            "final_pipeline": "_none",
        }
        return {"mappings": mappings, "settings": {"index": settings}}

    async def _rulings(self, name: str, sources: list[bytes]) -> list[Ruling]:
        action = b'{"create":{"_index":"%s"}}\n' % name.encode()
        body = b"".join(action + source + b"\n" for source in sources)
        try:
            answer = await bulk(self._client, body, len(sources), self._settings.request_timeout_secs)
        except RequestFailed as error:
            if not error.blames_body or error.status == 429:
                raise
            if len(sources) == 1:
                return [Ruling(Verdict.REFUSED, "request", str(error))]
            middle = len(sources) // 2
            return await self._rulings(name, sources[:middle]) + await self._rulings(name, sources[middle:])
        if answer.items is None:
            return [Ruling(Verdict.INDEXED)] * len(sources)
        rulings = [rule(item) for item in answer.items]
        for at, ruling in enumerate(rulings):
            if ruling.verdict is Verdict.BUSY:
                raise RequestFailed(f"Elasticsearch is busy ({ruling.type}: {ruling.reason}).")
            if ruling.verdict is Verdict.REPEATED_KEY and (source := rewritten(sources[at])):
                [rulings[at]] = await self._rulings(name, [source])
        return rulings

    async def _clean(self) -> None:
        """Delete what crashes left."""
        path = f"/{self._name}*/_settings?expand_wildcards=all&filter_path=*.settings.index.creation_date"
        left = await request(self._client, "GET", path)
        for name in left if isinstance(left, dict) else ():
            since = name.removeprefix(self._name).partition("-")[0]
            if since.isdecimal() and time.time() - int(since) > LEFT_SECS:
                await self._delete(name)

    async def _delete(self, name: str) -> None:
        try:
            await request(self._client, "DELETE", f"/{name}")
        except RequestFailed as error:
            if error.status != 404:
                log.warning("An index for a trial of documents is left: delete it.", index=name, error=str(error))


def _closed(index: str, target: Body) -> str | None:
    """Return why an index takes no documents at all."""
    settings = target.get("settings", {}).get("index", {})
    if settings.get("verified_before_close") == "true":
        return f"The index {index} is closed."
    blocks = [f"index.blocks.{name}" for name in _BLOCKS if settings.get("blocks", {}).get(name) == "true"]
    return f"The index {index} is blocked ({', '.join(blocks)})." if blocks else None


def _batches(sources: list[bytes], max_bytes: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for source in sources:
        if batch and size + len(source) > max_bytes:
            yield batch
            batch, size = [], 0
        batch.append(source)
        size += len(source)
    yield batch


def _reason(ruling: Ruling) -> str | None:
    taken = ruling.verdict in (Verdict.INDEXED, Verdict.DUPLICATE)
    return None if taken else f"{ruling.type}: {ruling.reason}"
