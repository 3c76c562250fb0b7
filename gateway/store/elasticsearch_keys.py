"""Which keys have the most documents in Elasticsearch.

Counts of one field with more than `_SHARD_KEYS` values in an index may be short by a few: each shard tells of
its own most frequent ones. Combinations are counted exactly, up to `MAX_COMBINATIONS`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

from gateway.store.aggregation import FURTHEST, NEAR, Question
from gateway.store.elasticsearch_fields import Fields, Filter, Key, Where, within
from gateway.store.query import QueryError

_SHARD_KEYS = 5000
MAX_COMBINATIONS = 10_000
_NONE: Key = (3, None)
Search = Callable[..., Awaitable[list[dict[str, Any]]]]
Combination = tuple[Key, ...]


class Found(NamedTuple):
    """The keys shown, as JSON has them, with their counts and a filter for the documents of each."""

    keys: list[Any]
    counts: list[int]
    filters: list[Filter]
    total: int
    missing: int
    other: int


async def keys(search: Search, fields: Fields, question: Question) -> Found:
    """Find the keys with the most documents; ``search`` takes indices and aggregations, any number of times."""
    if len(question.keys) == 1 and not question.histogram:
        return await _values(search, fields, question)
    return await _combinations(search, fields, question)


async def _values(search: Search, fields: Fields, question: Question) -> Found:
    """Find the values of one field."""
    wheres = fields.where(question.keys[0].field)
    terms = {"size": question.limit, "shard_size": _SHARD_KEYS, "order": [{"_count": "desc"}, {"_key": "asc"}]}
    if len(wheres) > 1:  # a value may be in several of them
        terms["size"] = _SHARD_KEYS
    found_in = [
        (each.indices, {"by": {"terms": {**terms, "field": each.name}}, "none": {"missing": {"field": each.name}}})
        for each in wheres
    ]
    everything, *answers = await search((fields.indices, {}), *found_in)
    total = missing = everything["hits"]["total"]["value"]
    other = 0
    counts: dict[Key, int] = defaultdict(int)
    filters: dict[Key, list[Filter]] = defaultdict(list)
    for where, answer in zip(wheres, answers, strict=True):
        found = answer.get("aggregations")
        if found is None:  # its indices were deleted meanwhile
            continue
        missing -= answer["hits"]["total"]["value"] - found["none"]["doc_count"]
        other += found["by"]["sum_other_doc_count"]
        for bucket in found["by"]["buckets"]:
            key = where.key(bucket["key"])
            counts[key] += bucket["doc_count"]
            other += bucket["doc_count"]
            same = where.same(bucket.get("key_as_string", bucket["key"]))
            filters[key].append(same if len(wheres) == 1 else within(where.indices, [same]))
    top = sorted(counts, key=lambda key: (-counts[key], key))[: question.limit]
    shown = [counts[key] for key in top]
    any_of = [{"bool": {"should": filters[key]}} for key in top]
    return Found([value for _, value in top], shown, any_of, total, missing, other - sum(shown))


async def _combinations(search: Search, fields: Fields, question: Question) -> Found:
    """Find the combinations of values of several fields, or the steps of a number."""
    alike = _alike(fields, question)
    answers = await search(*((indices, _counting(question, wheres)) for wheres, indices in alike.items()))
    counts: dict[Combination, int] = defaultdict(int)
    filters: dict[Combination, list[Filter]] = defaultdict(list)
    for (wheres, indices), answer in zip(alike.items(), answers, strict=True):
        for combination, documents in _counted(question, wheres, answer):
            counts[combination] += documents
            conditions = list(_conditions(question, wheres, combination))
            filters[combination].append(within(indices, conditions))
    total = sum(answer["hits"]["total"]["value"] for answer in answers)
    missing = counts.pop((_NONE,) * len(question.keys), 0)
    top = sorted(counts, key=lambda each: (-counts[each], each))[: question.limit]
    if question.histogram:
        top.sort()
    shown = [counts[each] for each in top]
    any_of = [{"bool": {"should": filters[each]}} for each in top]
    found: list[Any] = []
    for combination in top:
        values = [
            value if key.width is None or value is None else key.bound(value)
            for key, (_, value) in zip(question.keys, combination, strict=True)
        ]
        found.append(values if len(values) > 1 else values[0])
    return Found(found, shown, any_of, total, missing, sum(counts.values()) - sum(shown))


Wheres = tuple[Where | None, ...]
"""How each field is there in the same indices; None where they do not have it."""


def _alike(fields: Fields, question: Question) -> dict[Wheres, tuple[str, ...]]:
    """Return the indices that have all the fields in the same way."""
    there: dict[str, list[Where | None]] = {index: [None] * len(question.keys) for index in fields.indices}
    for place, key in enumerate(question.keys):
        for where in fields.where(key.field):
            if key.width is None or where.family == "number":
                for index in where.indices:
                    there[index][place] = where
    alike: dict[Wheres, list[str]] = defaultdict(list)
    for index, wheres in there.items():
        alike[tuple(wheres)].append(index)
    return {wheres: tuple(indices) for wheres, indices in alike.items()}


def _counting(question: Question, wheres: Wheres) -> dict[str, Any]:
    """Return the aggregations: combinations of the fields' values, in each the steps of each number."""
    found: dict[str, Any] = {}
    for key, where in reversed(list(zip(question.keys, wheres, strict=True))):
        if key.width is not None and where is not None:
            inside = {"aggs": found} if found else {}
            width = float(key.width)
            steps = {"field": where.name, "interval": width, "offset": -NEAR * width, "min_doc_count": 1}
            found = {"steps": {"histogram": steps, **inside}, "none": {"missing": {"field": where.name}, **inside}}
    sources = [
        {str(place): {"terms": {"field": where.name, "missing_bucket": True}}}
        for place, (key, where) in enumerate(zip(question.keys, wheres, strict=True))
        if key.width is None and where is not None
    ]
    if sources:
        inside = {"aggs": found} if found else {}
        found = {"values": {"composite": {"size": MAX_COMBINATIONS + 1, "sources": sources}, **inside}}
    return found


