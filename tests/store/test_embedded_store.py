"""The embedded store alone: what it keeps of a document, for how long, and only once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from gateway.errors import FormatVersionError
from gateway.spool.books import Cursor
from gateway.spool.segment import Position
from gateway.store import catalog, pages
from gateway.store.embedded import EmbeddedStore
from gateway.store.query import MAX_PARTS, Query, StoreUnavailable
from gateway.store.rows import DocumentError, Rows
from schemas import BUILT_IN, Kind, Registry
from schemas.event import Event
from schemas.types import Number, Text
from tests.store.documents import SETTINGS, fill, group

pytestmark = pytest.mark.anyio

INDEX = "ml-metrics-2026.11.20"
TIME = "2026-11-20T10:00:00Z"
DAY_SECS = 86_400.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """An open store in a file of its own."""
    opened = EmbeddedStore(tmp_path / "store.duckdb", SETTINGS)
    await opened.open()
    yield opened
    await opened.close()


async def sources(store: EmbeddedStore, **arguments: Any) -> list[dict[str, Any]]:
    """Search and return the documents."""
    return [hit["_source"] for hit in (await store.search(Query(**arguments, limit=1000))).hits]


def nested(depth: int) -> Any:
    """Return an object of that depth."""
    value: Any = 1
    for _ in range(depth):
        value = {"k": value}
    return value


ODD: dict[str, bytes] = {
    "dots": b'{"@timestamp":"2026-11-20T10:00:00Z","a.b":1,"..":2,"a":{"b.c":{"d":3}}}',
    "empty key": b'{"@timestamp":"2026-11-20T10:00:00Z","":1}',
    "case": b'{"@timestamp":"2026-11-20T10:00:00Z","A":1,"a":2,"Model_Name":"x","model_name":"y"}',
    "own names": b'{"@timestamp":"2026-11-20T10:00:00Z","_key":"x","v":1,"new":2,"rowid":3,"_ID":4}',
    "quotes": rb"""{"@timestamp":"2026-11-20T10:00:00Z","it's":"a \"b\" \\ $1 'c'","model_name":"x'y"}""",
    "NUL": rb'{"@timestamp":"2026-11-20T10:00:00Z","model_name":"a\u0000b","x\u0000":"\u0000"}',
    "long": b'{"@timestamp":"2026-11-20T10:00:00Z","model_name":"' + b"x" * (1 << 20) + b'"}',
    "deep": orjson.dumps({"@timestamp": TIME, "deep": nested(200)}),
    "nested": orjson.dumps({"@timestamp": TIME, "nested": nested(MAX_PARTS - 1)}),
    "deep list": b'{"@timestamp":"2026-11-20T10:00:00Z","deep":' + b"[" * 200 + b"]" * 200 + b"}",
    "beyond 64 bits": b'{"@timestamp":"2026-11-20T10:00:00Z","inference_time_ms":1e300,"n":123456789012345678901234}',
    "largest integers": b'{"@timestamp":"2026-11-20T10:00:00Z","n":18446744073709551615,"m":-9223372036854775808}',
    "Unicode": '{"@timestamp":"2026-11-20T10:00:00Z","ключ":"日本 😀 \u2028 \x7f \ufeff"}'.encode(),
    "wrong types": (
        b'{"@timestamp":"2026-11-20T10:00:00Z","model_name":{"a":[1]},"inference_time_ms":"soon",'
        b'"error":"maybe","received_at":[1],"type":["a","b"]}'
    ),
    "nanoseconds": b'{"@timestamp":"2026-11-20T10:00:00.123456789Z"}',
    "spaces": b'{ "@timestamp" : "2026-11-20T10:00:00Z",\t"a" : [ 1 , 2 ] }',
}


async def test_odd_documents(store: EmbeddedStore, tmp_path: Path) -> None:
    """No document is lost or changed, nor fails its batch, however odd its names and values are."""
    await fill(store, [group(INDEX, *ODD.items())])
    found = {hit["_id"]: hit["_source"] for hit in (await store.search(Query(limit=100))).hits}
    assert found == {name: orjson.loads(text) for name, text in ODD.items()}
    await store.close()
    with duckdb.connect(tmp_path / "store.duckdb") as db:
        kept = dict(db.execute(f'SELECT _id, _source FROM "{INDEX}"').fetchall())
    assert kept == {name: text.decode() for name, text in ODD.items()}


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("a.b", "1", ["dots"]),
        ("a.b.c.d", "3", ["dots"]),
        ("A", "1", ["case"]),
        ("it's", "a \"b\" \\ $1 'c'", ["quotes"]),
        ("model_name", "x'y", ["quotes"]),
        ("model_name", "a\0b", ["NUL"]),
        ("ключ", "日本 😀 \u2028 \x7f \ufeff", ["Unicode"]),
        ("nested." + ".".join("k" * (MAX_PARTS - 1)), "1", ["nested"]),
        ("type", "b", ["wrong types"]),
    ],
)
async def test_odd_conditions(store: EmbeddedStore, field: str, value: str, found: list[str]) -> None:
    """Odd documents are found by their odd fields."""
    await fill(store, [group(INDEX, *ODD.items())])
    hits = await store.search(Query(where=((field, value),)))
    assert [hit["_id"] for hit in hits.hits] == found


async def test_odd_text(store: EmbeddedStore) -> None:
    """Words are found in strings that are written with escapes."""
    await fill(store, [group(INDEX, *ODD.items(), ("escaped", rb'{"a":"\u00fcber \"Fire\""}'))])
    assert await sources(store, text='ÜBER "fire"') == [{"a": 'über "Fire"'}]


async def test_duplicates(store: EmbeddedStore) -> None:
    """Of equal ids in an index the first stays, within a batch, a section and across batches; elsewhere both."""
    other = "ml-metrics-2026.11.21"
    first = [
        group(INDEX, ("a", {"n": 1}), ("b", {"n": 2}), ("a", {"n": 3})),
        group(other, ("a", {"n": 4})),
        group(INDEX, ("b", {"n": 5}), ("c", {"n": 6})),
    ]
    cursor = await store.commit("test", Cursor(), first)
    assert (cursor.indexed, cursor.duplicates) == (4, 2)
    cursor = await store.commit("test", cursor, [group(INDEX, ("c", {"n": 7}), ("d", {"n": 8}))])
    assert (cursor.indexed, cursor.duplicates) == (5, 3)
    assert sorted(each["n"] for each in await sources(store)) == [1, 2, 4, 6, 8]


async def test_large_batch(store: EmbeddedStore) -> None:
    """A batch larger than a chunk is taken whole, and ids are unique across its chunks."""
    filler = "x" * (1 << 20)
    documents = [(f"{n % 15}", {"n": n, "x": filler}) for n in range(20)]
    cursor = await store.commit("test", Cursor(), [group(INDEX, *documents)])
    assert (cursor.indexed, cursor.duplicates) == (15, 5)


def test_chunks() -> None:
    """Chunks give every row once, in order."""
    rows = Rows([b"%d" % n for n in range(9)], [b"x" * (3 << 20)] * 9)
    chunks = list(rows.chunks())
    assert [each for chunk in chunks for each in chunk.ids] == rows.ids
    assert {len(chunk.ids) for chunk in chunks} == {2, 1}
    assert list(Rows([], []).chunks()) == []


async def test_poisoned_document(store: EmbeddedStore) -> None:
    """A document that the engine cannot read fails its batch, is named, and leaves nothing behind."""
    groups = [
        group(INDEX, ("a", {"n": 1})),
        group(INDEX, ("b", {"n": 2}), ("c", rb'{"s":"\ud800"}'), ("d", {"n": 3}), ("e", b'{"s":')),
    ]
    with pytest.raises(DocumentError):
        await store.commit("test", Cursor(), groups)
    refused = await store.refused(groups)
    assert sorted(refused) == [(1, 1), (1, 3)]
    assert await sources(store) == []
    cursor = await store.commit("test", Cursor(), groups, without=set(refused))
    assert cursor.indexed == 3
    assert sorted(each["n"] for each in await sources(store)) == [1, 2, 3]


async def test_cursor_with_rows(store: EmbeddedStore, tmp_path: Path) -> None:
    """The cursor comes back as it was put, and does not move when the rows fail."""
    moved = Cursor(Position(7, 99), 8, 20, 5, 1, 2, 3, 4, 5)
    await store.commit("a", moved, [group(INDEX, ("a", {}))])
    with pytest.raises(DocumentError):
        await store.commit("a", moved.advanced(sequence=9), [group(INDEX, ("b", b"{"))])
    await store.open()
    assert await store.cursor("a") == moved.advanced(indexed=2)
    assert await store.cursor("b") is None
    assert await store.forget("a") == moved.advanced(indexed=2)
    assert await store.cursor("a") is None


async def test_retention(tmp_path: Path) -> None:
    """An index goes when both its day and its last document are too old, also after a restart."""
    now = 1_795_132_800.0  # 2026-11-20
    store = EmbeddedStore(tmp_path / "store.duckdb", SETTINGS, lambda: now)
    await store.open()
    await fill(store, [group("ml-metrics-2026.10.01", ("a", {})), group("ml-metrics-2026.11.20", ("a", {}))])
    now += 20 * DAY_SECS
    await fill(store, [group("ml-metrics-2026.10.02", ("late", {}))])
    assert await store.drop_before(date(2026, 11, 10)) == []
    await store.open()
    assert await store.drop_before(date(2026, 12, 1)) == ["ml-metrics-2026.10.01", "ml-metrics-2026.11.20"]
    assert [index.name for index in await store.indices()] == ["ml-metrics-2026.10.02"]
    await fill(store, [group("ml-metrics-2026.10.01", ("a", {}))])
    assert len(await store.indices()) == 2
    await store.close()


async def test_remove(store: EmbeddedStore) -> None:
    """Documents are deleted by id; with the last one goes the index, which the next document makes anew."""
    other = "ml-metrics-2026.11.21"
    await fill(store, [group(INDEX, ("a", {}), ("b", {}), ("c", {})), group(other, ("a", {}))])
    assert await store.remove(INDEX, ["a", "c", "unknown"]) == 2
    assert await store.remove(INDEX, ["a"]) == 0
    assert [(index.name, index.documents) for index in await store.indices()] == [(INDEX, 1), (other, 1)]
    assert await store.remove(INDEX, ["b"]) == 1
    assert [index.name for index in await store.indices()] == [other]
    assert await store.remove(INDEX, ["b"]) == 0
    await fill(store, [group(INDEX, ("b", {"model_name": "anew"}))])
    await store.close()


async def test_remove_survives(store: EmbeddedStore) -> None:
    """What was removed is not there after the file was opened again."""
    await fill(store, [group(INDEX, ("a", {}), ("b", {}))])
    await store.remove(INDEX, ["a"])
    await store.open()
    assert await store.remove(INDEX, ["a", "b"]) == 1
    await store.open()
    assert await store.indices() == []
    await store.close()


async def test_newer_file(store: EmbeddedStore, tmp_path: Path) -> None:
    """A file of a newer version is refused in one sentence and left alone."""
    await store.close()
    with duckdb.connect(tmp_path / "store.duckdb") as db:
        db.execute(f"UPDATE gateway.format SET version = {catalog.VERSION + 1}")
    with pytest.raises(FormatVersionError, match=f"format version {catalog.VERSION + 1}"):
        await EmbeddedStore(tmp_path / "store.duckdb", SETTINGS).open()


async def test_foreign_file(tmp_path: Path) -> None:
    """A file that is no database is an error that names it."""
    path = tmp_path / "store.duckdb"
    path.write_bytes(b"nothing of the kind " * 1000)
    with pytest.raises(StoreUnavailable, match=r"store\.duckdb cannot be used"):
        await EmbeddedStore(path, SETTINGS).open()


class Older(Event, total=False):
    """A prediction as an older version knows it."""

    model_name: Text


class Other(Event, total=False):
    """A prediction with a field of another type."""

    region: Number


async def opened(path: Path, event: Any = None) -> EmbeddedStore:
    """Open a store, one that knows predictions as this TypedDict."""
    registry = BUILT_IN if event is None else Registry([Kind("model_inference", "", "ml-metrics", event)])
    store = EmbeddedStore(path / "store.duckdb", SETTINGS, registry=registry)
    await store.open()
    return store


async def test_new_fields(tmp_path: Path) -> None:
    """A field that a newer version knows is found in older documents and newer ones, before a write and after."""
    older = await opened(tmp_path, Older)
    await fill(older, [group(INDEX, ("old", {"region": "eu"}))])
    await older.close()
    store = await opened(tmp_path)
    assert len(await sources(store, where=(("region", "eu"),))) == 1
    await fill(store, [group(INDEX, ("new", {"region": "eu"}))])
    assert len(await sources(store, where=(("region", "eu"),))) == 2
    await store.close()
    with duckdb.connect(tmp_path / "store.duckdb") as db:
        assert db.execute(f"SELECT count(*) FROM \"{INDEX}\" WHERE region = 'eu'").fetchall() == [(2,)]


async def test_a_field_forgotten_and_known_again(tmp_path: Path) -> None:
    """What was written while a field was not known is found once it is."""
    for number, event in enumerate((None, Older)):
        store = await opened(tmp_path, event)
        await fill(store, [group(INDEX, (f"{number}", {"region": "eu"}))])
        assert len(await sources(store, where=(("region", "eu"),))) == number + 1
        await store.close()
    store = await opened(tmp_path)
    assert len(await sources(store, where=(("region", "eu"),))) == 2
    await fill(store, [group(INDEX, ("2", {"region": "eu"}))])
    assert len(await sources(store, where=(("region", "eu"),))) == 3
    await store.close()


async def test_a_field_of_another_type(tmp_path: Path) -> None:
    """A field that changes its type is read anew, also from older documents; others stay found."""
    store = await opened(tmp_path)
    await fill(store, [group(INDEX, ("a", {"region": "eu"}), ("b", {"region": "7.0"}))])
    await store.close()
    store = await opened(tmp_path, Other)
    assert len(await sources(store, where=(("region", "eu"),))) == 1
    await fill(store, [group(INDEX, ("c", {"region": 7}))])
    assert len(await sources(store, where=(("region", "7"),))) == 2
    assert await sources(store, where=(("region", "eu"),)) == []
    await store.close()
    with duckdb.connect(tmp_path / "store.duckdb") as db:
        assert db.execute(f'SELECT region FROM "{INDEX}" ORDER BY _id').fetchall() == [(None,), (7.0,), (7.0,)]


async def test_columns(store: EmbeddedStore, tmp_path: Path) -> None:
    """Known fields are columns of their type, times in UTC; what does not fit is NULL."""
    good = {"@timestamp": "2026-11-20T10:00:00.123456789Z", "model_name": "m", "prediction_class": 1, "error": True}
    await fill(store, [group(INDEX, ("good", good), ("bad", ODD["wrong types"]))])
    label = {"@timestamp": TIME, "labelled_at": "2026-11-20T10:00:00+02:00"}
    await fill(store, [group("ml-labels-2026.11.20", ("label", label))])
    await store.close()
    with duckdb.connect(tmp_path / "store.duckdb") as db:
        query = 'SELECT "@timestamp"::VARCHAR, model_name, prediction_class, error FROM'
        good_row, bad_row = db.execute(f'{query} "{INDEX}" ORDER BY _id DESC').fetchall()
        assert good_row == ("2026-11-20 10:00:00.123456", "m", "1", True)
        assert bad_row == ("2026-11-20 10:00:00", '{"a":[1]}', None, None)
        label_row = db.execute('SELECT labelled_at::VARCHAR FROM "ml-labels-2026.11.20"').fetchall()
        assert label_row == [("2026-11-20 08:00:00",)]


async def test_large_documents(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of large documents is shorter than asked for, and its cursor leads on: each comes once."""
    monkeypatch.setattr(pages, "PAGE_BYTES", 1 << 20)
    large = [(f"{n}", {"@timestamp": TIME, "n": n, "text": "x" * 100_000}) for n in range(120)]
    await fill(store, [group(INDEX, *large, *((f"small {n}", {"@timestamp": TIME}) for n in range(300)))])
    found: list[str] = []
    lengths: list[int] = []
    cursor = None
    while cursor or not lengths:
        hits = await store.search(Query(limit=1000, cursor=cursor))
        assert hits.total == 420
        found += [hit["_id"] for hit in hits.hits]
        cursor = hits.cursor
        lengths.append(len(hits.hits))
    assert sorted(found) == sorted([f"{n}" for n in range(120)] + [f"small {n}" for n in range(300)])
    assert lengths == [50, 50, 50, 270]


