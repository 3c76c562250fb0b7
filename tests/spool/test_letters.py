import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.spool import letters as letters_module
from gateway.spool.books import Cursor
from gateway.spool.letters import LetterBox
from gateway.spool.record import HEADER_BYTES
from gateway.spool.segment import path_of
from gateway.spool.shelf import Letter
from gateway.spool.state import State
from tests.spool.building import MIB, draft, flip, letter, letters_in, offsets_of_records, spool_in

pytestmark = pytest.mark.anyio


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """An open state."""
    state = State(tmp_path / "state.sqlite3", MIB)
    yield state
    state.close()


async def kept(state: State) -> list[bytes]:
    """Return the bytes of all letters, oldest first."""
    return [row["data"] for row in await letters_in(state)]


async def test_what_is_refused_is_kept(tmp_path: Path, state: State) -> None:
    """Refused events of all records are kept in order, accepted ones are not touched."""
    async with spool_in(tmp_path / "spool" / "0") as spool:
        await spool.append(draft("a", refused=(b"1", b"2")))
        await spool.append(draft("b"))
        await spool.append(draft(refused=(b"3",)))

        await LetterBox(spool, state).catch_up()

    assert await kept(state) == [b"1", b"2", b"3"]
    cursor = state.cursor("dead_letters", "0")
    assert cursor is not None
    assert (spool.end, 2) == (cursor.position, cursor.accepted)


async def test_kept_once_across_crashes(tmp_path: Path, state: State) -> None:
    """A box that begins again with an older cursor, or with none, keeps each letter once."""
    async with spool_in(tmp_path / "spool" / "0") as spool:
        await spool.append(draft(refused=(b"1", b"2")))
        await LetterBox(spool, state).catch_up()
        old = state.cursor("dead_letters", "0")
        assert old is not None
        await spool.append(draft(refused=(b"3", b"3")))  # equal events are two
        await LetterBox(spool, state).catch_up()
        await state.run(lambda: state.commit("dead_letters", "0", old))

    async with spool_in(tmp_path / "spool" / "0") as spool:
        await LetterBox(spool, state).catch_up()
        assert await kept(state) == [b"1", b"2", b"3", b"3"]
        await state.run(lambda: state.forget("dead_letters"))
        await LetterBox(spool, state).catch_up()

    assert await kept(state) == [b"1", b"2", b"3", b"3"]


async def test_letters_of_a_new_folder_are_new(tmp_path: Path, state: State) -> None:
    """When the spool's folder was deleted, what is refused afterwards is kept beside the old letters."""
    for data in (b"old", b"new"):
        folder = tmp_path / data.decode() / "0"  # the same name, another folder
        async with spool_in(folder) as spool:
            await spool.append(draft(refused=(data,)))
            await LetterBox(spool, state).catch_up()

    assert await kept(state) == [b"old", b"new"]


async def test_it_lets_go_of_what_it_has(tmp_path: Path, state: State) -> None:
    """Segments that hold no letter any more are released."""
    async with spool_in(tmp_path / "spool" / "0") as spool:
        box = LetterBox(spool, state)
        spool.attached()
        for _ in range(3):
            await spool.append(draft("a", refused=(b"1",), pad=70_000))
        assert (spool.segments, spool.slowest()) == (3, "dead_letters")

        await box.catch_up()

        assert (spool.segments, spool.slowest()) == (1, None)


async def test_it_waits_for_what_comes(tmp_path: Path, state: State) -> None:
    """While it runs, letters are kept soon after they were refused."""
    async with spool_in(tmp_path / "spool" / "0") as spool:
        task = asyncio.create_task(LetterBox(spool, state).run())
        for data in (b"1", b"2"):
            await spool.append(draft(refused=(data,)))
            async with asyncio.timeout(5):
                while data not in await kept(state):
                    await asyncio.sleep(0.01)
        task.cancel()


