"""Dead letters found again."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.spool.chosen import Choice, Group, Reading, batch, groups, heads, newest
from gateway.spool.shelf import Letter
from gateway.spool.state import State
from tests.spool.building import letter

pytestmark = pytest.mark.anyio


def dead(number: int, **changes: Any) -> Letter:
    """Return a letter whose bytes are its number."""
    return Letter(f"0/{number}", letter(str(number).encode(), at=float(number), **changes))


@pytest.fixture
async def reading(tmp_path: Path) -> AsyncIterator[Reading]:
    """Ten letters: of odd numbers the reason is clock, those from 6 on came by HTTP from a tenant; a sink's."""
    state = State(tmp_path / "state.sqlite3", 1 << 20)
    letters = [
        dead(number, reason="clock" if number % 2 else "json", path="$.timestamp" if number % 2 else "$",
             source="http" if number >= 6 else "tcp", tenant="t" if number >= 6 else None)
        for number in range(9)
    ]  # fmt: skip
    sinks = Letter("es/0/1", letter(b"d" * 999, at=9.0, source="elasticsearch", reason="mapping"), "ml-metrics-x", "id")
    await state.run(lambda: state.keep([*letters, sinks]))
    reading = Reading(tmp_path / "state.sqlite3")
    yield reading
    reading.close()
    state.close()


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        (Choice(), range(10)),
        (Choice(reason="clock"), (1, 3, 5, 7)),
        (Choice(path="$"), (0, 2, 4, 6, 8, 9)),
        (Choice(rule="too_old"), ()),
        (Choice(source="http", reason="json"), (6, 8)),
        (Choice(tenant="t"), (6, 7, 8)),
        (Choice(index="ml-metrics-x"), (9,)),
        (Choice(since=3.0, until=5.0), (3, 4)),
        (Choice(ids=(1, 3, 99)), (0, 2)),
    ],
)
async def test_those_that_are_chosen(reading: Reading, choice: Choice, found: Any) -> None:
    """Each filter leaves those that fit: in pages newest first, in batches oldest first, in groups as many."""
    everything = await reading.ask(lambda db: batch(db, choice, 0, 1 << 62, 100, 1 << 20))
    assert [round(each.at) for each in everything] == list(found)
    pages: list[int] = []
    before = None
    while page := await reading.ask(lambda db: heads(db, choice, 2, before)):  # noqa: B023
        pages += [round(each.at) for each in page]
        before = page[-1].id
    assert pages == list(reversed(list(found)))
    assert (await reading.ask(lambda db: groups(db, choice, 100))).events == len(list(found))


async def test_groups(reading: Reading) -> None:
    """The largest come first, with their times and newest letter; the sums are of all, also those not shown."""
    found = await reading.ask(lambda db: groups(db, Choice(), 2))

    assert found.groups == [
        Group("json", "$", "json_invalid", 5, 0.0, 8.0, 0, 9),
        Group("clock", "$.timestamp", "json_invalid", 4, 1.0, 7.0, 0, 8),
    ]
    assert (found.all_groups, found.events, found.without_bytes) == (3, 10, 0)


async def test_batches(reading: Reading) -> None:
    """A batch ends at its number, or behind its bytes; what came later than the upper end is left out."""
    everything = Choice()
    assert [each.id for each in await reading.ask(lambda db: batch(db, everything, 2, 5, 100, 1000))] == [3, 4, 5]
    assert [each.id for each in await reading.ask(lambda db: batch(db, everything, 0, 99, 4, 1000))] == [1, 2, 3, 4]
    assert [each.id for each in await reading.ask(lambda db: batch(db, everything, 0, 99, 100, 2))] == [1, 2]
    assert await reading.ask(newest) == 10


async def test_a_page_holds_the_beginning_of_large_ones(reading: Reading) -> None:
    """A page of large letters stays small."""
    (newest_one,) = await reading.ask(lambda db: heads(db, Choice(), 1))

    assert (newest_one.data, newest_one.data_bytes, newest_one.index) == (b"d" * 256, 999, "ml-metrics-x")


async def test_nobody_is_held_up_and_nothing_changed(reading: Reading, tmp_path: Path) -> None:
    """It only reads, from the file's newest state; an index alone says how many there are of each rule."""
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await reading.ask(lambda db: db.execute("DELETE FROM letters"))
    asked: list[str] = []
    await reading.ask(lambda db: db.set_trace_callback(asked.append))
    await reading.ask(lambda db: groups(db, Choice(reason="json"), 10))
    await reading.ask(lambda db: db.set_trace_callback(None))
    plan = await reading.ask(lambda db: db.execute(f"EXPLAIN QUERY PLAN {asked[0]}").fetchall())
    assert any("USING COVERING INDEX letters_by_rule" in step[-1] for step in plan), plan
    with closing(sqlite3.connect(tmp_path / "state.sqlite3")) as db:
        db.execute("UPDATE letters SET reason = 'new'")
        db.commit()
    found = await asyncio.wait_for(reading.ask(lambda db: groups(db, Choice(), 10)), 5)
    assert {each.reason for each in found.groups} == {"new"}
