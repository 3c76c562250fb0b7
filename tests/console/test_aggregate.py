"""`/v1/aggregate` over HTTP: parameters, answers, errors."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway.console import aggregate, search
from gateway.store.embedded import EmbeddedStore
from gateway.store.store import Store
from tests.store.documents import SETTINGS, fill, group

pytestmark = pytest.mark.anyio

DOCUMENTS: list[tuple[str, dict[str, Any] | bytes]] = [
    ("1", {"@timestamp": "2026-11-20T10:00:03Z", "model_name": "fraud", "inference_time_ms": 20, "gpu": "a:0"}),
    ("2", {"@timestamp": "2026-11-20T10:00:33Z", "model_name": "fraud", "inference_time_ms": 40}),
    ("3", {"@timestamp": "2026-11-20T10:01:03Z", "model_name": "churn"}),
    ("4", {"@timestamp": "2026-11-20T10:01:04Z", "prediction_class": "x"}),
]


def serve(store: Store | None) -> httpx.AsyncClient:
    """Return a client of the routes over a store."""
    application = FastAPI()
    application.include_router(aggregate.router(lambda: store))
    application.include_router(search.router(lambda: store))
    return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://gateway")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a store that holds `DOCUMENTS`."""
    store = EmbeddedStore(tmp_path / "store.duckdb", SETTINGS)
    await store.open()
    await fill(store, [group("ml-metrics-2026.11.20", *DOCUMENTS)])
    async with serve(store) as client:
        yield client
    await store.close()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", {"total": 4, "missing": 0, "other": 0, "buckets": [{"key": None, "count": 4}]}),
        (
            "by=model_name&metric=count&metric=avg:inference_time_ms&metric=p50:inference_time_ms",
            {
                "total": 4,
                "missing": 1,
                "other": 0,
                "buckets": [
                    {"key": "fraud", "count": 2, "avg:inference_time_ms": 30.0, "p50:inference_time_ms": 30.0},
                    {"key": "churn", "count": 1, "avg:inference_time_ms": None, "p50:inference_time_ms": None},
                ],
            },
        ),
        (
            "by=model_name&by=inference_time_ms/25&metric=count:gpu",
            {
                "total": 4,
                "missing": 1,
                "other": 0,
                "buckets": [
                    {"key": ["churn", None], "count": 1, "count:gpu": 0},
                    {"key": ["fraud", 0], "count": 1, "count:gpu": 1},
                    {"key": ["fraud", 25], "count": 1, "count:gpu": 0},
                ],
            },
        ),
        (
            "by=model_name&by=gpu&interval=1h&limit=1",
            {
                "total": 4,
                "missing": 1,
                "other": 2,
                "buckets": [{"key": "2026-11-20T10:00:00Z", "by": ["churn", None], "count": 1}],
            },
        ),
        (
            "interval=1m&by=model_name&limit=1",
            {
                "total": 4,
                "missing": 1,
                "other": 1,
                "buckets": [{"key": "2026-11-20T10:00:00Z", "by": "fraud", "count": 2}],
            },
        ),
        (
            "index=ml-*&from=2026-11-20T10:01:00Z&to=2026-11-21&where=model_name:churn&q=CHURN&interval=1h",
            {"total": 1, "missing": 0, "other": 0, "buckets": [{"key": "2026-11-20T10:00:00Z", "count": 1}]},
        ),
        (
            "where=gpu:a:0&metric=sum:inference_time_ms",
            {"total": 1, "missing": 0, "other": 0, "buckets": [{"key": None, "count": 1, "sum:inference_time_ms": 20}]},
        ),
    ],
)
async def test_answers(client: httpx.AsyncClient, asked: str, found: dict[str, Any]) -> None:
    """Buckets come as JSON, each metric under the name it was asked by."""
    answer = await client.get(f"/v1/aggregate?{asked}")
    assert (answer.status_code, answer.json()) == (200, found)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("group=x", "'group' is not a parameter: there are by, from, index, interval, limit, metric, q, to, where."),
        ("cursor=x", "'cursor' is not a parameter"),
        ("by=a&by=b&by=c&by=d", "by is given 4 times, it may be given 3 times."),
        ("interval=1m&interval=2m", "interval is given 2 times, it may be given once."),
        ("by=", "by names no field"),
        ("by=a&by=a", "by names 'a' twice"),
        ("by=a/0", "by is 'a/0': after the slash stands the width of a bucket, a number above 0 such as a/10."),
        ("interval=soon", "interval is 'soon'"),
        ("metric=median:x", "metric is 'median:x', it must be one of count, count:FIELD, avg:FIELD"),
        ("limit=ten", "limit must be a number of buckets, not 'ten'."),
        ("limit=1001", "limit is 1001, it must be from 1 to 1000."),
        ("where=x", "where must be FIELD:VALUE"),
        ("from=yesterday", "from is 'yesterday', not a time"),
        ("by=a" + ".a" * 20, "by names the field"),
        ("metric=avg:" + "a." * 20, "of 21 parts, it may have 20."),
        ("where=a" + ".a" * 3000 + ":1", "where names the field"),
        ("where=a:1&" * 11 + "q=" + "+w" * 10, "where is given 11 times and q has 10 words: together they may be 20."),
        ("index=" + "a*," * 101, "index names 101 indices or patterns, it may name 100."),
        ("interval=1s&from=2026-11-01&to=2026-11-20", "interval is 1s, which makes 1,641,600 buckets"),
    ],
)
async def test_wrong_questions(client: httpx.AsyncClient, asked: str, says: str) -> None:
    """A wrong parameter is answered 400 with one sentence that names it."""
    answer = await client.get(f"/v1/aggregate?{asked}")
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert says in answer.json()["error"]


async def test_search_takes_a_parameter_once(client: httpx.AsyncClient) -> None:
    """A search refuses two indices given apart too, rather than forget the first."""
    answer = await client.get("/v1/search?index=a&index=b")
    assert (answer.status_code, answer.json()) == (400, {"error": "index is given 2 times, it may be given once."})
    assert (await client.get("/v1/search?where=model_name:fraud&where=gpu:a:0")).json()["total"] == 1


async def test_not_open_yet() -> None:
    """While the store is being opened the answer is 503; a wrong question is told all the same."""
    async with serve(None) as client:
        answer = await client.get("/v1/aggregate?by=model_name")
        assert answer.status_code == 503
        assert answer.json() == {"error": "The store is being opened: ask again in a moment."}
        assert (await client.get("/v1/aggregate?by=")).status_code == 400
