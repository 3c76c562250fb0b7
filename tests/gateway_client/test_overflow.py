"""The overflow file: bounded, found again, never two processes' at once, whole lines only."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway_client.overflow import Overflow
from tests.gateway_process import ROOT

MAX = 1_000_000


@contextmanager
def overflow(path: Path, max_bytes: int = MAX) -> Iterator[Overflow]:
    """Open a file, and let it go like a process that ends."""
    opened = Overflow(path, max_bytes)
    try:
        yield opened
    finally:
        opened.close()


def settle(files: Overflow) -> list[tuple[bytes, bool]]:
    """Take and settle all there is; return the lines, and whether they are from before."""
    settled = []
    while lines := files.take(20):
        settled += [(line, files.settle(len(line))) for line in lines]
    return settled


def left(path: Path) -> list[str]:
    """Return the names beside a file but for the locks."""
    return sorted(each.name for each in path.parent.iterdir() if each.suffix != ".lock")


def test_what_is_appended_is_sent_and_deleted(tmp_path: Path) -> None:
    """Lines come back in their order, and the disk is free again when they are settled."""
    path = tmp_path / "new" / "events.ndjson"
    with overflow(path) as files:
        lines = [b'{"n":%d}\n' % number for number in range(100)]
        assert all(files.append(line) for line in lines)
        assert files.bytes == path.stat().st_size == len(b"".join(lines))
        first = files.take(20)
        assert first == lines[: len(first)]
        assert files.append(b"later\n")
        files.settle(len(first[0]))
        files.rewind()
        assert settle(files) == [(line, False) for line in [*lines[1:], b"later\n"]]
        assert files.bytes == 0
    assert left(path) == []


def test_it_is_bounded(tmp_path: Path) -> None:
    """Nothing is taken beyond the bound, over all files; what is settled makes room."""
    with overflow(tmp_path / "e", 10) as files:
        assert files.append(b"123456\n")
        assert not files.append(b"1234\n")
        assert files.take(100) == [b"123456\n"]
        assert not files.append(b"1234\n")
        files.settle(7)
        assert files.append(b"1234\n")


def test_a_next_process_goes_on(tmp_path: Path) -> None:
    """What was appended and what was half sent is sent by the next one, oldest first."""
    path = tmp_path / "e"
    with overflow(path) as files:
        files.append(b"1\n2\n")
        files.settle(len(files.take(1)[0]))
        files.append(b"3\n")
    with overflow(path) as files:
        assert files.bytes == 6
        files.append(b"4\n")
        assert settle(files) == [(b"1\n", True), (b"2\n", True), (b"3\n", True), (b"4\n", False)]
    assert left(path) == []


@pytest.mark.parametrize(("content", "whole", "torn"), [(b"1\n2", [b"1\n"], 1), (b"torn", [], 1), (b"", [], 0)])
def test_a_torn_last_line(tmp_path: Path, content: bytes, whole: list[bytes], torn: int) -> None:
    """A line that is not whole is passed over and counted; the file goes nevertheless."""
    path = tmp_path / "e"
    path.write_bytes(content)
    with overflow(path) as files:
        assert settle(files) == [(line, True) for line in whole]
        assert (files.torn, files.bytes) == (torn, 0)
    assert left(path) == []


def test_a_torn_last_line_after_a_break(tmp_path: Path) -> None:
    """Sent again, it is counted once, and the file stays until all of it is acknowledged."""
    path = tmp_path / "e"
    path.write_bytes(b"1\n2\ntorn")
    with overflow(path) as files:
        for _ in range(3):
            assert (files.take(20), files.take(20)) == ([b"1\n", b"2\n"], [])
            files.rewind()
        assert (files.torn, files.bytes) == (1, 4)
        files.settle(len(files.take(20)[0]))
        files.rewind()
        assert settle(files) == [(b"2\n", True)]
    assert left(path) == []


def test_lines_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    """A line comes whole, whatever its length, and with a carriage return within."""
    lines = [b"a" * 1000 + b"\n", b"b\rb\n", b"c" * 5000 + b"\n"]
    path = tmp_path / "e"
    path.write_bytes(b"".join(lines))
    with overflow(path) as files:
        assert [line for line, _ in settle(files)] == lines


def test_each_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Who comes while the file is taken gets the next one; what lies in one without a process is taken over."""
    path = tmp_path / "e"
    with overflow(path) as first, overflow(path) as second, overflow(path) as third:
        for number, files in enumerate((first, second, third)):
            files.append(b"%d\n" % number)
        assert [files.path.name for files in (first, second, third)] == ["e", "e.1", "e.2"]
        third.close()
        with overflow(path) as fourth:
            assert fourth.path.name == "e.2"
            assert settle(fourth) == [(b"2\n", True)]
    names = {each.name for each in tmp_path.iterdir()}
    for _ in range(3):
        with overflow(path) as files:
            assert files.path == path
            assert files.bytes == 4
    assert {each.name for each in tmp_path.iterdir() if each.suffix == ".lock"} <= names
    with overflow(path) as files:
        assert sorted(settle(files)) == [(b"0\n", True), (b"1\n", True)]
    assert left(path) == []


def test_a_file_that_somebody_took_away(tmp_path: Path) -> None:
    """It is told, and not waited for."""
    with overflow(tmp_path / "e") as files:
        files.append(b"1\n")
        files.path.unlink()
        with pytest.raises(FileNotFoundError):
            files.take(10)
        assert files.bytes == 0
        files.append(b"2\n")
        assert files.take(10) == [b"2\n"]


@pytest.mark.process
def test_a_full_disk(tmp_path: Path) -> None:
    """A line for which the disk has no room is not taken, in no part; those before it are whole."""
    program = """
import resource, signal, sys
from pathlib import Path
from gateway_client.overflow import Overflow
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
files, taken = Overflow(Path(sys.argv[1]), 10**6), 0
while True:
    try:
        files.append(b"x" * 93 + b"!\\n")
    except OSError as error:
        sys.exit(f"{taken} {error.strerror}")
    taken += 1
"""
    path = tmp_path / "e"
    ended = subprocess.run(
        [sys.executable, "-c", program, str(path)], env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    assert ended.stderr.split()[:1] == [b"10"], ended.stderr
    assert path.read_bytes() == (b"x" * 93 + b"!\n") * 10
