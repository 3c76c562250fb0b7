"""Bytes to lines, whatever packets they come in."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sources.framing import HEAD_BYTES, LineFramer

MAX = 10


class Framed(NamedTuple):
    """All that a connection gave; broken ones by their line's number."""

    lines: list[bytes]
    broken: dict[int, tuple[str, bytes, int]]


def frame(chunks: list[bytes], *, orderly: bool | None = True, max_line_bytes: int = MAX) -> Framed:
    framer = LineFramer(max_line_bytes)
    framed = Framed([], {})
    steps = [framer.feed(chunk) for chunk in chunks]
    if orderly is not None:
        steps.append(framer.finish(orderly=orderly))
    for lines, broken in steps:
        for number, reason, message, data, size in broken:
            assert lines[number] == b""
            assert message.endswith(".")
            framed.broken[len(framed.lines) + number] = (reason, data, size)
        framed.lines.extend(lines)
    return framed


def expected(data: bytes, *, orderly: bool, max_line_bytes: int = MAX) -> Framed:
    """Say what the contract wants, from all bytes at once."""
    lines = data.split(b"\n")
    last = len(lines) - 1
    framed = Framed([], {})
    for number, line in enumerate(lines):
        fits = len(line) <= max_line_bytes or (len(line) == max_line_bytes + 1 and line.endswith(b"\r"))
        if not fits:
            framed.broken[number] = ("too_large", line[:HEAD_BYTES], len(line))
        elif number == last and not line.strip():
            break
        elif number == last and not orderly:
            framed.broken[number] = ("cut", line, len(line))
        framed.lines.append(b"" if number in framed.broken else line)
    return framed


def cut_up(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


PARTS = [b"a", b"\n", b"\r\n", b"\r", b" ", b"x" * MAX, b"\xff", b"y" * 9, b"\n\n"]
BYTES = st.lists(st.sampled_from(PARTS)).map(b"".join)


@given(BYTES | st.binary(), st.lists(st.integers(0, 1000)), st.booleans())
def test_any_chunks(data: bytes, cuts: list[int], orderly: bool) -> None:
    """However the bytes are cut into packets, the lines are those of the whole."""
    assert expected(data, orderly=orderly) == frame(cut_up(data, cuts), orderly=orderly)


@given(BYTES, st.booleans())
def test_byte_by_byte(data: bytes, orderly: bool) -> None:
    """Fed one byte at a time the lines are the same."""
    assert expected(data, orderly=orderly) == frame([bytes([each]) for each in data], orderly=orderly)


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"a\r\nb\r\n"], [b"a\r", b"b\r"]),
        ([b"a", b"b\n"], [b"ab"]),
        ([b"a\nb"], [b"a", b"b"]),
        ([b"\n\na\n"], [b"", b"", b"a"]),
        ([b""], []),
        ([b"a\n", b"  \r"], [b"a"]),
        ([b"0123456789\n"], [b"0123456789"]),
        ([b"0123456789\r\n"], [b"0123456789\r"]),
        ([b"0123456789\r", b"\n"], [b"0123456789\r"]),
        ([b"0123456789"], [b"0123456789"]),
    ],
)
def test_lines(chunks: list[bytes], lines: list[bytes]) -> None:
    """Lines end at a line feed, the last one also at the end; a line of exactly the limit is taken."""
    assert (lines, {}) == frame(chunks)


@pytest.mark.parametrize(
    "chunks",
    [
        [b"a\n0123456789X\nb\n"],
        [b"a\n0123456789", b"X\nb\n"],
        [b"a\n012345", b"6789X", b"\n", b"b\n"],
        [b"a\n0123456789X", b"\nb\n"],
    ],
)
def test_too_long(chunks: list[bytes]) -> None:
    """A line over the limit is broken in its place, and what follows its line end is read as usual."""
    assert frame(chunks) == ([b"a", b"", b"b"], {1: ("too_large", b"0123456789X", 11)})


def test_too_long_keeps_the_beginning() -> None:
    """Of an overlong line the first 4 KiB are kept and the whole length is counted; it is never held whole."""
    framer = LineFramer(MAX)
    for _ in range(1000):
        assert framer.feed(b"x" * 1000) == ([], [])
        assert len(framer._tail) <= MAX + 1000
    lines, (broken,) = framer.feed(b"yz\nnext\n")
    assert lines == [b"", b"next"]
    assert (broken.line, broken.reason, broken.data, broken.data_bytes) == (0, "too_large", b"x" * 4096, 1_000_002)


@pytest.mark.parametrize(
    ("tail", "orderly", "lines", "broken"),
    [
        (b'{"a":1}', True, [b'{"a":1}'], {}),
        (b'{"a":1}', False, [b""], {0: ("cut", b'{"a":1}', 7)}),
        (b" \r", False, [], {}),
        (b"", False, [], {}),
        (b"0123456789X", True, [b""], {0: ("too_large", b"0123456789X", 11)}),
        (b"0123456789X", False, [b""], {0: ("too_large", b"0123456789X", 11)}),
    ],
)
def test_the_end(tail: bytes, orderly: bool, lines: list[bytes], broken: dict[int, tuple[str, bytes, int]]) -> None:
    """An unfinished line is an event after an orderly end and cut after any other."""
    assert (lines, broken) == frame([tail], orderly=orderly)


def test_nothing_comes_twice() -> None:
    """Once finished, the framer holds nothing more."""
    framer = LineFramer(MAX)
    framer.feed(b"abc")
    framer.finish(orderly=False)
    assert framer.finish(orderly=False) == ([], [])
