"""One suite for both stores: counts and figures, compared with what Python makes of the same documents."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from itertools import product
from typing import Any

import pytest

from gateway.store import buckets
from gateway.store.aggregation import MAX_BUCKETS, MAX_METRICS, Aggregation, Question
from gateway.store.elasticsearch_keys import MAX_COMBINATIONS
from gateway.store.embedded import EmbeddedStore
from gateway.store.query import Query, QueryError
from tests.contract.stores import Subject

pytestmark = pytest.mark.anyio

FIRST, SECOND = "ml-metrics-2026.11.20", "ml-metrics-2026.11.21"
TRAINING, LOGS = "ml-training-2026.11.20", "ml-pipeline-2026.11.20"
METRICS = ("avg", "sum", "min", "max", "p50", "p95", "p99.9")
Document = dict[str, Any]


def documents() -> dict[str, dict[str, Document]]:
    """Return documents of several kinds, with known and unknown fields, here and there without one."""
    chance = random.Random(7)
    found: dict[str, dict[str, Document]] = defaultdict(dict)
    for n in range(400):
        index = chance.choice([FIRST, FIRST, SECOND, TRAINING, LOGS])
        day = datetime(2026, 11, 21 if index is SECOND else 20, 10, tzinfo=UTC)
        when = day + timedelta(milliseconds=chance.randrange(4 * 3600 * 1000))
        document: Document = {
            "@timestamp": when.isoformat().replace("+00:00", "Z"),
            "received_at": f"2026-11-22T00:00:0{n % 3}Z",
            "model_name": chance.choice(["fraud", "churn", "Churn", "ünder", "a:b.c", ""]),
            "temperature": chance.choice([20, 21.5, -3, 20.0]),
            "tags": chance.choice([["a", "b"], ["b", "b"], [], "a", [None, "c"]]),
            "scores": chance.choice([[1, 2, 2.5], [], 4, [None, 8]]),
            "retried": chance.random() < 0.3,
            "features": chance.choice([{"age": 40}, {"age": [41, 42]}, [{"age": 43}, {"age": 40}], {"other": 1}]),
            "features.age": 44,
            "same": n % 7,
        }
        if index in (FIRST, SECOND):
            document |= {
                "inference_time_ms": chance.choice([25, chance.lognormvariate(3, 1)]),
                "prediction_correct": chance.random() < 0.8,
                "error_message": chance.choice(["Connection timeout", "out of memory"]),
                "error": chance.random() < 0.5,
                "odd": chance.random(),
            }
        elif index is TRAINING:
            document |= {"epoch": chance.randrange(9), "metrics": {"val.loss": chance.random(), "loss": 1}}
            document |= {"error_message": "out of memory", "odd": chance.random() < 0.5}
        else:
            document |= {
                "message": chance.choice(["started", "out of memory"]),
                "error": chance.choice(["true", "disk"]),
            }
            document |= {"confidence": chance.random(), "odd": chance.choice(["x", "y"])}
        for name in chance.sample(sorted(document.keys() - {"@timestamp"}), 3):
            del document[name]
        found[index][f"{n}"] = document
    return found


def values(node: Any, name: str) -> Iterable[Any]:
    """Return the values under a name with dots, in objects and lists of any shape."""
    if isinstance(node, list):
        for each in node:
            yield from values(each, name)
    elif not name:
        if node is not None and not isinstance(node, dict):
            yield node
    elif isinstance(node, dict):
        for key, under in node.items():
            if name == key:
                yield from values(under, "")
            elif name.startswith(key + "."):
                yield from values(under, name.removeprefix(key + "."))


def keys(document: Document, field: str) -> list[Any]:
    """Return the different values of a field, times as a bucket's key has them."""
    found: dict[tuple[type, Any], Any] = {}
    for value in values(document, field):
        if field in ("@timestamp", "received_at"):
            when = datetime.fromisoformat(value).replace(tzinfo=None)
            value = when.isoformat(timespec="milliseconds") + "Z"
        kind = float if type(value) is int else type(value)
        found[kind, value] = value
    return list(found.values())


def numbers(members: list[Document], field: str) -> list[float]:
    """Return the numbers of a field, sorted."""
    return sorted(v for each in members for v in values(each, field) if type(v) in (int, float))