async def test_trouble_of_the_state_is_waited_out(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When letters cannot be written they are tried again, with an error in the log, and none is lost."""
    monkeypatch.setattr(letters_module, "RETRY_SECS", 0.01)
    commit, failures = state.commit, [1, 1]

    def failing(*args: object, **options: object) -> int:
        if failures:
            failures.pop()
            raise sqlite3.OperationalError("database or disk is full")
        return commit(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(state, "commit", failing)
    async with spool_in(tmp_path / "spool" / "0") as spool:
        await spool.append(draft(refused=(b"1",)))
        with capture_logs() as logs:
            await LetterBox(spool, state).catch_up()

    assert await kept(state) == [b"1"]
    assert [each["log_level"] for each in logs] == ["error", "error"]


async def test_trouble_of_reading_is_waited_out(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the spool cannot be read for a while, such as for want of open files, the box goes on later."""
    monkeypatch.setattr(letters_module, "RETRY_SECS", 0.01)
    async with spool_in(tmp_path / "spool" / "0") as spool:
        box = LetterBox(spool, state)
        read, failures = box._reader.read, [1, 1]

        def failing(*args: object) -> object:
            if failures:
                failures.pop()
                raise OSError(24, "Too many open files")
            return read(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(box._reader, "read", failing)
        task = asyncio.create_task(box.run())
        await spool.append(draft(refused=(b"1",)))
        async with asyncio.timeout(5):
            while not await kept(state):
                await asyncio.sleep(0.01)
        task.cancel()


async def test_without_room_it_says_so(tmp_path: Path) -> None:
    """When bytes cannot be kept for want of room, an error names the setting and the number."""
    small = State(tmp_path / "small.sqlite3", Letter("o", letter(b"fits")).cost)
    async with spool_in(tmp_path / "spool" / "0") as spool:
        await spool.append(draft(refused=(b"fits", b"does not fit")))
        with capture_logs() as logs:
            await LetterBox(spool, small).catch_up()
    assert await kept(small) == [b"fits", None]
    small.close()

    ((level, text, events),) = [(each["log_level"], each["event"], each["events"]) for each in logs]
    assert (level, events) == ("error", 1)
    assert "dead_letters.max_bytes" in text


async def origins(state: State) -> dict[bytes, str]:
    """Return the origin of each letter by its bytes."""
    return {row["data"]: row["origin"] for row in await letters_in(state)}


async def test_what_became_documents_is_held_no_more(tmp_path: Path, state: State) -> None:
    """Letters that a record settles go with the cursor over it, also when all is read again from the beginning."""
    async with spool_in(tmp_path / "spool" / "0") as spool:
        await spool.append(draft(refused=(b"1", b"2", b"3")))
        box = LetterBox(spool, state)
        await box.catch_up()
        names = await origins(state)
        again = draft("a", "b", source="replay")
        again.settled = [names[b"1"], names[b"3"], "0/1/1 that never was"]
        await spool.append(again)

        await box.catch_up()
        assert await kept(state) == [b"2"]
        assert (state.letters, state.letter_bytes) == (1, Letter("o", letter(b"2")).cost)

        await state.run(lambda: state.forget("dead_letters"))
        await LetterBox(spool, state).catch_up()
    assert (await kept(state), state.letters) == ([b"2"], 1)


async def test_letters_of_damaged_records_are_counted(tmp_path: Path, state: State) -> None:
    """What was refused in a record that cannot be read is lost, and said to be, once, also after a restart."""
    async with spool_in(tmp_path / "spool" / "0") as spool:
        for data in ((b"1",), (b"2", b"3"), (b"4",)):
            await spool.append(draft("a", refused=data))
        path = path_of(spool.folder, spool.end.segment)
        _, _, (start, _), _ = offsets_of_records(path)
        flip(path, start + HEADER_BYTES + 60)

        box = LetterBox(spool, state)
        await box.catch_up()
        assert (await kept(state), box.lost) == ([b"1", b"4"], 2)
        await spool.append(draft(refused=(b"5",)))

        box = LetterBox(spool, state)
        await box.catch_up()
        assert (state.letters, box.lost) == (3, 2)


async def test_it_takes_what_came_while_it_looked_for_the_end(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the box gets what was on disk when it asked, though a look was under way already."""
    async with spool_in(tmp_path / "spool" / "0") as spool:
        box = LetterBox(spool, state)
        keep, entered, go_on = box._keep, asyncio.Event(), asyncio.Event()

        async def slowly(*args: Any) -> int:
            result = await keep(*args)
            entered.set()
            await go_on.wait()
            return result

        monkeypatch.setattr(box, "_keep", slowly)
        await spool.append(draft(refused=(b"1",)))
        first = asyncio.create_task(box.catch_up())
        await entered.wait()
        await spool.append(draft(refused=(b"2",)))
        second = asyncio.create_task(box.catch_up())
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, second)
        assert await kept(state) == [b"1", b"2"]


async def test_two_who_catch_up_at_once(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The box that runs and the stop that calls it do not get between each other: no cursor ahead of its letters."""
    monkeypatch.setattr(letters_module, "READ_BYTES", 500)
    seen: list[tuple[int, int]] = []
    async with spool_in(tmp_path / "spool" / "0") as spool:
        box = LetterBox(spool, state)
        keep, pauses = box._keep, iter([0.05, 0.0, 0.02])

        async def unevenly(cursor: Cursor, letters: list[Letter], settled: list[str]) -> int:
            await asyncio.sleep(next(pauses, 0.0))
            without = await keep(cursor, letters, settled)
            seen.append((cursor.accepted, state.letters))
            return without

        monkeypatch.setattr(box, "_keep", unevenly)
        for number in range(40):
            await spool.append(draft("a", refused=(str(number).encode(),)))
        await asyncio.gather(*(box.catch_up() for _ in range(4)))

    assert [(count, count) for count, _ in seen] == seen
    assert sorted(seen) == seen
    assert state.letters == 40
