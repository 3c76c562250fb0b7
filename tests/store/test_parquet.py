"""An index as a Parquet file: all its documents of one moment, once, whatever else goes on; memory is bounded."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from elasticsearch import AsyncElasticsearch

from gateway.store.elasticsearch import ElasticsearchStore
from gateway.store.embedded import EmbeddedStore
from gateway.store.query import StoreUnavailable, UnknownIndex
from gateway.store.store import Store
from tests.contract.stores import ASKED_LATE
from tests.elasticsearch_node.client import EsClient
from tests.store.documents import SETTINGS, fill, group

pytestmark = pytest.mark.anyio

DAY = "ml-metrics-2026.11.20"
TIME = "2026-11-20T10:00:00Z"


def files_in(folder: Path) -> set[str]:
    """Return the names of what lies in a folder."""
    return {path.name for path in folder.iterdir()}


class Subject:
    """A store, and a way to put documents into it."""

    store: Store
    prefix = ""

    async def add(self, documents: dict[str, dict[str, Any]], index: str = DAY) -> None:
        """Add documents and let them be found."""
        raise NotImplementedError

    async def exported(self, folder: Path, index: str = DAY) -> list[tuple[Any, ...]]:
        """Export and read it back: id, time, some fields, document."""
        file = folder / "out" / "out.parquet"
        file.parent.mkdir(exist_ok=True)
        await self.store.export(self.prefix + index, file)
        with duckdb.connect() as db:
            found: list[tuple[Any, ...]] = db.execute(
                'SELECT _id, "@timestamp"::VARCHAR, model_name, inference_time_ms, prediction_correct, _source'
                " FROM read_parquet($1) ORDER BY _id",
                [str(file)],
            ).fetchall()
        assert files_in(file.parent) == {file.name}
        file.unlink()
        return found


class Embedded(Subject):
    """The embedded store."""

    def __init__(self, path: Path) -> None:
        self.store: EmbeddedStore = EmbeddedStore(path, SETTINGS)

    async def add(self, documents: dict[str, dict[str, Any]], index: str = DAY) -> None:
        """Add documents."""
        await fill(self.store, [group(index, *documents.items())])


class InElasticsearch(Subject):
    """The real node."""

    def __init__(self, client: AsyncElasticsearch, es: EsClient) -> None:
        self.store = ElasticsearchStore(client, es.prefix)
        self.prefix = es.prefix
        self._es = es

    async def add(self, documents: dict[str, dict[str, Any]], index: str = DAY) -> None:
        """Add documents, all shown."""
        lines: list[Any] = []
        for identity, document in documents.items():
            lines += [{"create": {"_id": identity}}, document]
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()
        answer = await asyncio.to_thread(self._es.post, f"/{self.prefix}{index}/_bulk", body, refresh="true")
        assert answer["errors"] is False


@pytest.fixture(params=["embedded", pytest.param("elasticsearch", marks=ASKED_LATE)])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """Each of the two stores, empty."""
    if request.param == "embedded":
        embedded = Embedded(tmp_path / "store.duckdb")
        await embedded.store.open()
        yield embedded
        await embedded.store.close()
        return
    es = request.getfixturevalue("es")
    client = AsyncElasticsearch(es.url)
    yield InElasticsearch(client, es)
    await client.close()


async def test_values(subject: Subject, tmp_path: Path) -> None:
    """Every document comes back as it is, its known fields typed, what is not there or does not fit null."""
    documents: dict[str, dict[str, Any]] = {
        "a": {"@timestamp": "2026-11-20T12:00:00.123+02:00", "model_name": "Zürich 東京 😀 \u2028 \"'\\", "n": None},
        "b": {"@timestamp": TIME, "inference_time_ms": 25, "prediction_correct": True, "deep": {"x": [{"y": "z"}, {}]}},
        "c": {"@timestamp": TIME, "inference_time_ms": 1e-300, "big": 2**60, "text": "line\nbreak\ttab \u0000"},
    }
    await subject.add(documents)
    found = await subject.exported(tmp_path)
    assert [row[:-1] for row in found] == [
        ("a", "2026-11-20 10:00:00.123", "Zürich 東京 😀 \u2028 \"'\\", None, None),
        ("b", "2026-11-20 10:00:00", None, 25.0, True),
        ("c", "2026-11-20 10:00:00", None, 1e-300, None),
    ]
    assert {row[0]: json.loads(row[-1]) for row in found} == documents


async def test_columns(subject: Subject, tmp_path: Path) -> None:
    """Both stores give the same columns of the same types, in the same order."""
    await subject.add({"a": {"@timestamp": TIME, "model_name": "m"}})
    await subject.store.export(subject.prefix + DAY, tmp_path / "out.parquet")
    columns = duckdb.execute(f"DESCRIBE FROM '{tmp_path / 'out.parquet'}'").fetchall()
    types = {name: kind for name, kind, *_ in columns}
    assert [name for name, *_ in columns][:2] == ["_id", "@timestamp"]
    assert [name for name, *_ in columns][-1] == "_source"
    expected = {
        "_id": "VARCHAR",
        "@timestamp": "TIMESTAMP",
        "received_at": "TIMESTAMP",
        "model_name": "VARCHAR",
        "prediction_confidence": "DOUBLE",
        "inference_time_ms": "DOUBLE",
        "prediction_correct": "BOOLEAN",
        "confidence_level": "VARCHAR",
        "error": "BOOLEAN",
        "_source": "VARCHAR",
    }
    assert expected.items() <= types.items()
    assert len(types) == len(columns)


async def test_many_pages(subject: Subject, tmp_path: Path) -> None:
    """However many documents of one moment and whatever size there are, each comes once."""
    await subject.add({f"{n:05d}": {"@timestamp": TIME, "n": n} for n in range(2500)})
    await subject.add({f"large-{n}": {"@timestamp": TIME, "pad": "x" * 300_000} for n in range(30)})
    found = await subject.exported(tmp_path)
    assert [row[0] for row in found] == [f"{n:05d}" for n in range(2500)] + sorted(f"large-{n}" for n in range(30))


async def test_one_moment(subject: Subject, tmp_path: Path) -> None:
    """What is written while the export runs is in it up to one batch, or not at all."""
    await subject.add({f"{n:06d}": {"@timestamp": TIME} for n in range(3000)})
    stop = asyncio.Event()

    async def write() -> None:
        batch = 30
        while not stop.is_set():
            await subject.add({f"{batch * 100 + n:06d}": {"@timestamp": TIME} for n in range(100)})
            batch += 1

    writing = asyncio.create_task(write())
    try:
        for _ in range(3):
            ids = [row[0] for row in await subject.exported(tmp_path)]
            assert len(ids) >= 3000
            assert len(ids) % 100 == 0
            assert ids == [f"{n:06d}" for n in range(len(ids))]
    finally:
        stop.set()
        await writing


@pytest.mark.parametrize("wrong", ["ml-metrics-2026.11.22", "ml-metrics-*", f"{DAY},{DAY}", "*", "gateway.format", ""])
async def test_an_index_that_is_not_there(subject: Subject, tmp_path: Path, wrong: str) -> None:
    """Nothing is written; the sentence names the nearest indices there are."""
    await subject.add({"a": {"@timestamp": TIME}})
    await subject.add({"a": {"@timestamp": TIME}}, "ml-labels-2026.11.20")
    with pytest.raises(UnknownIndex, match=r"^There is no index '.*': the nearest are .*\.$") as raised:
        await subject.store.export(subject.prefix + wrong, tmp_path / "out.parquet")
    if wrong.startswith("ml-metrics"):
        assert f"nearest are {subject.prefix}{DAY}" in str(raised.value)
    assert not {name for name in files_in(tmp_path) if name.startswith("out")}


async def test_an_empty_store_has_no_index(subject: Subject, tmp_path: Path) -> None:
    """The sentence says so."""
    with pytest.raises(UnknownIndex, match="there is none at all yet"):
        await subject.store.export(subject.prefix + DAY, tmp_path / "out.parquet")


async def test_an_empty_index(es: EsClient, tmp_path: Path) -> None:
    """An index without documents gives a file without rows."""
    es.put(f"/{es.prefix}{DAY}")
    client = AsyncElasticsearch(es.url)
    try:
        assert await InElasticsearch(client, es).exported(tmp_path) == []
    finally:
        await client.close()


async def test_no_view_stays_open(es: EsClient, tmp_path: Path) -> None:
    """Elasticsearch keeps nothing for an export that is over, also for one that failed."""
    client = AsyncElasticsearch(es.url)
    subject = InElasticsearch(client, es)

    def views() -> int:
        nodes = es.get("/_nodes/stats/indices/search")["nodes"].values()
        return sum(int(node["indices"]["search"]["open_contexts"]) for node in nodes)

    try:
        await subject.add({f"{n:05d}": {"@timestamp": TIME} for n in range(500)})
        before = views()
        await subject.exported(tmp_path)
        with pytest.raises(StoreUnavailable):
            await subject.store.export(es.prefix + DAY, tmp_path / "no" / "folder" / "out.parquet")
        assert views() <= before
    finally:
        await client.close()


async def test_a_table_from_before_a_field_was_known(tmp_path: Path) -> None:
    """Columns that a table lacks are read from its documents."""
    with duckdb.connect(tmp_path / "store.duckdb") as db:
        db.execute(f'CREATE TABLE "{DAY}" (_key UBIGINT, _id VARCHAR, "@timestamp" TIMESTAMP, _source VARCHAR)')
        source = '{"model_name":"m","inference_time_ms":2.5,"received_at":"2026-11-20T12:00:00+02:00"}'
        db.execute(f"INSERT INTO \"{DAY}\" VALUES (1, 'a', '2026-11-20 10:00:00', $1)", [source])
    subject = Embedded(tmp_path / "store.duckdb")
    await subject.store.open()
    try:
        assert await subject.exported(tmp_path) == [("a", "2026-11-20 10:00:00", "m", 2.5, None, source)]
        await subject.store.export(DAY, tmp_path / "out.parquet")
        received = duckdb.execute(f"SELECT received_at::VARCHAR FROM '{tmp_path / 'out.parquet'}'").fetchall()
        assert received == [("2026-11-20 10:00:00",)]
    finally:
        await subject.store.close()


def resident_bytes() -> int:
    """Memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("subject", ["embedded"], indirect=True)
