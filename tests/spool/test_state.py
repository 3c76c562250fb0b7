import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import FormatVersionError, GatewayError
from gateway.spool import shelf
from gateway.spool.books import Cursor
from gateway.spool.segment import Position
from gateway.spool.shelf import ROW_BYTES, Letter, NoRoom
from gateway.spool.state import VERSION, Parked, State, version_of
from tests.spool.building import letter, letters_in

ROOM = 5000
CURSOR = Cursor(Position(5, 100), 7, 20, 2, 9, 1, 3, 4, 1, 0)


class Held:
    """A state and its calls, made in its thread."""

    def __init__(self, path: Path, max_bytes: int = ROOM) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.state = State(path, max_bytes)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return lambda *args, **options: self.state.run(lambda: getattr(self.state, name)(*args, **options))

    async def look(self) -> dict[str, Any]:
        """Return all that can be seen of the state."""
        state = self.state
        parked = [
            each
            for sink in ("es", "other")
            for index in await self.parked_indices(sink)
            for each in await self.parked(sink, index, 100)
        ]
        return {
            "readers": state.readers(),
            "letters": await letters_in(self.state),
            "sums": (state.letters, state.letter_bytes, state.room, state.parked_count("es")),
            "parked": parked,
            "sinks": await self.sinks(),
        }

    def reopen(self) -> None:
        """Close and open again."""
        self.state.close()
        self.state = State(self.path, self.max_bytes)


@pytest.fixture
def held(tmp_path: Path) -> Any:
    """An open state with room for `ROOM` bytes."""
    held = Held(tmp_path / "state.sqlite3")
    yield held
    held.state.close()


def parked(name: str, size: int = 10, index: str = "ml-metrics-2024.01.15", since: float = 5.0) -> Parked:
    """Return a document to park."""
    return Parked(f"es/0/{name}", index, since, b"{}", b"d" * size, "closed")


def dead(name: str, data: bytes = b"bytes", index: str | None = None, **changes: Any) -> Letter:
    """Return a letter to keep."""
    return Letter(f"0/{name}", letter(data, tenant="t", peer=name, **changes), index, index and f"id {name}")


COST = dead("1", b"").cost


@pytest.mark.anyio
async def test_all_of_a_commit_is_kept(held: Held) -> None:
    """Cursor, letters and parked documents come back as they were given, also after opening again."""
    await held.commit("es", "0", CURSOR, [dead("1"), dead("2", index="i")], [parked("a"), parked("b", index="x")])
    await held.remember({"es", "embedded"})
    before = await held.look()

    held.reopen()

    assert before == await held.look()
    assert held.state.cursor("es", "0") == CURSOR
    assert None is held.state.cursor("es", "1")
    assert {"es", "embedded"} == before["sinks"]
    assert [(row["origin"], row["data"], row["index_name"], row["document_id"]) for row in before["letters"]] == [
        ("0/1", b"bytes", None, None),
        ("0/2", b"bytes", "i", "id 2"),
    ]
    assert [parked("a"), parked("b", index="x")] == before["parked"]
    letters, waiting = 2 * COST + 10, 2 * (ROW_BYTES + 10)
    assert before["sums"] == (2, letters, ROOM - letters - waiting, 2)


@pytest.mark.anyio
async def test_a_commit_that_fails_changes_nothing(held: Held) -> None:
    """When any part of a commit cannot be kept none of it is, neither in the file nor in the sums."""
    await held.commit("es", "0", CURSOR, [dead("1")], [parked("a")])
    before = await held.look()
    broken = parked("c")._replace(reason=None)  # type: ignore[arg-type]

    with pytest.raises(sqlite3.IntegrityError):
        await held.commit("es", "0", CURSOR.advanced(sequence=8), [dead("2")], [parked("b"), broken])
    with pytest.raises(sqlite3.IntegrityError):
        await held.unpark(
            "es", "0", [parked("a")], CURSOR.advanced(sequence=8), [Letter("0/3", letter(b"", rule=None))]
        )

    assert before == await held.look()
    held.reopen()
    assert before == await held.look()


