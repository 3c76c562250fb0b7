"""How much of the spool a reader gives up: whole segments, just enough, and only where that helps."""

from pathlib import Path

import pytest

from gateway.errors import SpoolFull
from gateway.settings import Spool as SpoolSettings
from gateway.spool import folder as folder_module
from gateway.spool.books import Cursor
from gateway.spool.segment import Position
from gateway.spool.skipping import place
from gateway.spool.spool import Spool
from tests.spool.building import MIB, draft, unobserved

SIZES = {1: 100, 5: 120, 9: 80, 12: 60}


@pytest.mark.parametrize(
    ("mine", "other", "wanted", "expected"),
    [
        (Position(1, 16), Position(12, 60), 1, Position(1, 100)),
        (Position(1, 50), Position(12, 60), 100, Position(1, 100)),
        (Position(1, 16), Position(12, 60), 101, Position(5, 120)),
        (Position(5, 20), Position(12, 20), 150, Position(9, 80)),
        (Position(1, 100), Position(12, 60), 120, Position(5, 120)),  # behind its segment, which is gone
        (Position(12, 20), Position(12, 60), 60, Position(12, 60)),  # the one that is written: the next write closes it
        (Position(1, 16), Position(5, 16), 101, None),  # the other needs the rest
        (Position(1, 16), Position(1, 90), 1, None),
        (Position(5, 16), Position(1, 16), 1, None),  # the other is slower
        (Position(12, 60), Position(12, 60), 1, None),
        (Position(1, 16), Position(12, 60), 361, None),  # more than there is
    ],
)
def test_place(mine: Position, other: Position, wanted: int, expected: Position | None) -> None:
    """Up to the end of the first segment that is enough for what is wanted."""
    assert place("mine", {"mine": mine, "other": other}, SIZES, 0) is None
    assert place("mine", {"mine": mine, "other": other}, SIZES, wanted) == expected


async def filled(folder: Path, settings: SpoolSettings, pad: int = 100_000) -> tuple[Spool, int]:
    """Return a spool that is full because of `slow`, and how many events it has."""
    spool = Spool(folder, settings, unobserved)
    spool.reader("slow", None)
    spool.reader("fast", None)
    spool.attached()
    count = 0
    try:
        while True:
            await spool.append(draft(str(count), pad=pad))
            spool.release("fast", spool.end)
            count += 1
    except SpoolFull:
        return spool, count


@pytest.mark.anyio
async def test_room_for_the_next(tmp_path: Path) -> None:
    """With what is skipped the spool has room again; where the cursor then stands says exactly how many that were."""
    spool, count = await filled(tmp_path / "0", SpoolSettings(max_bytes=4 * MIB, min_free_bytes=0))
    assert spool.place_to_skip("fast") is None
    found = spool.place_to_skip("slow")
    assert found is not None
    assert found < spool.end
    at = spool.at(found)
    assert 0 < at.accepted < count / 2
    moved = Cursor(base=0).skipped_to(at)
    assert (moved.position, moved.accepted, moved.skipped) == (found, at.accepted, at.accepted)
    assert moved.skipped_to(at) is moved
    spool.release("slow", found)
    assert spool.full() is None
    assert spool.place_to_skip("slow") is None
    reader = spool.reader("slow", moved)
    items = reader.read(spool.end, 1)
    assert items[0].record.header.accepted - items[0].record.header.documents == at.accepted
    assert items[0].damaged == 0
    await spool.stop()
    assert spool.place_to_skip("slow") is None


@pytest.mark.anyio
async def test_one_huge_record(tmp_path: Path) -> None:
    """A record larger than the spool, in the file that is written to, is skipped as well."""
    spool, count = await filled(tmp_path / "0", SpoolSettings(max_bytes=4 * MIB, min_free_bytes=0), pad=5 * MIB)
    assert count == 1
    assert spool.place_to_skip("slow") == spool.end
    assert spool.at(spool.end) == Cursor(spool.end, 0, 1)
    spool.release("slow", spool.end)
    await spool.append(draft("next"))
    spool.release("fast", spool.end)
    assert spool.at(spool.end).accepted == 2
    assert spool.bytes < MIB
    await spool.stop()


@pytest.mark.anyio
async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk has too little room it is skipped as long as that makes enough; not where it would be in vain."""
    free = [100 * MIB]
    monkeypatch.setattr(folder_module, "free_bytes", lambda _: free[0])
    settings = SpoolSettings(min_free_bytes=50 * MIB, segment_bytes=MIB)
    spool = Spool(tmp_path / "0", settings, unobserved)
    spool.reader("slow", None)
    spool.attached()
    for each in range(40):
        free[0] -= 100_000
        await spool.append(draft(str(each), pad=100_000))
    assert spool.place_to_skip("slow") is None
    free[0] = 20 * MIB
    await spool.append(draft("last"))
    assert spool.full() is not None
    assert spool.place_to_skip("slow") is None  # all that the spool holds would not be enough
    free[0] = 49 * MIB
    spool._check_free()
    assert spool.full() is not None
    found = spool.place_to_skip("slow")
    assert found is not None
    spool.release("slow", found)
    assert spool.full() is None
    assert spool.place_to_skip("slow") is None
    await spool.stop()


@pytest.mark.anyio
async def test_a_full_disk_gets_nothing_from_the_last_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays until something is written: what lies in it is not skipped in vain, what lies before it is."""
    free = [100 * MIB]
    monkeypatch.setattr(folder_module, "free_bytes", lambda _: free[0])
    spool = Spool(tmp_path / "0", SpoolSettings(min_free_bytes=50 * MIB, segment_bytes=MIB), unobserved)
    spool.reader("slow", None)
    spool.attached()
    await spool.append(draft("a", pad=600_000))
    free[0] = 50 * MIB - 100_000
    spool._check_free()
    assert spool.place_to_skip("slow") is None
    free[0] = 100 * MIB
    spool._check_free()
    await spool.append(draft("b", pad=600_000))
    closed = spool.end
    await spool.append(draft("c"))
    free[0] = 50 * MIB - 100_000
    spool._check_free()
    assert spool.place_to_skip("slow") == closed
    spool.release("slow", closed)
    assert spool.full() is None
    assert spool.place_to_skip("slow") is None
    await spool.stop()