def _counted(question: Question, wheres: Wheres, answer: dict[str, Any]) -> Iterator[tuple[Combination, int]]:
    """Return each combination that was counted; of a number how many widths it is from 0."""
    everything = {**answer.get("aggregations", {}), "doc_count": answer["hits"]["total"]["value"]}
    composite = everything.get("values")
    if composite is not None and len(composite["buckets"]) > MAX_COMBINATIONS:
        raise QueryError(
            f"The fields that by names have more than {MAX_COMBINATIONS:,} combinations of values, too many for "
            "Elasticsearch to count them all: name fewer fields, or choose fewer documents."
        )
    for bucket in [everything] if composite is None else composite["buckets"]:
        values = bucket.get("key", {})
        combination = [
            _NONE if where is None or values.get(str(place)) is None else where.key(values[str(place)])
            for place, where in enumerate(wheres)
        ]
        steps = [place for place, key in enumerate(question.keys) if key.width and wheres[place]]
        yield from _stepped(question, steps, combination, bucket)


def _stepped(
    question: Question, steps: Sequence[int], combination: list[Key], bucket: dict[str, Any]
) -> Iterator[tuple[Combination, int]]:
    """Return the combination of a bucket, or those in it with each step of the numbers at the places ``steps``."""
    if not bucket["doc_count"]:
        return
    if not steps:
        yield tuple(combination), bucket["doc_count"]
        return
    place, *rest = steps
    width = float(question.keys[place].width or 1)
    for inside in (*bucket["steps"]["buckets"], bucket["none"]):
        at = float(inside.get("key", "nan")) / width  # may be infinite
        step = _NONE if not abs(at) < FURTHEST else (1, round(at + NEAR))
        yield from _stepped(question, rest, [*combination[:place], step, *combination[place + 1 :]], inside)


def _conditions(question: Question, wheres: Wheres, combination: Combination) -> Iterator[Filter]:
    """Return what a document of a combination fulfils."""
    for key, where, (_, value) in zip(question.keys, wheres, combination, strict=True):
        if where is None:
            continue
        if value is None:
            yield {"bool": {"must_not": [where.exists()]}}
        elif key.width is None:
            yield where.same(value)
        else:
            width = float(key.width)
            yield {"range": {where.name: {"gte": (value - NEAR) * width, "lt": (value + 1 - NEAR) * width}}}