@pytest.mark.anyio
async def test_a_full_disk_changes_nothing(held: Held) -> None:
    """When the file cannot grow the caller is told, nothing counts, and it works again afterwards."""
    held.max_bytes = 1 << 20
    held.reopen()
    pages = await held.state.run(lambda: held.state._db.execute("PRAGMA page_count").fetchone()[0])
    await held.state.run(lambda: held.state._db.execute(f"PRAGMA max_page_count={pages}").fetchone())
    before = await held.look()
    many = [dead(str(number), b"x") for number in range(1000)]

    with pytest.raises(sqlite3.OperationalError, match="full"):
        await held.commit("es", "0", CURSOR, many)
    assert before == await held.look()

    await held.state.run(lambda: held.state._db.execute("PRAGMA max_page_count=100000").fetchone())
    await held.commit("es", "0", CURSOR, many)
    assert held.state.letters == 1000


@pytest.mark.anyio
async def test_once_by_origin(held: Held) -> None:
    """What comes again after a crash is kept once, and counted once."""
    for _ in range(2):
        await held.commit("es", "0", CURSOR, [dead("1"), dead("1", b"other")], [parked("a"), parked("a", 500)])
        await held.keep([dead("1")])

    assert [row["data"] for row in await letters_in(held.state)] == [b"bytes"]
    assert (await held.look())["sums"] == (1, COST + 5, ROOM - COST - 5 - ROW_BYTES - 10, 1)


@pytest.mark.anyio
async def test_without_room_the_letter_is_kept_and_its_bytes_are_not(held: Held) -> None:
    """At `dead_letters.max_bytes` a refusal keeps reason, path and length; smaller ones still fit."""
    large = ROOM - 3 * COST - 90
    without = await held.commit(
        "box", "0", CURSOR, [dead("1", b"x" * large), dead("2", b"y" * (COST + 200)), dead("3", b"z" * 90)]
    )

    assert without == 1
    rows = await letters_in(held.state)
    assert [row["data"] and len(row["data"]) for row in rows] == [large, None, 90]
    assert [row["bytes_kept"] for row in rows] == [1, 0, 1]
    assert tuple(rows[1][name] for name in ("data_bytes", "reason", "path")) == (COST + 200, "json", "$")
    assert (held.state.letters, held.state.letter_bytes, held.state.room) == (3, ROOM, 0)


