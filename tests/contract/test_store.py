"""One suite for both stores: the same documents, the same questions, the same answers."""

from collections.abc import Callable
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch

from gateway.errors import GatewayError
from gateway.store.elasticsearch import ElasticsearchStore
from gateway.store.query import Hits, Query, QueryError, StoreUnavailable
from tests.contract.stores import Subject
from tests.elasticsearch_node.client import EsClient

pytestmark = pytest.mark.anyio

METRICS, TRAINING, LOGS = "ml-metrics-2026.11.20", "ml-training-2026.11.20", "ml-pipeline-2026.11.21"

EVENTS: dict[str, dict[str, dict[str, Any]]] = {
    METRICS: {
        "right": {
            "@timestamp": "2026-11-20T10:00:03Z",
            "model_name": "fraud",
            "prediction_class": 1,
            "prediction_correct": True,
            "inference_time_ms": 25,
        },
        "wrong": {
            "@timestamp": "2026-11-20T10:00:02.500Z",
            "model_name": "Fraud Detector",
            "prediction_class": "cat",
            "prediction_correct": False,
            "error_message": "Connection timeout",
            "tags": ["blue", "green"],
        },
    },
    TRAINING: {
        "epoch": {"@timestamp": "2026-11-20T10:00:01Z", "epoch": 3, "metrics": {"val.loss": 0.25, "loss": 0.5}},
        "mlflow": {
            "@timestamp": "2026-11-20T10:00:00Z",
            "pipeline": "mlflow",
            "event_category": "model_evaluation_success",
            "mlflow_event": {"details": {"rmse": 0.42, "folds": [{"n": 1}, {"n": 2}], "Name": "x", "name": "y"}},
        },
    },
    LOGS: {
        "line": {
            "@timestamp": "2026-11-21T00:00:00Z",
            "level": "ERROR",
            "message": 'disk "sda1" is full: 97 % used',
            "labels": {"pod": "web-0"},
            "inputs": ["a", "b"],
        }
    },
}


@pytest.fixture
async def subject(subject_of: Subject) -> Subject:
    """A store that holds `EVENTS`."""
    for index, documents in EVENTS.items():
        await subject_of.add(index, documents)
    return subject_of


async def test_newest_first(subject: Subject) -> None:
    """Without any condition all documents come, newest first, as they were sent."""
    hits = await subject.search()
    assert [hit["_id"] for hit in hits.hits] == ["line", "right", "wrong", "epoch", "mlflow"]
    assert hits.total == 5
    assert hits.hits[1] == {"_index": subject.prefix + METRICS, "_id": "right", "_source": EVENTS[METRICS]["right"]}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("ml-metrics-*", ["right", "wrong"]),
        ("ml-*.21", ["line"]),
        (TRAINING, ["epoch", "mlflow"]),
        ("ml-metrics-2026.11.2?", []),
        ("nothing-*", []),
    ],
)
async def test_index_pattern(subject: Subject, pattern: str, found: list[str]) -> None:
    """Only indices that fit the pattern are searched; one that is not there holds nothing."""
    assert await subject.ids(pattern) == found


async def test_several_index_patterns(subject: Subject) -> None:
    """Patterns are divided by commas."""
    query = Query(f"{subject.prefix}ml-training-*, {subject.prefix}{LOGS}")
    assert [hit["_id"] for hit in (await subject.store.search(query)).hits] == ["line", "epoch", "mlflow"]


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        ("2026-11-20T10:00:02Z", None, ["line", "right", "wrong"]),
        (None, "2026-11-20T10:00:01Z", ["mlflow"]),
        ("2026-11-20T11:00:01+01:00", "2026-11-20T10:00:03", ["wrong", "epoch"]),
        # A + that an address did not escape is a blank.
        ("2026-11-20T11:00:01 01:00", "2026-11-20 11:00:03.000 0100", ["wrong", "epoch"]),
        ("2026-11-20 10:00:01", "2026-11-20T11:00:03 01", ["wrong", "epoch"]),
        ("1795168802", "1795168803500", ["right", "wrong"]),
        ("2026-11-21", None, ["line"]),
    ],
)
async def test_time_range(subject: Subject, since: str | None, until: str | None, found: list[str]) -> None:
    """A range takes its beginning and not its end, in ISO 8601 or as a number."""
    assert await subject.ids(since=since, until=until) == found


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("model_name", "fraud", ["right"]),
        ("model_name", "Fraud", []),
        ("prediction_class", "1", ["right"]),
        ("prediction_class", "cat", ["wrong"]),
        ("prediction_correct", "true", ["right"]),
        ("prediction_correct", "1", []),
        ("inference_time_ms", "25.0", ["right"]),
        ("inference_time_ms", "fast", []),
        ("epoch", "3", ["epoch"]),
        ("epoch", "3.5", []),
        ("metrics.val.loss", "0.25", ["epoch"]),
        ("metrics.loss", "0.5", ["epoch"]),
        ("event_category", "model_evaluation_success", ["mlflow"]),
        ("mlflow_event.details.rmse", "0.42", ["mlflow"]),
        ("mlflow_event.details.rmse", "0.420", ["mlflow"]),
        ("mlflow_event.details.folds.n", "2", ["mlflow"]),
        ("mlflow_event.details.Name", "x", ["mlflow"]),
        ("mlflow_event.details.name", "x", []),
        ("tags", "green", ["wrong"]),
        ("inputs", "b", ["line"]),
        ("labels.pod", "web-0", ["line"]),
        ("message", "disk", []),
        ("message", 'disk "sda1" is full: 97 % used', ["line"]),
        ("error_message", "Connection timeout", ["wrong"]),
        ("no.such'field", "x", []),
        ("_id", "epoch", ["epoch"]),
        ("@timestamp", "2026-11-20T10:00:02.500Z", ["wrong"]),
    ],
)
async def test_where(subject: Subject, field: str, value: str, found: list[str]) -> None:
    """A field equals a value: whole strings, numbers by value, any element of a list."""
    assert await subject.ids(where=((field, value),)) == found