async def test_many_documents_embedded(subject: Subject, tmp_path: Path) -> None:
    """200,000 documents of 600 bytes, 120 MB, come out in a fraction of that as memory."""
    await _many(subject, tmp_path, 200_000)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("subject", [pytest.param("elasticsearch", marks=ASKED_LATE)], indirect=True)
async def test_many_documents_elasticsearch(subject: Subject, tmp_path: Path) -> None:
    """50,000 documents of 600 bytes come through the network and a table of their own."""
    await _many(subject, tmp_path, 50_000)


async def _many(subject: Subject, tmp_path: Path, count: int) -> None:
    for start in range(0, count, 10_000):
        await subject.add(
            {
                f"{n:06d}": {"@timestamp": TIME, "inference_time_ms": n, "pad": "x" * 500}
                for n in range(start, start + 10_000)
            }
        )
    before = most = resident_bytes()
    file = tmp_path / "out.parquet"
    export = asyncio.create_task(subject.store.export(subject.prefix + DAY, file))
    while not export.done():
        await asyncio.sleep(0.01)
        most = max(most, resident_bytes())
    await export
    assert most - before < 300 << 20
    ((rows, ids, total),) = duckdb.execute(
        f"SELECT count(*), count(DISTINCT _id), sum(inference_time_ms) FROM '{file}'"
    ).fetchall()
    assert (rows, ids, total) == (count, count, count * (count - 1) / 2)