async def test_unknown_index(store: EmbeddedStore) -> None:
    """An index of no known kind is kept and searched like the rest."""
    await fill(store, [group("else", ("a", {"@timestamp": TIME, "x": 1}))])
    assert await sources(store, index="else", where=(("x", "1"),)) == [{"@timestamp": TIME, "x": 1}]


async def test_reading_while_writing(store: EmbeddedStore) -> None:
    """Searches see whole batches while batches are written and indices dropped."""

    async def write() -> None:
        for batch in range(20):
            documents = [(f"{batch}-{n}", {"@timestamp": TIME, "n": n}) for n in range(10)]
            await fill(store, [group(INDEX, *documents), group("ml-audit-2020.01.01", *documents)])

    writing = asyncio.create_task(write())
    while not writing.done():
        assert (await store.search(Query(limit=1000))).total % 20 == 0
    await writing
    assert (await store.search(Query())).total == 400


async def test_closed(store: EmbeddedStore) -> None:
    """A closed store says so, and closing again does no harm."""
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.search(Query())


async def test_room_on_disk(tmp_path: Path) -> None:
    """A question may not fill the disk, which the spool needs: by itself the engine takes nine tenths of it."""
    store = EmbeddedStore(tmp_path / "store.duckdb", SETTINGS)
    await store.open()
    asked = "SELECT current_setting('max_temp_directory_size'), current_setting('temp_directory')"
    (found,) = await store._readers.ask(lambda db: db.execute(asked).fetchall())  # no answer shows it
    assert found == ("1.0 GiB", str(tmp_path / "store.tmp"))
    await store.close()
