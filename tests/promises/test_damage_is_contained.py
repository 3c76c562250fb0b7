"""Promise 9: an unreadable record is set aside, counted and reported; the gateway goes on with the next."""

import errno
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.spool.letters import LetterBox
from gateway.spool.reader import Item, Reader
from gateway.spool.record import HEADER_BYTES, Counts, encode
from gateway.spool.segment import FILE_HEADER, Damage, path_of, segments_in
from gateway.spool.state import State
from tests.spool.building import (
    START,
    appender,
    damaged_files,
    draft,
    everything,
    files,
    flip,
    letters_in,
    names,
    offsets_of_records,
    rest,
    spool_in,
)

WANTED = [["a"], ["b", "b2"], [], ["c"], ["d", "d2", "d3"], ["e"]]


def three_segments(folder: Path) -> Any:
    """Write some records into a folder with small segments; return the open appender."""
    writer = appender(folder, segment_bytes=300)
    for group in WANTED:
        writer.write([draft(*group, refused=() if group else (b"refused",))])
    assert len(segments_in(folder)) >= 3
    return writer


def reopened(folder: Path) -> list[Item]:
    """Return what is in a folder after a start."""
    writer = appender(folder)
    writer.close()
    return everything(folder, writer.end)


def check_all_but_one(folder: Path, end: Any, max_bytes: int, behind: str) -> None:
    """All documents are read but those of one record at most, and these are counted as damaged."""
    items = everything(folder, end, max_bytes)
    found = names(items)
    missing = [group for group in WANTED if not set(group) <= set(found)]
    assert len(missing) <= 1
    assert [name for group in [*WANTED, [behind]] if group not in missing for name in group] == found
    assert sum(map(len, missing)) == sum(item.damaged for item in items)


def test_any_changed_byte_in_the_running_gateway(tmp_path: Path) -> None:
    """Whichever byte changes while the gateway runs, all other records are read and the lost ones counted."""
    folder = tmp_path / "0"
    writer = three_segments(folder)
    end = writer.write([draft("behind")])
    chance = random.Random(7)
    checked = 0
    for path in files(folder):
        last = offsets_of_records(path) if path == files(folder)[-1] else None
        size = path.stat().st_size if last is None else list(last)[-1][0]  # the last record has none behind it
        for at in range(size):
            mask = chance.randrange(1, 256)
            flip(path, at, mask)
            check_all_but_one(folder, end, chance.choice([1, 150, 10_000]), "behind")
            flip(path, at, mask)
            checked += 1
    assert checked > 800


@pytest.mark.slow
def test_any_changed_byte_before_a_start(tmp_path: Path) -> None:
    """Whichever byte changed while the gateway was down, it starts, goes on, and counts what was lost.

    Only of a last record without a sound header nothing can be known: its bytes are set aside.
    """
    three_segments(tmp_path / "whole" / "0").close()
    chance = random.Random(8)
    for path in files(tmp_path / "whole" / "0"):
        *_, (last, _) = offsets_of_records(path)
        content = path.read_bytes()
        for at in range(0, len(content), 3):
            with tempfile.TemporaryDirectory(dir=tmp_path) as place:
                folder = Path(place) / "0"
                folder.mkdir()
                for each in files(tmp_path / "whole" / "0"):
                    (folder / each.name).write_bytes(each.read_bytes())
                flip(folder / path.name, at, chance.randrange(1, 256))
                again = appender(folder)
                end = again.write([draft("behind")])
                again.close()
                if path == files(tmp_path / "whole" / "0")[-1] and last <= at < last + HEADER_BYTES:
                    assert names(everything(folder, end)) == ["a", "b", "b2", "c", "d", "d2", "d3", "behind"]
                    assert [content[last:]] == [_unflip(each, content[last:]) for each in damaged_files(folder)]
                    continue
                assert damaged_files(folder) == []
                check_all_but_one(folder, end, 10_000, "behind")
                total = sum(each.accepted for each in again.counts.values())
                assert sum(map(len, WANTED)) + 1 == total