@pytest.mark.anyio
async def test_a_flood_without_room_stays_small(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals without room are counted in one row for each reason, path and rule, and of paths there is an end."""
    monkeypatch.setattr(shelf, "MAX_FOLDED", 3)
    await held.keep([dead("full", b"x" * (ROOM - COST))])
    flood = [dead(f"{at}/{path}", at=float(at), path=path) for at in range(5) for path in ("$.a", "$.b", "$.c", "$.d")]

    assert await held.commit("box", "0", CURSOR, flood) == 20

    for _ in range(2):
        rows = {row["path"]: row for row in (await letters_in(held.state))[1:]}
        assert {path: row["events"] for path, row in rows.items()} == {"$.a": 5, "$.b": 5, "$.c": 5, "$": 5}
        assert {(row["at"], row["last"]) for row in rows.values()} == {(0.0, 4.0)}
        assert held.state.letters == 21
        held.reopen()
    assert await held.drop([row["id"] for row in rows.values()]) == 20
    assert (held.state.letters, held.state.room) == (1, 0)
    assert await held.keep([dead("e", path="$.e")]) == 1  # there is place for other paths now
    assert [row["path"] for row in await letters_in(held.state)] == ["$", "$.e"]


@pytest.mark.anyio
async def test_letters_go(held: Held) -> None:
    """What is dropped or settled makes room at once; what is not there counts for nothing."""
    await held.keep([dead(str(number)) for number in range(4)])
    first, second, *_ = await letters_in(held.state)

    assert await held.drop([first["id"], first["id"], 99]) == 1
    await held.commit("box", "0", CURSOR, [dead("new")], settled=[second["origin"], "0/new", "0/none"])

    assert [row["origin"] for row in await letters_in(held.state)] == ["0/2", "0/3"]
    for _ in range(2):
        assert (held.state.letters, held.state.room) == (2, ROOM - 2 * (COST + 5))
        held.reopen()


@pytest.mark.anyio
async def test_a_sinks_letter_keeps_its_bytes(held: Held) -> None:
    """What a sink refuses was acknowledged: its bytes are kept though there is no room."""
    large = dead("1", b"x" * ROOM, index="ml-metrics-2024.01.15")
    with pytest.raises(NoRoom, match=r"dead_letters\.max_bytes"):  # what brings no cursor has to wait
        await held.keep([large])
    assert (held.state.letters, held.state.room) == (0, ROOM)
    assert await held.commit("es", "0", CURSOR, [large]) == 0
    await held.keep([large])  # is there, and takes no more

    ((row),) = await letters_in(held.state)
    assert (len(row["data"]), held.state.room) == (ROOM, -COST)


@pytest.mark.anyio
async def test_a_letter_without_bytes_lacks_nothing(held: Held) -> None:
    """An event without a byte is not counted as kept without its bytes."""
    await held.keep([dead("1", b"x" * (ROOM - COST))])

    assert await held.keep([dead("2", b"")]) == 0


@pytest.mark.anyio
async def test_parked_documents_take_room(held: Held) -> None:
    """Parked documents and dead letters share the room; what is settled gives it back."""
    await held.commit("es", "0", CURSOR, park=[parked("a", 600), parked("b", 300)])
    assert held.state.room == ROOM - 2 * ROW_BYTES - 900

    await held.unpark("es", "0", [parked("a", 600)], CURSOR.advanced(indexed=10), [dead("1", b"x" * 500)])

    assert held.state.room == ROOM - ROW_BYTES - 300 - COST - 500
    assert [len(row["data"]) for row in await letters_in(held.state)] == [500]
    assert (held.state.parked_count("es"), held.state.readers()["es"].indexed) == (1, 10)


@pytest.mark.anyio
async def test_settling_twice_counts_once(held: Held) -> None:
    """A document that is no longer parked changes nothing."""
    await held.commit("es", "0", CURSOR, park=[parked("a"), parked("b")])
    for _ in range(2):
        await held.unpark("es", "0", [parked("a"), parked("a"), parked("never")], CURSOR)

    assert (held.state.parked_count("es"), held.state.room) == (1, ROOM - ROW_BYTES - 10)


@pytest.mark.anyio
async def test_the_oldest_parked_documents_come_first(held: Held) -> None:
    """Documents come back by index, in the order in which they were parked, no more than asked for."""
    late, early = parked("late", since=9.0), [parked(f"early-{number}", since=3.0) for number in range(3)]
    await held.commit("es", "0", CURSOR, park=[late, *early, parked("x", index="other", since=1.0)])
    await held.commit("other", "0", CURSOR, park=[parked("y")])

    assert [*early, late] == await held.parked("es", late.index, 10)
    assert early[:2] == await held.parked("es", late.index, 2)
    assert {late.index: 3.0, "other": 1.0} == await held.parked_indices("es")


@pytest.mark.anyio
async def test_a_reader_that_is_forgotten(held: Held) -> None:
    """A reader that is dropped leaves neither cursor nor parked documents; dead letters and others stay."""
    await held.commit("es", "0", CURSOR, [dead("1")], [parked("a")])
    await held.commit("other", "0", CURSOR, park=[parked("b", 30)])

    await held.forget("es")

    for _ in range(2):
        assert held.state.readers() == {"other": CURSOR}
        assert (held.state.parked_count("es"), held.state.parked_count("other"), held.state.letters) == (0, 1, 1)
        assert held.state.room == ROOM - COST - 5 - ROW_BYTES - 30
        held.reopen()


def test_a_newer_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """A file of a newer gateway is left alone, and the text says what to do."""
    path = tmp_path / "state.sqlite3"
    State(path, 0).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()

    with pytest.raises(FormatVersionError) as raised:
        State(path, 0)

    assert str(raised.value) == (
        f"{path} has format version 99, this gateway reads up to {VERSION}: "
        "start a newer version, or name another data_dir."
    )


def test_the_version_is_read_without_opening_the_file(tmp_path: Path) -> None:
    """What a look at the file says is what SQLite says, from the first moment on, also while it is in use."""
    path = tmp_path / "state.sqlite3"
    assert version_of(path) == 0
    state = State(path, 0)
    assert version_of(path) == VERSION
    state.close()
    assert version_of(path) == VERSION
    path.write_bytes(b"no database" * 1000)
    assert version_of(path) == 0


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """A file that cannot be used is named, in one sentence."""
    path = tmp_path / "state.sqlite3"
    path.mkdir()

    with pytest.raises(GatewayError, match=r"state\.sqlite3 cannot be used"):
        State(path, 0)
