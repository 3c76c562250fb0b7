"""What opening a folder again finds. Failing disks are in tests/promises/test_durable_before_acknowledged.py."""

import os
import shutil
from pathlib import Path

import pytest

from gateway.spool.appender import LOST, Appender
from gateway.spool.record import HEADER_BYTES, Counts
from gateway.spool.segment import FILE_HEADER, Position, segments_in
from tests.spool.building import (
    appender,
    damaged_files,
    draft,
    everything,
    files,
    flip,
    names,
    offsets_of_records,
)


def written(folder: Path, *groups: str, segment_bytes: int = 1 << 20) -> Appender:
    """Return an appender that wrote a record for each group of names."""
    writer = appender(folder, segment_bytes)
    for group in groups:
        writer.write([draft(*group.split())])
    writer.close()
    return writer


def numbers(folder: Path, end: Position) -> list[int]:
    """Return the numbers of all records."""
    return [item.record.header.sequence for item in everything(folder, end)]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Records come back in order, with the numbers rising and the events counted."""
    writer = appender(tmp_path / "0")
    writer.write([draft("a", "b"), draft("c", source="http")])
    end = writer.write([draft(refused=(b"?",))])

    items = everything(tmp_path / "0", end)

    assert names(items) == ["a", "b", "c"]
    assert [item.record.header.accepted for item in items] == [0, 2, 3, 3]
    assert writer.counts == items[-1].record.counts() == {"tcp": Counts(3, 2, 1), "http": Counts(1, 1)}
    assert numbers(tmp_path / "0", end) == list(range(writer.sequence - 3, writer.sequence + 1))


def test_a_segment_is_closed_at_its_size(tmp_path: Path) -> None:
    """Records go into a new segment once the last has reached its size, each named for its first record."""
    writer = written(tmp_path / "0", *"abcdef", segment_bytes=350)

    segments = segments_in(tmp_path / "0")

    assert len(segments) == 3
    assert all(350 <= path.stat().st_size < 500 for path in files(tmp_path / "0")[:-1])
    assert set(segments) < set(numbers(tmp_path / "0", writer.end))
    assert list("abcdef") == names(everything(tmp_path / "0", writer.end))


def test_more_buffers_than_one_call_takes(tmp_path: Path) -> None:
    """A group of more records than the system takes in one call is written whole."""
    wanted = [str(number) for number in range(1500)]

    end = appender(tmp_path / "0").write([draft(name) for name in wanted])

    assert wanted == names(everything(tmp_path / "0", end))


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system did not write in the first call is written in the next."""
    pwritev, pwrite = os.pwritev, os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda file, data, at: pwritev(file, [b"".join(data)[:70]], at))
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: pwrite(file, data[:50], at))

    end = appender(tmp_path / "0").write([draft("a"), draft("b")])

    assert names(everything(tmp_path / "0", end)) == ["a", "b"]


def test_opening_again_goes_on(tmp_path: Path) -> None:
    """Counts and numbers go on after a start, in a new segment."""
    first = written(tmp_path / "0", "a b", "c")

    again = appender(tmp_path / "0")
    assert (first.end, first.counts) == (again.end, again.counts)
    assert first.sequence < again.sequence  # no number comes twice, also if somebody cut the file short
    end = again.write([draft("d")])

    assert names(everything(tmp_path / "0", end)) == ["a", "b", "c", "d"]
    assert {"tcp": Counts(4, 4)} == again.counts
    assert sorted(set(numbers(tmp_path / "0", end))) == numbers(tmp_path / "0", end)
    assert damaged_files(tmp_path / "0") == []


def test_numbers_of_a_deleted_folder_do_not_come_again(tmp_path: Path) -> None:
    """A folder made anew has other numbers, so that no dead letter is taken for one of the old folder."""
    old = written(tmp_path / "0", *"abc")
    used = numbers(tmp_path / "0", old.end)
    shutil.rmtree(tmp_path / "0")

    new = written(tmp_path / "0", *"def")

    assert max(used) < min(numbers(tmp_path / "0", new.end))


def test_a_torn_tail_is_set_aside_at_every_length(tmp_path: Path) -> None:
    """Whatever part of the last record reached the disk: the others stand, it is set aside, its number unused."""
    writer = written(tmp_path / "whole" / "0", "a", "b b2", "torn")
    (*_, (begin, _), (start, stop)) = offsets_of_records(files(tmp_path / "whole" / "0")[0])
    assert begin < start
    for length in range(start, stop):
        folder = tmp_path / str(length) / "0"
        shutil.copytree(tmp_path / "whole" / "0", folder)
        (segment,) = files(folder)
        torn = segment.read_bytes()[start:length]
        os.truncate(segment, length)

        again = appender(folder)
        end = again.write([draft("next")])

        items = everything(folder, end)
        assert names(items) == ["a", "b", "b2", "next"]
        assert sum(item.damaged for item in items) == 0
        assert {"tcp": Counts(4, 4)} == again.counts
        assert ([torn] if torn else []) == [path.read_bytes() for path in damaged_files(folder)]
        used = numbers(folder, end)
        assert used == sorted(set(used))
        if torn:
            assert writer.sequence not in used[:-2]


