"""Buckets of documents out of Elasticsearch.

The same field may be mapped differently from index to index, and Elasticsearch then fails, or leaves values
out without a word. So each type of a field is asked for in the indices that have it, and a field is measured
where it is a number. In the second step a bucket is a filter, which fits whatever the type.

Counts of a field with more than `_SHARD_KEYS` values in an index may be short by a few: each shard tells of
its own most frequent ones. Percentiles of more than about two thousand numbers are approximate (t-digest).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from gateway.store.aggregation import Aggregation, Place, Question, aggregation, iso, number
from gateway.store.conditions import matches

Call = Callable[..., Awaitable[dict[str, Any]]]
Filter = dict[str, Any]

_SHARD_KEYS = 5000
_FAMILIES = {
    **dict.fromkeys(("double", "float", "half_float", "scaled_float"), "number"),
    **dict.fromkeys(("long", "integer", "short", "byte", "unsigned_long"), "number"),
    **dict.fromkeys(("keyword", "constant_keyword", "wildcard"), "string"),
    **dict.fromkeys(("date", "date_nanos"), "date"),
    "boolean": "boolean",
}
_RANKS = {"boolean": 0, "number": 1, "string": 2, "date": 2}
Key = tuple[int, Any]
"""A key and before it the rank of its type: Python would take 1 for true."""


class _Where(NamedTuple):
    """A field as some of the indices have it; ``name`` is what Elasticsearch calls it there."""

    family: str
    name: str
    indices: tuple[str, ...]

    def key(self, value: Any) -> Key:
        """Return what a bucket's key means."""
        rank = _RANKS[self.family]
        match self.family:
            case "boolean":
                return rank, bool(value)
            case "number":
                return rank, number(float(value))
            case "date":
                return rank, iso(int(value) * 1000, "milliseconds")
        return rank, value


async def aggregate(call: Call, targets: list[str], filters: list[Filter], question: Question) -> Aggregation:
    """Count and measure. ``call`` makes a call of the client, ``targets`` are the gateway's own indices.

    ``filters`` choose the documents. Raises what ``call`` raises, and `QueryError` for too many buckets.
    """
    asked = {field for field in (*(key.field for key in question.keys), *question.fields)}
    caps = await call(
        "field_caps",
        index=targets,
        fields=sorted({"@timestamp", *asked, *(f"{field}.keyword" for field in asked)}),
        filters="-metadata",
        ignore_unavailable=True,
        allow_no_indices=True,
    )
    everywhere = tuple(sorted(index for index in caps["indices"] if matches(question.query.patterns, index)))
    if not everywhere:
        return aggregation(question, 0, [], {}, {})
    asking = _Asking(call, filters, question, everywhere, caps["fields"])
    if not question.by:
        counts, figures = await asking.measure([])
        return aggregation(question, asking.total, [], counts, figures)
    keys = await asking.keys()
    counts, figures = asking.shown, {}
    if keys and (question.figures or question.interval):
        measured, figures = await asking.measure(asking.key_filters)
        counts = measured if question.interval else counts
    return aggregation(question, asking.total, keys, counts, figures, asking.missing, asking.other)


class _Asking:
    """One question to Elasticsearch."""

    def __init__(
        self, call: Call, filters: list[Filter], question: Question, everywhere: tuple[str, ...], caps: dict[str, Any]
    ) -> None:
        self._call = call
        self._filters = filters
        self._question = question
        self._everywhere = everywhere
        self._caps = caps
        self.shown: dict[Place, int] = {}
        self.key_filters: list[Filter] = []
        self.total = self.missing = self.other = 0

    async def keys(self) -> list[Any]:
        """Find the values with the most documents; return them as JSON has them."""
        question = self._question
        wheres = self._where(question.keys[0].field)
        terms = {"size": question.limit, "shard_size": _SHARD_KEYS, "order": [{"_count": "desc"}, {"_key": "asc"}]}
        if len(wheres) > 1:  # a value may be in several of them
            terms["size"] = _SHARD_KEYS
        found_in = [
            (each.indices, {"by": {"terms": {**terms, "field": each.name}}, "none": {"missing": {"field": each.name}}})
            for each in wheres
        ]
        answers = await self._search((self._everywhere, {}), *found_in)
        self.total = self.missing = answers[0]["hits"]["total"]["value"]
        counts: dict[Key, int] = defaultdict(int)
        filters: dict[Key, list[Filter]] = defaultdict(list)
        for where, answer in zip(wheres, answers[1:], strict=True):
            found = answer.get("aggregations")
            if found is None:  # its indices were deleted meanwhile
                continue
            self.missing -= answer["hits"]["total"]["value"] - found["none"]["doc_count"]
            self.other += found["by"]["sum_other_doc_count"]
            for bucket in found["by"]["buckets"]:
                key = where.key(bucket["key"])
                counts[key] += bucket["doc_count"]
                self.other += bucket["doc_count"]
                same = {"match": {where.name: {"query": bucket.get("key_as_string", bucket["key"]), "lenient": True}}}
                there = {"terms": {"_index": list(where.indices)}}
                filters[key].append(same if len(wheres) == 1 else {"bool": {"filter": [same, there]}})
        top = sorted(counts, key=lambda key: (-counts[key], key))[: question.limit]
        self.shown = {(None, place): counts[key] for place, key in enumerate(top)}
        self.other -= sum(self.shown.values())
        self.key_filters = [{"bool": {"should": filters[key]}} for key in top]
        return [value for _, value in top]

    async def measure(self, keys: Sequence[Filter]) -> tuple[dict[Place, int], dict[Place, dict[str, float | None]]]:
        """Count the documents of each bucket and measure their fields; ``keys`` are filters, one for each key."""
        question = self._question
        # Fields that are numbers in the same indices are measured together, most often all in one search.
        fields: dict[tuple[str, ...], list[str]] = {self._everywhere: []}
        for field in question.fields:
            for where in self._where(field):
                if where.family == "number":
                    fields.setdefault(where.indices, []).append(field)
        answers = await self._search(
            *((indices, self._in_buckets(self._measures(names), keys)) for indices, names in fields.items())
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
        return counts, figures

    def _where(self, field: str) -> list[_Where]:
        """Return how the indices have a field; not those that do not have it, or as an object."""
        if field == "_index":
            return [_Where("string", "_index", self._everywhere)]
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        as_keyword = self._caps.get(f"{field}.keyword", {})
        for kind, caps in self._caps.get(field, {}).items():
            indices = [index for index in caps.get("indices", self._everywhere) if index in self._everywhere]
            if kind == "text" and "keyword" in as_keyword:
                found["string", f"{field}.keyword"] += indices
            elif kind in _FAMILIES:
                found[_FAMILIES[kind], field] += indices
        return [_Where(family, name, tuple(sorted(indices))) for (family, name), indices in found.items() if indices]

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

    async def _search(self, *searches: tuple[tuple[str, ...], dict[str, Any]]) -> list[dict[str, Any]]:
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
