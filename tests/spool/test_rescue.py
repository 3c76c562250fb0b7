"""A damaged state.sqlite3 costs what was in the damaged part, and no more."""

import random
import sqlite3
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.spool.books import Cursor
from gateway.spool.segment import Position
from gateway.spool.shelf import Letter
from gateway.spool.state import Parked, State
from tests.spool.building import letter, letters_in

PAGE = 4096
LETTERS, PARKED = 600, 300
CURSOR = Cursor(Position(5, 100), 7, accepted=PARKED + 50, base=0, indexed=50, parked=PARKED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state with a cursor, dead letters and parked documents."""
    path = tmp_path / "state.sqlite3"
    state = State(path, 1 << 30)
    letters = [Letter(f"letter-{number}", letter(b"x" * 300)) for number in range(LETTERS)]
    parked = [
        Parked(f"parked-{number}", "index", 1.0, b'{"create":{"_id":"%d"}}' % number, b"y" * 200, "why")
        for number in range(PARKED)
    ]
    state._thread.submit(lambda: state.commit("sink", "0", CURSOR, letters, parked)).result()
    state.close()
    return path


def spoil(path: Path, number: int) -> None:
    """Make a page unreadable."""
    content = path.read_bytes()
    pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    pages[number] = b"\xff" * PAGE
    path.write_bytes(b"".join(pages))


@pytest.mark.parametrize("seed", range(25))
def test_one_damaged_page(path: Path, seed: int) -> None:
    """The place is kept, the rows of other pages are; a parked document that is lost counts as damaged.

    Where the place was in that page the sink begins anew, and what was parked becomes dead letters.
    """
    chance = random.Random(seed)
    content = bytearray(path.read_bytes())
    page = chance.randrange(len(content) // PAGE) * PAGE
    content[page : page + PAGE] = chance.randbytes(PAGE)
    path.write_bytes(content)

    with capture_logs() as logs:
        state = State(path, 1 << 30)
    cursor = state.cursor("sink", "0")
    letters = state.letters
    if cursor is None:
        letters -= PARKED
        assert state.parked_count("sink") == 0
    else:
        assert cursor.parked == state.parked_count("sink") == PARKED - cursor.damaged
        assert cursor.damaged < 40
    if page:
        assert LETTERS - 20 < letters <= LETTERS
    state.close()
    assert [each["log_level"] for each in logs] == ["error"]
    (aside,) = path.parent.glob("state.sqlite3.damaged-*")
    assert aside.read_bytes() == content

    with capture_logs() as logs:
        State(path, 1 << 30).close()
    assert logs == []


@pytest.mark.parametrize("seed", range(40))
def test_a_place_of_garbage_is_none(path: Path, seed: int) -> None:
    """Figures that do not add up are not taken over: a place that is too far ahead would lose what is before it."""
    chance = random.Random(seed)
    content = bytearray(path.read_bytes())
    at = content.index(b"sink0") + chance.randrange(-20, 20)
    size = chance.choice((1, 4, 16, 64))
    content[at : at + size] = chance.randbytes(size) if seed % 2 else bytes(size)
    path.write_bytes(content)
    spoil(path, -1)  # so that the damage is found in any case

    state = State(path, 1 << 30)
    cursor, parked = state.cursor("sink", "0"), state.parked_count("sink")
    state.close()

    if cursor is not None:
        assert cursor == CURSOR.advanced(parked=parked, damaged=PARKED - parked)


@pytest.mark.anyio
async def test_parked_documents_without_a_place(path: Path) -> None:
    """The spool may not hold them any more: they become dead letters that can be sent again under their identity."""
    db = sqlite3.connect(path)
    db.execute("DELETE FROM cursors")
    (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sinks'").fetchone()
    db.commit()
    db.close()
    spoil(path, page - 1)

    state = State(path, 1 << 30)
    letters = (await letters_in(state))[LETTERS:]
    assert state.parked_count("sink") == 0
    state.close()

    assert [each["document_id"] for each in letters] == [str(number) for number in range(PARKED)]
    assert {(each["reason"], each["index_name"], each["message"], each["data"]) for each in letters} == {
        ("sink", "index", "why", b"y" * 200)
    }


@pytest.mark.parametrize("moved", [False, True])
def test_killed_within_a_rescue(path: Path, monkeypatch: pytest.MonkeyPatch, *, moved: bool) -> None:
    """However far it came, the next start has all that can be read."""
    spoil(path, -1)
    with monkeypatch.context() as patch:
        real = Path.rename

        def rename(self: Path, target: Path) -> Path:
            if moved and "damaged" in str(target):
                return real(self, target)
            raise KeyboardInterrupt

        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            State(path, 1 << 30)
    assert path.exists() is not moved

    state = State(path, 1 << 30)
    assert state.letters > LETTERS - 20
    assert state.cursor("sink", "0") is not None
    state.close()
    assert len([*path.parent.glob("*.rescued*")]) == 0