def figure(sorted_numbers: list[float], function: str) -> float | None:
    """Compute a metric."""
    if not sorted_numbers:
        return None
    match function:
        case "avg":
            return sum(sorted_numbers) / len(sorted_numbers)
        case "sum":
            return sum(sorted_numbers)
        case "min":
            return sorted_numbers[0]
        case "max":
            return sorted_numbers[-1]
    at = float(function[1:]) / 100 * (len(sorted_numbers) - 1)
    low = sorted_numbers[int(at)]
    return low + (at - int(at)) * (sorted_numbers[min(int(at) + 1, len(sorted_numbers) - 1)] - low)


def stretch(document: Document, secs: int) -> str:
    """Return the beginning of the stretch of time a document lies in."""
    when = int(datetime.fromisoformat(document["@timestamp"]).timestamp())
    return datetime.fromtimestamp(when - when % secs, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rank(key: Any) -> tuple[int, Any]:
    """Order keys: booleans, numbers, strings, none."""
    return (3 if key is None else 0 if isinstance(key, bool) else 2 if isinstance(key, str) else 1, key)


def steps(document: Document, field: str, width: str) -> list[float]:
    """Return the lower bounds of the buckets of a field's numbers, computed in decimals."""
    found = (Decimal(repr(v)) / Decimal(width) for v in values(document, field) if type(v) in (int, float))
    return [float(n * Decimal(width)) for n in {each.to_integral_value(ROUND_FLOOR) for each in found}]


def measure(members: list[Document], metric: str) -> float | None:
    """Compute a metric."""
    function, _, field = metric.partition(":")
    if function == "count":
        return sum(1 for document in members if keys(document, field))
    return figure(numbers(members, field), function)


def expected(
    found: list[Document],
    by: str | tuple[str, ...] | None,
    interval_secs: int | None,
    metrics: tuple[str, ...],
    limit: int,
) -> Aggregation:
    """Answer as a store must."""
    fields = (by,) if isinstance(by, str) else by or ()
    members: dict[tuple[tuple[int, Any], ...], list[Document]] = defaultdict(list)
    missing = 0
    for document in found:
        there = [steps(document, *field.split("/")) if "/" in field else keys(document, field) for field in fields]
        if fields and not any(there):
            missing += 1
            continue
        for combination in product(*(each or [None] for each in there)):
            members[tuple(map(rank, combination))].append(document)
    order = sorted(members, key=lambda key: (-len(members[key]), key))
    shown = order[:limit]
    if len(fields) == 1 and "/" in fields[0]:
        shown.sort()
    answer = []
    for combination in shown:
        key: Any = [value for _, value in combination]
        key = key if len(fields) > 1 else key[0] if fields else None
        times = defaultdict(list)
        for document in members[combination]:
            times[None if interval_secs is None else stretch(document, interval_secs)].append(document)
        for time, inside in times.items():
            names = {"key": time, "by": key} if time and by else {"key": time or key}
            answer.append({**names, "count": len(inside), **{name: measure(inside, name) for name in metrics}})
    if interval_secs is not None:
        answer.sort(key=lambda bucket: bucket["key"])
    return Aggregation(len(found), missing, sum(len(members[key]) for key in order[limit:]), answer)


def kind(value: Any) -> Any:
    """Tell true from 1."""
    return [kind(each) for each in value] if isinstance(value, list) else rank(value)[0]


def same(one: Aggregation, other: Aggregation) -> None:
    """Assert that two answers agree, numbers nearly."""
    assert (one.total, one.missing, one.other) == (other.total, other.missing, other.other)
    assert [list(each) for each in one.buckets] == [list(each) for each in other.buckets]
    for got, wanted in zip(one.buckets, other.buckets, strict=True):
        for name, value in wanted.items():
            exact = isinstance(value, float) and ":" in name
            assert got[name] == (pytest.approx(value, rel=1e-9) if exact else value), (name, got, wanted)
            assert kind(got[name]) == kind(value), (name, got, wanted)


BY = (
    None, "model_name", "temperature", "tags", "retried", "features.age", "same", "prediction_correct", "epoch",
    "metrics.val.loss", "error_message", "message", "error", "odd", "received_at", "@timestamp", "scores",
    "nowhere", "features",
)  # fmt: skip
COMBINED = (
    ("model_name", "tags"), ("tags", "model_name", "features.age"), ("scores", "temperature", "retried"),
    ("error", "odd"), ("prediction_correct", "error_message", "message"), ("nowhere", "model_name"),
    ("nowhere", "nowhere/2"), ("received_at", "same"), ("epoch", "metrics.val.loss/0.25"),
    ("inference_time_ms/25",), ("scores/2",), ("temperature/0.1",), ("features.age/2.5",), ("odd/0.05",),
    ("nowhere/1",), ("model_name/1",), ("same/3", "model_name"), ("scores/4", "same/2", "tags"),
    ("same/1e-2", "same"), ("features", "features.age"), ("scores/2", "scores/0.5"),
)  # fmt: skip
MEASURED = ("inference_time_ms", "scores", "odd", "temperature", "metrics.val.loss", "model_name", "nowhere", "error")


@pytest.fixture
async def filled(subject_of: Subject) -> Subject:
    """A store that holds `documents()`."""
    for index, found in documents().items():
        await subject_of.add(index, found)
    return subject_of


@pytest.mark.parametrize("interval", [None, "1h"])
async def test_by_every_field(filled: Subject, interval: str | None) -> None:
    """Counts and figures agree with Python's for fields of every type, alone and over time."""
    found = [each for index in documents().values() for each in index.values()]
    for place, by in enumerate(BY):
        for limit in (2, 1000):
            field = MEASURED[place % len(MEASURED)]
            metrics = tuple(f"{function}:{field}" for function in METRICS)
            answer = await filled.aggregate(by=by, interval=interval, metrics=metrics, limit=limit)
            same(answer, expected(found, by, 3600 if interval else None, metrics, limit))


async def test_by_combinations(filled: Subject) -> None:
    """Several fields make a bucket of each combination of their values, a number and a width one of each step."""
    found = [each for index in documents().values() for each in index.values()]
    for place, by in enumerate(COMBINED):
        field = MEASURED[place % len(MEASURED)]
        metrics = (f"avg:{field}", f"p50:{field}", f"count:{field}", f"count:{BY[1 + place % (len(BY) - 1)]}")
        for limit, interval in ((5, None), (1000, None), (5, "1h")):
            answer = await filled.aggregate(by=by, interval=interval, metrics=metrics, limit=limit)
            same(answer, expected(found, by, 3600 if interval else None, metrics, limit))


async def test_what_is_counted(filled: Subject) -> None:
    """A metric tells how many documents of a bucket have a value in a field, as many as have a key by it."""
    found = [each for index in documents().values() for each in index.values()]
    metrics = tuple(f"count:{field}" for field in (*BY[1:], "_index"))
    for by, interval in ((None, None), ("model_name", None), (("error", "same"), "1h")):
        answer = await filled.aggregate(by=by, interval=interval, metrics=metrics[:-1], limit=1000)
        same(answer, expected(found, by, 3600 if interval else None, metrics[:-1], 1000))
    (everything,) = (await filled.aggregate(metrics=metrics)).buckets
    for field in BY[1:]:
        answer = await filled.aggregate(by=field)
        assert everything[f"count:{field}"] == answer.total - answer.missing, field
    assert everything["count:_index"] == len(found)


async def test_steps_of_a_number(subject_of: Subject) -> None:
    """A number at a bound lies above it though its binary form lies below, and a key has no digits but the width's."""
    confidences = [round(n / 100, 2) for n in range(101)]
    sent: dict[str, Document] = {
        str(n): {"prediction_confidence": each, "n": -each} for n, each in enumerate(confidences)
    }
    sent |= {"far": {"n": 1e300}, "half": {"n": 0.5, "model_name": "x/5"}}
    await subject_of.add(FIRST, {n: {"@timestamp": "2026-11-20T10:00:00Z", **each} for n, each in sent.items()})
    answer = await subject_of.aggregate(by="prediction_confidence/0.05", metrics=("min:prediction_confidence",))
    assert [(each["key"], each["count"]) for each in answer.buckets] == [
        *((float(f"0.{n:02}"), 5) for n in range(0, 100, 5)), (1.0, 1),
    ]  # fmt: skip
    assert all(each["key"] == each["min:prediction_confidence"] for each in answer.buckets)
    assert (answer.total, answer.missing, answer.other) == (103, 2, 0)
    below = await subject_of.aggregate(by="n/.5")
    assert [(each["key"], each["count"]) for each in below.buckets] == [(-1, 50), (-0.5, 50), (0, 1), (0.5, 1)]
    assert (below.missing, below.other) == (1, 0)  # nobody can tell its steps apart so far away
    most = await subject_of.aggregate(by="prediction_confidence/0.33", limit=2)
    assert [(each["key"], each["count"]) for each in most.buckets] == [(0, 33), (0.33, 33)]
    assert most.other == 35
    assert (await subject_of.aggregate(by="model_name/five")).missing == 103  # a field like any other


async def test_too_many_combinations(subject_of: Subject) -> None:
    """More combinations than can be counted exactly are refused in a sentence; the embedded store counts any number."""
    when = {"@timestamp": "2026-11-20T10:00:00Z"}
    await subject_of.add(FIRST, {str(n): {**when, "user_id": str(n), "x": 1} for n in range(MAX_COMBINATIONS + 1)})
    asked = subject_of.aggregate(by=("x", "user_id"), limit=3)
    if isinstance(subject_of.store, EmbeddedStore):
        answer = await asked
        assert [each["key"] for each in answer.buckets] == [[1, "0"], [1, "1"], [1, "10"]]
        assert answer.other == MAX_COMBINATIONS - 2
    else:
        with pytest.raises(QueryError, match="more than 10,000 combinations of values"):
            await asked


async def test_every_measure(filled: Subject) -> None:
    """Fields of different kinds are measured side by side, each metric under the name it was asked by."""
    found = [each for index in documents().values() for each in index.values()]
    for functions in (("avg", "p50"), ("sum", "p99.9"), ("min", "max")):
        metrics = tuple(f"{function}:{field}" for function in functions for field in MEASURED)
        for by in (None, "model_name", "error"):
            same(await filled.aggregate(by=by, metrics=metrics), expected(found, by, None, metrics, 100))


async def test_stretches_of_time(filled: Subject) -> None:
    """A stretch is as long as asked for, counted from 1970 on; one without documents is left out."""
    found = [each for index in documents().values() for each in index.values()]
    metrics = ("max:temperature",)
    for interval, secs in (("1s", 1), ("90s", 90), ("5m", 300), ("7h", 25200), ("2d", 172800)):
        same(await filled.aggregate(interval=interval, metrics=metrics), expected(found, None, secs, metrics, 100))


async def test_the_filters_of_a_search(filled: Subject) -> None:
    """Index, time, fields and words choose the documents as they do in a search."""
    metrics = ("count", "avg:temperature", "avg:temperature")
    chosen = [
        each
        for each in documents()[FIRST].values()
        if "2026-11-20T11" <= each["@timestamp"] < "2026-11-20T13"
        and each.get("prediction_correct") is True
        and "timeout" in str(each)
    ]
    assert 3 < len(chosen) < 80
    answer = await filled.aggregate(
        "ml-metrics-*",
        {
            "where": (("prediction_correct", "true"),),
            "text": "TIMEOUT",
            "since": "2026-11-20T11:00:00Z",
            "until": "2026-11-20T13:00:00Z",
        },
        by="model_name",
        metrics=metrics,
    )
    same(answer, expected(chosen, "model_name", None, ("avg:temperature",), 100))


async def test_by_index(filled: Subject) -> None:
    """The index itself is a field."""
    answer = await filled.aggregate("ml-*", by="_index", metrics=("max:epoch",))
    counted = Counter({filled.prefix + index: len(found) for index, found in documents().items()})
    assert {each["key"]: each["count"] for each in answer.buckets} == counted
    assert {each["key"] for each in answer.buckets if each["max:epoch"] is not None} == {filled.prefix + TRAINING}


async def test_names_of_no_field(filled: Subject) -> None:
    """Whatever is named that no document has, all documents lack it; a pattern is no name."""
    total = sum(map(len, documents().values()))
    for name in (
        "model*",
        "*",
        "?",
        ".",
        "a..b",
        "a,b",
        "x\"y'",
        "-tags",
        "_id",
        "_source",
        "_key",
        "~1/$",
        "model_name.x",
    ):
        answer = await filled.aggregate(by=name, metrics=(f"avg:{name}",))
        assert answer == Aggregation(total, missing=total), name


async def test_strings_as_stored(subject_of: Subject) -> None:
    """A known string stays a string though a number was sent, and one too long for a key is as good as missing."""
    await subject_of.add(
        FIRST,
        {
            "1": {"@timestamp": "2026-11-20T10:00:00Z", "prediction_class": 1, "error_message": "m" * 1024},
            "2": {"@timestamp": "2026-11-20T10:00:00Z", "prediction_class": "1", "error_message": "m" * 1025},
            "3": {"@timestamp": "1969-12-31T23:59:59Z", "prediction_class": "[1", "unknown": "k" * 8192},
            "4": {"@timestamp": "2026-11-20T10:00:00Z", "prediction_class": True, "unknown": 'q"\\uü'},
        },
    )
    by_class = await subject_of.aggregate(filters={"where": (("prediction_class", "1"),)}, by="prediction_class")
    assert by_class.buckets == [{"key": "1", "count": 2}]
    by_message = await subject_of.aggregate(by="error_message")
    assert (by_message.missing, by_message.buckets) == (3, [{"key": "m" * 1024, "count": 1}])
    by_unknown = await subject_of.aggregate(by="unknown")
    assert (by_unknown.missing, by_unknown.buckets) == (3, [{"key": 'q"\\uü', "count": 1}])
    first, _ = (await subject_of.aggregate(interval="1m")).buckets
    assert first == {"key": "1969-12-31T23:59:00Z", "count": 1}


async def test_a_stretch_from_before_all_years(subject_of: Subject) -> None:
    """It begins with the first one."""
    await subject_of.add(FIRST, {"1": {"@timestamp": "0001-01-01T00:00:00Z"}})
    answer = await subject_of.aggregate(interval="999999d")
    assert answer.buckets == [{"key": "0001-01-01T00:00:00Z", "count": 1}]


async def test_numbers_too_large_to_add_up(subject_of: Subject) -> None:
    """Their sum and average are no numbers; the others are."""
    huge = {"@timestamp": "2026-11-20T10:00:00Z", "inference_time_ms": 1.7e308}
    await subject_of.add(FIRST, {name: {**huge, "model_name": "m"} for name in "123"})
    metrics = tuple(f"{function}:inference_time_ms" for function in ("avg", "sum", "max", "p50"))
    for by in (None, "model_name"):
        (bucket,) = (await subject_of.aggregate(by=by, metrics=metrics)).buckets
        assert [bucket[name] for name in metrics] == [None, None, 1.7e308, 1.7e308]


async def test_lists_of_known_strings(subject_of: Subject) -> None:
    """A list where a string is expected counts as its values, each once, and beside another list as all pairs."""
    sent: dict[str, Document] = {
        "1": {"model_name": ["a", "b", "a"], "region": ["x", "y"], "inference_time_ms": 10},
        "2": {"model_name": "b", "region": "x", "inference_time_ms": 30},
        "3": {"model_name": [], "region": "[x", "inference_time_ms": 50},
        "4": {"model_name": "[1", "inference_time_ms": 70},
    }
    sent = {name: {"@timestamp": "2026-11-20T10:00:00Z", **each} for name, each in sent.items()}
    await subject_of.add(FIRST, sent)
    metrics = ("sum:inference_time_ms", "p50:inference_time_ms", "count:region", "count:model_name")
    for by in ("region", ("model_name", "region"), ("region", "model_name", "inference_time_ms/20")):
        answer = await subject_of.aggregate(by=by, metrics=metrics)
        same(answer, expected(list(sent.values()), by, None, metrics, 100))


async def test_nothing_there(subject_of: Subject) -> None:
    """Without documents the totals are zero and unknown, and there are no other buckets."""
    nothing = Aggregation(0, buckets=[{"key": None, "count": 0, "avg:x": None}])
    assert await subject_of.aggregate(metrics=("avg:x",)) == nothing
    assert await subject_of.aggregate(by="x", metrics=("avg:x",)) == Aggregation(0)
    await subject_of.add(FIRST, {"1": {"@timestamp": "2026-11-20T10:00:00Z", "x": 1}})
    assert await subject_of.aggregate("ml-metrics-*.21", metrics=("avg:x",)) == nothing
    later = {"since": "2027-01-01"}
    assert await subject_of.aggregate(filters=later, interval="1d", metrics=("avg:x",)) == Aggregation(0)


@pytest.mark.parametrize("exact", [10_000, 9_999, 4_999])
async def test_percentiles_of_many(subject_of: Subject, monkeypatch: pytest.MonkeyPatch, exact: int) -> None:
    """Where percentiles are approximate, as many numbers as asked for, to one in a hundred, lie below."""
    monkeypatch.setattr(buckets, "EXACT_DOCUMENTS", exact)  # those of two fields at once, one by one, approximate
    chance = random.Random(3)
    sent = sorted(chance.lognormvariate(3, 1) for _ in range(5000))
    await subject_of.add(
        FIRST,
        {
            str(n): {"@timestamp": "2026-11-20T10:00:00Z", "inference_time_ms": each, "memory_usage_mb": 5 * each}
            for n, each in enumerate(sent)
        },
    )
    for field, times in (("inference_time_ms", 1), ("memory_usage_mb", 5)):
        percents = (0, 5, 50, 95, 99, 99.9, 100)
        metrics = ("max:inference_time_ms", "p50:memory_usage_mb", *(f"p{percent}:{field}" for percent in percents))
        (answer,) = (await subject_of.aggregate(metrics=metrics)).buckets
        assert (answer["count"], answer["max:inference_time_ms"]) == (5000, sent[-1])
        for percent in percents:
            below = 100 * sum(times * each <= answer[f"p{percent}:{field}"] for each in sent) / len(sent)
            assert below == pytest.approx(percent, abs=1), (field, percent, answer)


async def test_too_many_buckets(subject_of: Subject) -> None:
    """More buckets than an answer may hold are refused in a sentence, however they come about."""
    start = datetime(2026, 11, 20, tzinfo=UTC)
    times = ((start + timedelta(seconds=n)).isoformat() for n in range(MAX_BUCKETS + 1))
    await subject_of.add(FIRST, {str(n): {"@timestamp": when, "n": n % 2} for n, when in enumerate(times)})
    for by in (None, "n"):
        with pytest.raises(QueryError, match="more than 10,000 buckets"):
            await subject_of.aggregate(interval="1s", by=by)
    until = str(start.timestamp() + MAX_BUCKETS)
    just_enough = await subject_of.aggregate(filters={"until": until}, interval="1s")
    assert len(just_enough.buckets) == MAX_BUCKETS


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"by": ("",)}, "by names no field"),
        ({"by": ("a", "/5")}, "by names no field"),
        ({"by": ("a", "b", "c", "d")}, "by is given 4 times, it may be given 3 times"),
        ({"by": ("a", "b", "a")}, "by names 'a' twice"),
        ({"by": ("a/0",)}, "by is 'a/0': after the slash stands the width of a bucket, a number above 0 such as a/10"),
        ({"by": ("a/-1",)}, "by is 'a/-1'"),
        ({"by": ("a/b/nan",)}, "by is 'a/b/nan'"),
        ({"by": ("a/1e999",)}, "by is 'a/1e999'"),
        ({"limit": 0}, "limit is 0, it must be from 1 to 1000"),
        ({"limit": 1001}, "limit is 1001"),
        ({"interval": "1w"}, "interval is '1w', it must be a number and s, m, h or d"),
        ({"interval": "0s"}, "interval is '0s'"),
        ({"interval": ""}, "interval is ''"),
        (
            {"metrics": ("median:x",)},
            "metric is 'median:x', it must be one of count, count:FIELD, avg:FIELD, sum:FIELD",
        ),
        ({"metrics": ("avg",)}, "metric is 'avg'"),
        ({"metrics": ("avg:",)}, "metric is 'avg:'"),
        ({"metrics": ("count:",)}, "metric is 'count:'"),
        ({"metrics": ("p101:x",)}, "metric is 'p101:x'"),
        ({"metrics": ("",)}, "metric is ''"),
        ({"metrics": tuple(f"avg:f{n}" for n in range(MAX_METRICS + 1))}, "metric is given 21 times"),
        (
            {"interval": "1s", "query": Query(since="2026-11-20", until="2026-11-21")},
            "interval is 1s, which makes 86,400 buckets between from and to: at most 10,000",
        ),
    ],
)
def test_wrong_question(wrong: dict[str, Any], says: str) -> None:
    """A question that makes no sense is refused in a sentence that names the parameter, before a store is asked."""
    with pytest.raises(QueryError, match=r"\.$") as caught:
        Question(**{"query": Query(), **wrong})
    assert says in str(caught.value)