def _unflip(path: Path, sound: bytes) -> bytes:
    """Return the sound bytes when the file differs from them in one byte alone, else what is in the file."""
    data = path.read_bytes()
    different = len(data) != len(sound) or sum(a != b for a, b in zip(data, sound, strict=True)) != 1
    return data if different else sound


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_damage_at_all(data: st.DataObject) -> None:
    """Overwritten, lost and added bytes anywhere: no error, no endless loop, no event twice, none invented."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "0"
        three_segments(folder).close()
        for _ in range(data.draw(st.integers(1, 4))):
            path = data.draw(st.sampled_from(files(folder)))
            content = path.read_bytes()
            start = data.draw(st.integers(0, len(content)))
            stop = data.draw(st.integers(start, len(content)))
            path.write_bytes(content[:start] + data.draw(st.binary(max_size=80)) + content[stop:])

        again = appender(folder)
        end = again.write([draft("behind")])
        again.close()
        items = everything(folder, end, data.draw(st.sampled_from([1, 100, 1000, 100_000])))

        known = [name for group in WANTED for name in group]
        found = names(items)
        assert found[-1] == "behind"
        assert [name for name in known if name in found] == found[:-1]
        assert sum(item.damaged for item in items) <= len(known) - (len(found) - 1)


def test_a_cursor_behind_what_was_lost_loses_nothing_new(tmp_path: Path) -> None:
    """A reader that had read what is then lost at the end reads all that is written afterwards."""
    folder = tmp_path / "0"
    writer = three_segments(folder)
    writer.close()
    reader = Reader(folder, START, None, 0)
    rest(reader, writer.end)
    os.truncate(files(folder)[-1], FILE_HEADER.size + 3)

    again = appender(folder)
    end = again.write([draft("new")])

    assert names(rest(reader, end)) == ["new"]


def test_refused_bytes_that_look_like_a_record_stay_refused(tmp_path: Path) -> None:
    """A sender cannot smuggle a record into the spool by having another one torn or damaged."""
    forged = b"".join(encode(draft("forged"), 1 << 60, {"tcp": Counts(1 << 50, 1 << 50)}, 0))
    folder = tmp_path / "0"
    writer = appender(folder)
    writer.write([draft("a")])
    writer.write([draft("b", refused=(forged, forged))])
    writer.close()
    (path,) = files(folder)
    *_, (start, stop) = offsets_of_records(path)
    content = path.read_bytes()
    for length in range(start, stop):  # torn
        path.write_bytes(content[:length])
        assert names(reopened(folder)) == ["a"]
    for at in range(start, start + HEADER_BYTES):  # damaged
        path.write_bytes(content)
        flip(path, at)
        assert names(reopened(folder)) == ["a"]


def test_an_unreadable_sector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that the disk cannot give any more costs the records there and no others."""
    folder = tmp_path / "0"
    writer = appender(folder)
    for number in range(40):
        writer.write([draft(str(number), pad=1000)])
    writer.close()
    pread = os.pread

    def failing(file: int, size: int, offset: int) -> bytes:
        if offset <= 8192 < offset + size:
            raise OSError(errno.EIO, "Input/output error")
        return pread(file, size, offset)

    monkeypatch.setattr(os, "pread", failing)
    items = reopened(folder)

    found = names(items)
    assert 40 > len(found) > 30
    assert 40 - len(found) == sum(item.damaged for item in items)


def test_what_is_found_is_told(tmp_path: Path) -> None:
    """Whoever asks for it is given the file, the place and the bytes of damage, and what its header still says."""
    folder = tmp_path / "0"
    writer = appender(folder)
    writer.write([draft("a"), draft("b", "b2", refused=(b"x",)), draft("c")])
    (path,) = files(folder)
    _, _, (start, stop), _ = offsets_of_records(path)
    flip(path, start + HEADER_BYTES)
    told = []
    reader = Reader(folder, START, None, 0)
    reader.on_damage = lambda *what: told.append(what)

    assert names(rest(reader, writer.end)) == ["a", "c"]

    ((where, damage, data),) = told
    assert (path, start, stop, path.read_bytes()[start:stop]) == (where, damage.start, damage.end, bytes(data))
    assert isinstance(damage, Damage)
    assert damage.header is not None
    assert (damage.header.documents, damage.header.dead_letters) == (2, 1)


@pytest.mark.anyio
async def test_damage_is_set_aside_and_reported_once(tmp_path: Path) -> None:
    """A damaged record is copied beside the spool and logged as an error; its neighbours' dead letters are kept."""
    state = State(tmp_path / "state.sqlite3", 1 << 20)
    async with spool_in(tmp_path / "spool" / "0") as spool:
        for data in (b"one", b"two", b"three"):
            await spool.append(draft("a", refused=(data,)))
        path = path_of(spool.folder, spool.end.segment)
        _, _, (start, stop), _ = offsets_of_records(path)
        flip(path, start + HEADER_BYTES + 60)
        content = path.read_bytes()[start:stop]

        with capture_logs() as logs:
            await LetterBox(spool, state).catch_up()
            await state.run(lambda: state.forget("dead_letters"))
            await LetterBox(spool, state).catch_up()

    assert [row["data"] for row in await letters_in(state)] == [b"one", b"three"]
    assert [content] == [each.read_bytes() for each in damaged_files(spool.folder)]
    ((level, documents, letters),) = [(each["log_level"], each["documents"], each["dead_letters"]) for each in logs]
    assert (level, documents, letters) == ("error", 1, 1)
    state.close()


@pytest.mark.anyio
async def test_damage_that_only_a_slow_sink_meets_is_reported_too(tmp_path: Path) -> None:
    """What goes bad behind the dead letters and before a sink is set aside and logged, once for all sinks."""
    async with spool_in(tmp_path / "spool" / "0") as spool:
        for name in ("a", "b", "c"):
            await spool.append(draft(name))
        sinks = [spool.reader(name, None) for name in ("slow", "slower")]
        path = path_of(spool.folder, spool.end.segment)
        _, _, (start, stop), _ = offsets_of_records(path)
        flip(path, start + HEADER_BYTES)
        content = path.read_bytes()[start:stop]

        with capture_logs() as logs:
            assert [names(rest(reader, spool.end)) for reader in sinks] == [["a", "c"]] * 2

    assert [content] == [each.read_bytes() for each in damaged_files(spool.folder)]
    assert [(each["log_level"], each["documents"]) for each in logs] == [("error", 1)]
