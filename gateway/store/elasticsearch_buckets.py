"""Buckets of documents out of Elasticsearch.

A field is measured where it is a number (`gateway.store.elasticsearch_fields`). First the keys with the most
documents are found (`gateway.store.elasticsearch_keys`); in the second step a bucket is a filter, which fits
whatever the type. Percentiles of more than about two thousand numbers are approximate (t-digest).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.store.aggregation import Aggregation, Place, Question, aggregation
from gateway.store.conditions import matches
from gateway.store.elasticsearch_fields import Fields, Filter, spellings, within
from gateway.store.elasticsearch_keys import keys

Call = Callable[..., Awaitable[dict[str, Any]]]


async def aggregate(call: Call, targets: list[str], filters: list[Filter], question: Question) -> Aggregation:
    """Count and measure. ``call`` makes a call of the client, ``targets`` are the gateway's own indices.

    ``filters`` choose the documents. Raises what ``call`` raises, and `QueryError` for too many buckets.
    """
    asked = {*(key.field for key in question.keys), *question.fields, *question.counted}
    caps = await call(
        "field_caps",
        index=targets,
        fields=spellings(asked),
        filters="-metadata",
        ignore_unavailable=True,
        allow_no_indices=True,
    )
    everywhere = tuple(sorted(index for index in caps["indices"] if matches(question.query.patterns, index)))
    if not everywhere:
        return aggregation(question, 0, [], {}, {})
    asking = _Asking(call, filters, question, Fields(caps["fields"], everywhere))
    if not question.by:
        counts, figures = await asking.measure([])
        return aggregation(question, asking.total, [], counts, figures)
    found = await keys(asking.search, asking.fields, question)
    counts = {(None, place): documents for place, documents in enumerate(found.counts)}
    figures = {}
    if found.keys and (question.figures or question.interval):
        measured, figures = await asking.measure(found.filters)
        counts = measured if question.interval else counts
    return aggregation(question, found.total, found.keys, counts, figures, found.missing, found.other)


class _Asking:
    """One question to Elasticsearch."""

    def __init__(self, call: Call, filters: list[Filter], question: Question, fields: Fields) -> None:
        self._call = call
        self._filters = filters
        self._question = question
        self.fields = fields
        self.total = 0

    async def measure(self, keys: Sequence[Filter]) -> tuple[dict[Place, int], dict[Place, dict[str, float | None]]]:
        """Count the documents of each bucket and measure their fields; ``keys`` are filters, one for each key."""
        question = self._question
        # Fields that are numbers in the same indices are measured together, most often all in one search.
        fields: dict[tuple[str, ...], list[str]] = {self.fields.indices: []}
        for field in question.fields:
            for where in self.fields.where(field):
                if where.family == "number":
                    fields.setdefault(where.indices, []).append(field)
        counting = self._countings()
        answers = await self.search(
            *(
                (indices, self._in_buckets({**self._measures(names), **(counting if place == 0 else {})}, keys))
                for place, (indices, names) in enumerate(fields.items())
            )
        )
        if not keys:
            self.total = answers[0]["hits"]["total"]["value"]
        counts: dict[Place, int] = {}
        figures: dict[Place, dict[str, float | None]] = defaultdict(dict)
        for answer, names in zip(answers, fields.values(), strict=True):
            for place, bucket in self._buckets(answer.get("aggregations", {}), bool(keys)):
                if answer is answers[0] and bucket["doc_count"]:
                    counts[place] = bucket["doc_count"]
                for field in names:
                    figures[place] |= self._figures(field, bucket)
                for number, field in enumerate(self._question.counted):
                    if f"counted{number}" in bucket:
                        figures[place][f"count:{field}"] = bucket[f"counted{number}"]["doc_count"]
        return counts, figures

    def _measures(self, fields: list[str]) -> dict[str, Any]:
        measures: dict[str, Any] = {}
        for field in fields:
            place = self._question.fields.index(field)
            percents = self._question.percents(field)
            measures[f"stats{place}"] = {"stats": {"field": field}}
            if percents:
                measures[f"percentiles{place}"] = {
                    "percentiles": {"field": field, "percents": percents, "keyed": False}
                }
        return measures

    def _countings(self) -> dict[str, Any]:
        """Return what counts the documents that have a value in each field."""
        found = {}
        for number, field in enumerate(self._question.counted):
            there = [within(where.indices, [where.exists()]) for where in self.fields.where(field)]
            found[f"counted{number}"] = {"filter": {"bool": {"should": there}} if there else {"match_none": {}}}
        return found

    def _in_buckets(self, measures: dict[str, Any], keys: Sequence[Filter]) -> dict[str, Any]:
        secs = self._question.interval_secs
        if secs is not None:
            times = {"field": "@timestamp", "fixed_interval": f"{secs}s", "min_doc_count": 1}
            measures = {"time": {"date_histogram": times, "aggs": measures}}
        if keys:
            measures = {"by": {"filters": {"filters": list(keys)}, "aggs": measures}}
        return measures

    def _buckets(self, found: dict[str, Any], by_key: bool) -> list[tuple[Place, dict[str, Any]]]:
        """Return each bucket of an answer and where it stands."""
        keyed: list[tuple[int | None, dict[str, Any]]] = [(None, {**found, "doc_count": self.total})]
        if by_key:
            keyed = list(enumerate(found["by"]["buckets"])) if found else []
        if self._question.interval is None:
            return [((None, key), bucket) for key, bucket in keyed]
        return [
            ((bucket["key"] * 1000, key), bucket)
            for key, times in keyed
            for bucket in times.get("time", {}).get("buckets", [])
        ]

    def _figures(self, field: str, bucket: dict[str, Any]) -> dict[str, float | None]:
        place = self._question.fields.index(field)
        stats = bucket.get(f"stats{place}", {"count": 0})
        if not stats["count"]:
            return {}
        at = {each["key"]: each["value"] for each in bucket.get(f"percentiles{place}", {}).get("values", ())}
        return {
            metric.name: stats[metric.function] if metric.percent is None else at[metric.percent]
            for metric in self._question.of(field)
        }

    async def search(self, *searches: tuple[tuple[str, ...], dict[str, Any]]) -> list[dict[str, Any]]:
        """Search in indices, each with aggregations of its own; the names of many indices fit no address."""
        lines: list[dict[str, Any]] = []
        for indices, aggregations in searches:
            lines += (
                {"index": list(indices), "ignore_unavailable": True, "allow_partial_search_results": False},
                {
                    "size": 0,
                    "track_total_hits": True,
                    "query": {"bool": {"filter": self._filters}},
                    "aggs": aggregations,
                },
            )
        answers: list[dict[str, Any]] = (await self._call("msearch", searches=lines))["responses"]
        return answers