def test_a_torn_opening_record_at_every_length(tmp_path: Path) -> None:
    """A segment that broke off in its file header or its opening record hides nothing before or after it."""
    written(tmp_path / "whole" / "0", *"abc", segment_bytes=350)
    last = files(tmp_path / "whole" / "0")[-1]
    (_, opened), *_ = offsets_of_records(last)
    for length in range(opened):
        folder = tmp_path / str(length) / "0"
        shutil.copytree(tmp_path / "whole" / "0", folder)
        os.truncate(folder / last.name, length)

        again = appender(folder)
        end = again.write([draft("next")])

        items = everything(folder, end)
        assert names(items) == ["a", "b", "next"]
        assert {"tcp": Counts(3, 3)} == again.counts
        used = numbers(folder, end)
        assert used == sorted(set(used))
        assert (length > FILE_HEADER.size) == bool(damaged_files(folder))


def test_opening_twice_sets_a_tail_aside_once(tmp_path: Path) -> None:
    """Starting again without new events finds the same end and makes no second copy."""
    written(tmp_path / "0", "a", "torn")
    (segment,) = files(tmp_path / "0")
    os.truncate(segment, segment.stat().st_size - 1)
    warnings: list[str] = []

    first = Appender(tmp_path / "0", 1000, warnings.append)
    second = Appender(tmp_path / "0", 1000, warnings.append)

    assert first.end == second.end
    assert len(damaged_files(tmp_path / "0")) == 1
    assert len(warnings) == 1
    assert "no sender was told of" in warnings[0]


@pytest.mark.parametrize("content", [b"", b"MLG", b"\0" * 5000])
def test_a_last_segment_without_a_record(tmp_path: Path, content: bytes) -> None:
    """A file that holds no record gives its number and hides nothing."""
    first = written(tmp_path / "0", "a", "b")
    (tmp_path / "0" / f"{first.sequence + 1:020d}.segment").write_bytes(content)

    again = appender(tmp_path / "0")
    end = again.write([draft("c")])

    assert names(everything(tmp_path / "0", end)) == ["a", "b", "c"]
    assert {"tcp": Counts(3, 3)} == again.counts
    # What is gone may have held records, and readers may have seen them: their numbers do not come again.
    assert segments_in(tmp_path / "0")[-1] > first.sequence + 1 + max(0, len(content) - FILE_HEADER.size) // 200


def test_a_segment_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    """When the last segment is all zeros, no number that it can have held is used again."""
    first = written(tmp_path / "0", "a", "b", "c", "d")
    (segment,) = files(tmp_path / "0")
    segment.write_bytes(bytes(segment.stat().st_size))

    again = appender(tmp_path / "0")
    end = again.write([draft("e")])

    assert first.sequence < again.sequence - 1
    assert names(everything(tmp_path / "0", end)) == ["e"]


def test_a_damaged_last_record_stays_counted(tmp_path: Path) -> None:
    """A whole last record that cannot be read may have been acknowledged: it counts, as damaged."""
    written(tmp_path / "0", "a", "b b2")
    (segment,) = files(tmp_path / "0")
    *_, (start, _) = offsets_of_records(segment)
    flip(segment, start + HEADER_BYTES + 60)  # in the documents

    again = appender(tmp_path / "0")
    end = again.write([draft("c")])

    items = everything(tmp_path / "0", end)
    assert names(items) == ["a", "c"]
    assert sum(item.damaged for item in items) == 2
    assert {"tcp": Counts(4, 4)} == again.counts


def test_a_damaged_last_record_whose_counts_are_gone(tmp_path: Path) -> None:
    """When even the counts of the last record cannot be read, its documents are booked under a source of their own."""
    written(tmp_path / "0", "a", "b b2")
    (segment,) = files(tmp_path / "0")
    flip(segment, segment.stat().st_size - 1)

    again = appender(tmp_path / "0")
    end = again.write([draft("c")])

    assert sum(item.damaged for item in everything(tmp_path / "0", end)) == 2
    assert {"tcp": Counts(2, 2), LOST: Counts(2, 2)} == again.counts


def test_opening_syncs_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole records that a killed gateway had not synced are synced before a reader may see them."""
    written(tmp_path / "0", "a")
    (segment,) = files(tmp_path / "0")
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append(os.fstat(file).st_ino))

    appender(tmp_path / "0")

    assert [segment.stat().st_ino] == synced


def test_new_folders_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that was made is synced in the one that holds it."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))

    appender(tmp_path / "spool" / "0")

    assert {tmp_path.stat().st_ino, (tmp_path / "spool").stat().st_ino} == set(synced)


def test_a_file_that_somebody_deleted(tmp_path: Path) -> None:
    """What is written into it nobody would find again: it goes into a new one."""
    writer = written(tmp_path / "0", "a")
    (segment,) = files(tmp_path / "0")
    segment.unlink()

    end = writer.write([draft("b")])

    assert names(everything(tmp_path / "0", end)) == ["b"]


def test_a_folder_of_a_segments_name(tmp_path: Path) -> None:
    """It is as good as a deleted file."""
    written(tmp_path / "0", "a", "b", segment_bytes=1)
    first = files(tmp_path / "0")[0]
    first.unlink()
    first.mkdir()

    assert names(everything(tmp_path / "0", appender(tmp_path / "0").end)) == ["b"]


def test_a_torn_tail_without_room_for_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is no reason not to start, and half a copy does not pass for the whole one."""
    written(tmp_path / "0", "a")
    with files(tmp_path / "0")[0].open("ab") as segment:
        segment.write(b"torn")
    (tmp_path / "damaged").write_text("no folder")
    warnings: list[str] = []

    Appender(tmp_path / "0", 1000, warnings.append)

    (warning,) = warnings
    assert "they cannot be copied aside" in warning
