import errno
import os
import struct
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import FormatVersionError
from gateway.spool.record import HEADER_BYTES, MAGIC, Record, encode
from gateway.spool.segment import (
    FILE_MAGIC,
    Damage,
    check_version,
    file_header,
    parse,
    path_of,
    read,
    segments_in,
    set_aside,
)
from tests.spool.building import appender, draft, flip, names_of


def record(number: int, *names: str) -> bytes:
    """Return a record as it lies on disk."""
    return b"".join(encode(draft(*names), number, {}, 0))


def newer(version: int) -> bytes:
    """Return the file header that a version of the format would write."""
    head = struct.pack("<8sI", FILE_MAGIC, version)
    return head + struct.pack("<I", zlib.crc32(head))


def test_a_newer_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """A file of a newer gateway is left alone, and the text says what to do."""
    path = path_of(tmp_path, 5)
    path.write_bytes(newer(2))

    with pytest.raises(FormatVersionError) as raised:
        appender(tmp_path)

    assert (
        f"{path} has format version 2, this gateway reads up to 1: start a newer version, or name another data_dir."
        == str(raised.value)
    )
    assert newer(2) == path.read_bytes()


def test_the_version_is_not_read_from_a_damaged_header(tmp_path: Path) -> None:
    """No changed byte of a file header makes the gateway believe in a newer version."""
    path = tmp_path / "1.segment"
    for at in range(len(file_header())):
        for bit in range(8):
            path.write_bytes(file_header())
            flip(path, at, 1 << bit)
            check_version(path)


def test_this_version_writes_what_it_reads() -> None:
    """The file header of this version is version 1."""
    assert newer(1) == file_header()


def test_segments_are_listed_by_number(tmp_path: Path) -> None:
    """Segments come oldest first, and other files are none."""
    for name in (path_of(tmp_path, 10).name, path_of(tmp_path, 9).name, "notes.txt", "copy of 3.segment"):
        (tmp_path / name).touch()

    assert segments_in(tmp_path) == [9, 10]


@given(st.integers(0, 2000), st.booleans())
def test_parsing_a_part(length: int, whole: bool) -> None:
    """Of any beginning of a segment all whole records are found, and the rest is damage only at the end."""
    records = [record(number, f"name-{number}") for number in range(1, 6)]
    data = b"".join(records)[:length]
    ends = [sum(map(len, records[:count])) for count in range(1, 6)]
    fitting = [end for end in ends if end <= len(data)]

    found = list(parse(memoryview(data), 100, whole=whole))

    assert [100 + end for end in fitting] == [after for after, item in found if isinstance(item, Record)]
    cut_off = len(data) > max(fitting, default=0)
    damages = [item for _, item in found if isinstance(item, Damage)]
    assert ([Damage(100 + max(fitting, default=0), 100 + len(data))] if whole and cut_off else []) == damages


def test_bytes_without_a_record_are_passed_over_piece_by_piece() -> None:
    """Damage that fills the whole buffer is passed over but for the bytes that may begin a record."""
    data = memoryview(b"\0" * 1000)

    assert [(1000 - HEADER_BYTES + 1, Damage(0, 1000 - HEADER_BYTES + 1))] == list(parse(data, 0, whole=False))


def test_a_record_that_is_cut_off_is_not_searched_for_others() -> None:
    """What lies behind a sound header belongs to its record, whatever it looks like."""
    inner = record(99, "forged")
    outer = b"".join(encode(draft("a", pad=10), 1, {}, 0))
    data = memoryview(outer[:HEADER_BYTES] + inner[:60])

    assert [(len(data), Damage(0, len(data)))] == list(parse(data, 0, whole=True))


def test_searching_takes_linear_time() -> None:
    """Bytes full of the magic do not slow the search down."""
    data = memoryview(MAGIC * 250_000 + record(1, "a"))
    started = time.perf_counter()

    found = [names_of(item) for _, item in parse(data, 0, whole=True) if isinstance(item, Record)]

    assert found == [["a"]]
    assert time.perf_counter() - started < 5


def test_a_page_that_the_disk_cannot_give_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreadable page becomes zeros, its neighbours are read."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 20_000)
    pread = os.pread

    def failing(file: int, size: int, offset: int) -> bytes:
        if offset < 8192 and offset + size > 4096:
            if offset >= 4096:
                raise OSError(errno.EIO, "Input/output error")
            size = 4096 - offset
        return pread(file, size, offset)

    monkeypatch.setattr(os, "pread", failing)
    with path.open("rb") as file:
        data = read(file.fileno(), 100, 19_000)

    assert b"x" * (4096 - 100) + bytes(4096) + b"x" * (19_100 - 8192) == data


def test_other_trouble_of_reading_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has nothing to do with the bytes, such as a file system gone, is raised."""
    path = tmp_path / "file"
    path.touch()

    def failing(file: int, size: int, offset: int) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "pread", failing)
    with path.open("rb") as file, pytest.raises(OSError, match="Stale"):
        read(file.fileno(), 0, 10)


def test_setting_aside_is_done_once(tmp_path: Path) -> None:
    """The same bytes are set aside once, beside the folder, named for where they lay."""
    path = path_of(tmp_path / "0", 5)

    aside = set_aside(path, 16, b"broken")

    assert tmp_path / "damaged" / "0-00000000000000000005-16.bytes" == aside
    assert aside.read_bytes() == b"broken"
    assert set_aside(path, 16, b"broken") is None
