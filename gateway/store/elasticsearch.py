"""The same queries, answered by Elasticsearch.

Pages are ordered by ``@timestamp``, ``_index`` and ``_seq_no``: all three can be sorted by without
fielddata and never change for a document, so a cursor needs no open point in time and does not expire.
Within an index of several shards two documents may agree in all three: no page ends between them.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.store.aggregation import TOO_MANY_BUCKETS, Aggregation, Question
from gateway.store.conditions import matches
from gateway.store.documents import pages
from gateway.store.elasticsearch_buckets import aggregate
from gateway.store.parquet import collect, unknown
from gateway.store.query import MAX_LIMIT, Hits, Query, QueryError, StoreUnavailable, decode_cursor, encode_cursor
from gateway.store.store import Index
from schemas import BUILT_IN, Registry, properties

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

NAME = "elasticsearch"
_SORT: list[dict[str, Any]] = [
    {"@timestamp": {"order": "desc", "unmapped_type": "date"}},
    {"_index": {"order": "asc"}},
    {"_seq_no": {"order": "asc", "unmapped_type": "long"}},
]
# Elasticsearch refuses a query of too many clauses; it takes at least 1024.
_MAX_CLAUSES = 900
_MAX_NAMES = 1000
# The bulks go through the same client, which has more connections than this beside them.
_AT_ONCE = 4
# A new index's shards need a moment before they answer.
_RETRY_SECS = (0.2, 0.4, 0.8)


class _NotFound(StoreUnavailable):
    """What was asked for by name is not there."""


class ElasticsearchStore:
    """Reads the gateway's own indices; the client's life is its owner's concern."""

    def __init__(self, client: AsyncElasticsearch, index_prefix: str = "", registry: Registry = BUILT_IN) -> None:
        """``index_prefix`` stands before every index name, as in `events.index_prefix`."""
        self._client = client
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._registry = registry
        self._targets = sorted(f"{index_prefix}{index}-*" for index in registry.indices)
        # Which indices map a field as text; elsewhere the same name may be a keyword.
        self._text: dict[str, set[str]] = {}
        for kind in registry.kinds.values():
            for field, mapping in properties(kind).items():
                if mapping["type"] == "text":
                    self._text.setdefault(field, set()).add(f"{index_prefix}{kind.index}-*")
        self._known = {name for kind in registry.kinds.values() for name in properties(kind)}

    async def search(self, query: Query) -> Hits:
        """Return a page; raise `QueryError` or `StoreUnavailable`."""
        after = None if query.cursor is None else decode_cursor(NAME, query.cursor, int, str, int)
        conditions = await self._conditions(query)

        async def found(size: int) -> dict[str, Any]:
            return await self._call(
                "search",
                index=self._targets,
                query={"bool": {"filter": conditions}},
                sort=_SORT,
                size=size,
                search_after=after,
                track_total_hits=True,
                ignore_unavailable=True,
                allow_no_indices=True,
                allow_partial_search_results=False,
            )

        limit = min(query.limit, MAX_LIMIT - 1)
        answer = (await found(limit + 1))["hits"]
        end = _end(answer["hits"], limit)
        if end == 0 and answer["hits"]:
            answer = (await found(MAX_LIMIT))["hits"]
            end = _group_end(answer["hits"])
        shown = answer["hits"][:end]
        more = end < len(answer["hits"])
        return Hits(
            answer["total"]["value"],
            [{name: hit[name] for name in ("_index", "_id", "_source")} for hit in shown],
            encode_cursor(NAME, *shown[-1]["sort"]) if more else None,
        )

    async def export(self, index: str, file: Path) -> None:
        """Write an index as it is at one moment into a Parquet file; raise `UnknownIndex` when it is not there."""
        try:
            if not matches(self._targets, index) or set(index) & set("*?,"):
                raise _NotFound
            await collect(pages(self._call, index), self._registry, index, file)
        except _NotFound:
            raise unknown(index, [each.name for each in await self.indices()]) from None

    async def indices(self) -> list[Index]:
        """Return the newest indices that hold documents, by name downwards; their bytes need a privilege more."""
        answer = await self._call(
            "search",
            index=self._targets,
            size=0,
            aggs={"names": {"terms": {"field": "_index", "size": _MAX_NAMES, "order": {"_key": "desc"}}}},
            ignore_unavailable=True,
            allow_no_indices=True,
        )
        found = answer.get("aggregations", {}).get("names", {}).get("buckets", [])
        return [Index(bucket["key"], bucket["doc_count"], None) for bucket in found]

    async def aggregate(self, question: Question) -> Aggregation:
        """Count and measure; raise `QueryError` or `StoreUnavailable`."""
        return await aggregate(self._call, self._targets, await self._conditions(question.query), question)

    async def _conditions(self, query: Query) -> list[dict[str, Any]]:
        """Return what a document must fulfil."""
        conditions = [self._in(query), *map(self._equal, query.where)]
        bounds = {}
        if query.since_us is not None:
            bounds["gte"] = query.since_us // 1000
        if query.until_us is not None:
            bounds["lt"] = -(-query.until_us // 1000)  # times are kept to the millisecond
        if bounds:
            conditions.append({"range": {"@timestamp": {**bounds, "format": "epoch_millis"}}})
        if query.words:
            conditions += await self._contain(query.words)
        return conditions

    def _in(self, query: Query) -> dict[str, Any]:
        escaped = [pattern.replace("\\", "\\\\").replace("?", "\\?") for pattern in query.patterns]
        return _any([{"wildcard": {"_index": {"value": pattern}}} for pattern in escaped])

    def _equal(self, where: tuple[str, str]) -> dict[str, Any]:
        """A field is equal; `match` on anything but text is `term`, and lenient about `abc` for a number."""
        field, value = where
        if field in ("_id", "_index"):
            return {"term": {field: {"value": value}}}
        plain = _match(field, value)
        if field not in self._text:
            return plain
        text = [{"wildcard": {"_index": {"value": index}}} for index in sorted(self._text[field])]
        return _any([_match(f"{field}.keyword", value), {"bool": {"must": [plain], "must_not": text}}])

    async def _contain(self, words: list[str]) -> list[dict[str, Any]]:
        """Each word is part of a string, in any field that holds strings."""
        answer = await self._call(
            "field_caps",
            index=self._targets,
            fields="*",
            filters="-metadata",
            ignore_unavailable=True,
            allow_no_indices=True,
        )
        strings = [
            (field, kind, found.get("indices"))
            for field, kinds in answer["fields"].items()
            for kind, found in kinds.items()
            if kind in ("keyword", "text")
        ]
        # The fields of the schemas first, should there be too many.
        strings.sort(key=lambda each: (each[0].removesuffix(".keyword") not in self._known, each[0]))
        strings = strings[: max(1, _MAX_CLAUSES // (2 * len(words)))]
        return [_any([_part(field, kind, indices, word) for field, kind, indices in strings]) for word in words]

    async def _call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Ask, a few times while shards are not ready; of several searches at once each must succeed."""
        from elasticsearch import ApiError, TransportError

        for pause in (*_RETRY_SECS, None):
            try:
                async with self._turns:
                    answer = dict(await getattr(self._client, name)(**arguments))
                failed = next((each for each in answer.get("responses", ()) if "error" in each), None)
                if failed is None:
                    return answer
                status, cause = int(failed["status"]), _cause(failed)
            except ApiError as error:
                status, cause = error.status_code, _cause(error.body)
                cause.setdefault("reason", error.message)
            except TransportError as error:
                reason = error.message.replace(" ssl:default", "")  # said without TLS too
                raise StoreUnavailable(f"Elasticsearch cannot be reached: {reason}.") from None
            reason = str(cause.get("reason")).rstrip(".")[:500]
            if cause.get("type") == "too_many_buckets_exception":
                raise QueryError(TOO_MANY_BUCKETS)
            if cause.get("type") == "query_shard_exception":  # such as a word of hundreds of characters
                raise QueryError(f"Elasticsearch cannot search for this ({reason}): write less of it.")
            if status == HTTPStatus.NOT_FOUND:
                raise _NotFound(f"Elasticsearch does not find it: {reason}.")
            if status != HTTPStatus.SERVICE_UNAVAILABLE or pause is None:
                raise StoreUnavailable(f"Elasticsearch answered {status} to a search: {reason}.")
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")


def _cause(body: Any) -> dict[str, Any]:
    """Return the first cause that an answer names, its ``type`` and ``reason``; empty when it names none."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return {}
    causes = error.get("root_cause")
    return dict(causes[0] if causes else error.get("caused_by", {}))


def _any(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    return {"bool": {"should": conditions, "minimum_should_match": 1}} if conditions else {"match_none": {}}


def _match(field: str, value: str) -> dict[str, Any]:
    return {"match": {field: {"query": value, "lenient": True}}}


def _part(field: str, kind: str, indices: list[str] | None, word: str) -> dict[str, Any]:
    """A word is part of a field of strings; ``indices`` where it is a string, None: wherever it is."""
    found = {"wildcard": {field: {"value": f"*{_plain(word)}*", "case_insensitive": True}}}
    if kind == "text":  # a long one has no keyword, and its tokens have no punctuation
        found = _any([found, {"match_phrase": {field: {"query": word}}}])
    if indices is None:
        return found
    return {"bool": {"must": [found], "filter": [{"terms": {"_index": indices}}]}}


def _plain(word: str) -> str:
    """Return a word as a wildcard pattern that stands for itself."""
    return "".join(f"\\{each}" if each in "*?\\" else each for each in word)


def _end(hits: list[dict[str, Any]], limit: int) -> int:
    """Return how many hits make a page, so that it does not end between two of the same place; 0: none do."""
    if len(hits) <= limit:
        return len(hits)
    end = limit
    while end and hits[end - 1]["sort"] == hits[end]["sort"]:
        end -= 1
    return end


def _group_end(hits: list[dict[str, Any]]) -> int:
    """Return how many hits have the place of the first."""
    return next((end for end, hit in enumerate(hits) if hit["sort"] != hits[0]["sort"]), len(hits))