async def test_where_as_escaped(subject_of: Subject) -> None:
    """A value is found however its JSON spells it."""
    when = b'{"@timestamp":"2026-11-20T10:00:00Z",'
    await subject_of.add(
        METRICS, {"1": when + b'"host":"n\\u00f6de\\/7"}', "2": when + '"h\\u006fst":["x","nöde/7"]}'.encode()}
    )
    assert sorted(await subject_of.ids(where=(("host", "nöde/7"),))) == ["1", "2"]
    assert await subject_of.ids(where=(("host", "x"),)) == ["2"]


async def test_several_conditions(subject: Subject) -> None:
    """All conditions must hold."""
    both = (("prediction_correct", "false"), ("model_name", "Fraud Detector"))
    assert await subject.ids(where=both, text="timeout", since="2026-11-20") == ["wrong"]
    assert await subject.ids(where=both, text="mlflow") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("TIMEOUT", ["wrong"]),
        ("fraud", ["right", "wrong"]),
        ("detector connection", ["wrong"]),
        ("evaluation", ["mlflow"]),
        ("full web-0", ["line"]),
        ('"sda1"', ["line"]),
        ("gree", ["wrong"]),
        ("model_name", []),
        ("*", []),
        ("missing", []),
    ],
)
async def test_text(subject: Subject, text: str, found: list[str]) -> None:
    """Every word is part of some string of the document, in any case; names are no strings."""
    assert await subject.ids(text=text) == found


@pytest.mark.parametrize("limit", [1, 3, 7])
async def test_pages(subject_of: Subject, limit: int) -> None:
    """Pages give every document once, in order, though many have the same time and new ones come."""
    for index in (METRICS, TRAINING, LOGS):
        documents = {f"{index[3:5]}{n}": {"@timestamp": f"2026-11-20T10:00:0{n % 2}Z", "n": n} for n in range(8)}
        await subject_of.add(index, documents)
    found: list[str] = []
    times: list[str] = []
    cursor = None
    while True:
        page = await subject_of.search(limit=limit, cursor=cursor)
        assert page.total >= 24
        found += [hit["_id"] for hit in page.hits]
        times += [hit["_source"]["@timestamp"] for hit in page.hits]
        if cursor is None:
            await subject_of.add(METRICS, {"later": {"@timestamp": "2026-11-20T12:00:00Z"}})
        cursor = page.cursor
        if cursor is None:
            break
    assert len(found) == len(set(found)) == 24
    assert times == sorted(times, reverse=True)


async def test_empty_store(subject_of: Subject) -> None:
    """A store without indices has no documents."""
    assert await subject_of.search() == Hits(0, [], None)
    assert await subject_of.search(text="word", where=(("a", "b"),)) == Hits(0, [], None)


async def test_foreign_cursor(subject: Subject) -> None:
    """A cursor that the store did not give out is refused, not misread."""
    for cursor in ("", "x", "bm8", "WzFd", "é", "WyJlbWJlZGRlZCIsIjEiLDIsM10"):
        with pytest.raises(QueryError, match="cursor"):
            await subject.search(cursor=cursor)


@pytest.mark.parametrize(
    "wrong", [{"since": "yesterday"}, {"until": "1e300"}, {"limit": 0}, {"limit": 10_001}, {"where": (("", "x"),)}]
)
def test_wrong_query(wrong: dict[str, Any]) -> None:
    """A query that makes no sense is refused in a sentence before a store is asked."""
    with pytest.raises(QueryError, match=r"\.$"):
        Query(**wrong)


async def test_most_hits(subject: Subject) -> None:
    """The largest page that may be asked for is given."""
    assert len((await subject.search(limit=10_000)).hits) == 5


async def test_foreign_indices(es: EsClient, elasticsearch_subject: Subject) -> None:
    """Indices that are not the gateway's are not searched, whatever the pattern."""
    es.put(f"/{es.prefix}other")
    es.post(f"/{es.prefix}other/_doc", {"@timestamp": "2026-11-20T10:00:00Z"}, refresh="true")
    assert await elasticsearch_subject.ids("*") == []
    assert await elasticsearch_subject.ids("other") == []


async def test_a_word_that_elasticsearch_cannot_look_for(elasticsearch_subject: Subject) -> None:
    """The question is wrong, which no waiting mends."""
    await elasticsearch_subject.add(
        "ml-pipeline-2026.11.20", {"1": {"@timestamp": "2026-11-20T10:00:00Z", "message": "a"}}
    )
    with pytest.raises(QueryError, match="write less of it"):
        await elasticsearch_subject.search(text="a" * 1000)


async def test_unreachable(free_port: Callable[[], int]) -> None:
    """An Elasticsearch that is not there is an error in one sentence."""
    client = AsyncElasticsearch(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
        await ElasticsearchStore(client).search(Query())
    assert isinstance(caught.value, GatewayError)
    await client.close()


async def test_indices(subject: Subject) -> None:
    """Each index is named with the number of its documents."""
    found = {each.name.removeprefix(subject.prefix): each.documents for each in await subject.store.indices()}
    assert {name: found[name] for name in EVENTS} == {name: len(documents) for name, documents in EVENTS.items()}
