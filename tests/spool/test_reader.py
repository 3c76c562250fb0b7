"""Reading behind the end. Damage is in tests/promises/test_damage_is_contained.py."""

import os
from pathlib import Path

import pytest

from gateway.spool.reader import Reader
from gateway.spool.segment import FILE_HEADER, Position, segments_in
from tests.spool.building import START, appender, draft, everything, files, names, rest


def test_from_any_cursor(tmp_path: Path) -> None:
    """A reader that begins where another stood reads what that one had not, across segments and once."""
    writer = appender(tmp_path / "0", segment_bytes=300)
    for name in "abcdefgh":
        writer.write([draft(name)])
    items = everything(tmp_path / "0", writer.end)
    assert len(segments_in(tmp_path / "0")) == 4

    for at, item in enumerate(items):
        header = item.record.header
        reader = Reader(tmp_path / "0", item.after, header.accepted, header.sequence)
        again = rest(reader, writer.end)
        assert [each.after for each in items[at + 1 :]] == [each.after for each in again]
        assert sum(each.damaged for each in again) == 0


def test_a_number_is_given_once(tmp_path: Path) -> None:
    """A reader whose place is older than the last record it knows passes over what it has had."""
    writer = appender(tmp_path / "0")
    for name in "abc":
        writer.write([draft(name)])
    _, _, b, _ = everything(tmp_path / "0", writer.end)
    header = b.record.header

    items = rest(Reader(tmp_path / "0", START, header.accepted, header.sequence), writer.end)

    assert (names(items), sum(item.damaged for item in items)) == (["c"], 0)


def test_only_what_is_before_the_end(tmp_path: Path) -> None:
    """Records behind the given end are not read: they may not be synced."""
    writer = appender(tmp_path / "0")
    first = writer.write([draft("a")])
    second = writer.write([draft("b")])
    reader = Reader(tmp_path / "0", START, None, 0)

    assert names(rest(reader, first)) == ["a"]
    assert rest(reader, first) == []
    assert names(rest(reader, second)) == ["b"]


def test_the_end_of_a_closed_segment_leads_into_the_next(tmp_path: Path) -> None:
    """A reader that had read all of a segment goes on in the next when there is one."""
    writer = appender(tmp_path / "0", segment_bytes=300)
    reader = Reader(tmp_path / "0", START, None, 0)
    seen = [names(rest(reader, writer.write([draft(name)]))) for name in "abcdef"]

    assert [[name] for name in "abcdef"] == seen
    assert len(segments_in(tmp_path / "0")) > 2


def test_an_empty_folder(tmp_path: Path) -> None:
    """There is nothing to read in a new folder."""
    assert everything(tmp_path / "0", appender(tmp_path / "0").end) == []


def test_a_deleted_segment_is_passed_over(tmp_path: Path) -> None:
    """What is missing is counted by the record that follows."""
    writer = appender(tmp_path / "0", segment_bytes=300)
    for name in "abcdef":
        writer.write([draft(name)])
    everything_before = everything(tmp_path / "0", writer.end)
    victim = segments_in(tmp_path / "0")[1]
    gone = [item for item in everything_before if item.after.segment == victim]
    files(tmp_path / "0")[1].unlink()

    items = everything(tmp_path / "0", writer.end)

    assert names(gone)
    assert sorted("abcdef") == sorted(names(items) + names(gone))
    assert len(names(gone)) == sum(item.damaged for item in items)


@pytest.mark.parametrize("length", [0, 10, FILE_HEADER.size, 100, 200])
def test_a_last_segment_shorter_than_its_end(tmp_path: Path, length: int) -> None:
    """When bytes that were synced are gone the reader comes to the end all the same."""
    writer = appender(tmp_path / "0")
    end = writer.write([draft("a")])
    os.truncate(files(tmp_path / "0")[0], length)

    reader = Reader(tmp_path / "0", START, None, 0)

    assert names(rest(reader, end)) == []
    assert end == reader.position


def test_a_last_segment_that_is_gone(tmp_path: Path) -> None:
    """When the whole file is gone the reader comes to the end all the same."""
    writer = appender(tmp_path / "0")
    end = writer.write([draft("a")])
    files(tmp_path / "0")[0].unlink()

    assert everything(tmp_path / "0", end) == []


@pytest.mark.parametrize("max_bytes", [1, 60, 1000, 100_000])
def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_bytes: int) -> None:
    """No read takes more bytes at once than asked for, or than one record that is longer."""
    writer = appender(tmp_path / "0")
    for number in range(50):
        writer.write([draft(str(number), pad=500)])
    longest = 900
    sizes = []
    pread = os.pread

    def counting(file: int, size: int, offset: int) -> bytes:
        data = pread(file, size, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counting)
    items = everything(tmp_path / "0", writer.end, max_bytes)

    assert [str(number) for number in range(50)] == names(items)
    assert max(sizes) <= max(max_bytes, longest)
    # Each byte is read a few times at most: once, with a record that was cut off, and to learn its length.
    assert sum(sizes) < 4 * writer.end.offset


def test_a_record_longer_than_asked_for_is_read(tmp_path: Path) -> None:
    """A record larger than ``max_bytes`` comes alone, and whole."""
    writer = appender(tmp_path / "0")
    end = writer.write([draft("small"), draft("large", pad=300_000), draft("small2")])

    reader = Reader(tmp_path / "0", START, None, 0)
    groups = [names(reader.read(end, 1000)) for _ in range(3)]

    assert groups == [["small"], ["large"], ["small2"]]


def test_long_damage_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large region without a record is passed over within the bounds, and the record behind it found."""
    writer = appender(tmp_path / "0")
    writer.write([draft("large", pad=500_000)])
    end = writer.write([draft("after")])
    (path,) = files(tmp_path / "0")
    with path.open("r+b") as file:
        file.write(bytes(500_000))
    sizes = []
    pread = os.pread

    def counting(file: int, size: int, offset: int) -> bytes:
        data = pread(file, size, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counting)
    items = everything(tmp_path / "0", end, 10_000)

    assert (names(items), sum(item.damaged for item in items)) == (["after"], 1)
    assert max(sizes) <= 10_000
    assert sum(sizes) < 2 * end.offset


def test_a_reader_that_begins_without_counts_damages_nothing(tmp_path: Path) -> None:
    """One who begins at the oldest record on disk does not miss what was deleted before."""
    writer = appender(tmp_path / "0", segment_bytes=300)
    for name in "abcdef":
        writer.write([draft(name)])
    files(tmp_path / "0")[0].unlink()

    items = rest(Reader(tmp_path / "0", START, None, 0), writer.end)

    assert len(items) > 0
    assert sum(item.damaged for item in items) == 0
    assert Position(segments_in(tmp_path / "0")[0]) < items[0].after
