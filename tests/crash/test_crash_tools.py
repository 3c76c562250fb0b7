"""The crash tests harm what they say they harm: each name is there, and a power cut takes what was not synced."""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.spool.appender import Appender
from gateway.spool.segment import segments_in
from gateway.spool.state import State
from tests.crash import comparison
from tests.crash.comparison import Client
from tests.crash.disk import Disk
from tests.crash.faults import FAULTS
from tests.crash.sabotage import SABOTAGES
from tests.crash.targets import find, replace
from tests.gateway_process import ROOT
from tests.spool.building import appender, draft, everything, names


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_somewhere(name: str) -> None:
    """A place of death that was renamed or removed is noticed here, not by a kill that never comes."""
    owner, last = find(FAULTS[name].target)
    assert callable(getattr(owner, last))


@pytest.mark.parametrize("name", SABOTAGES)
def test_every_sabotage_has_something_to_spoil(name: str) -> None:
    """So does each sabotage."""
    owner, last = find(SABOTAGES[name].target)
    assert callable(getattr(owner, last))


@pytest.mark.parametrize("target", ["os.no_such_call", "gateway.no_such_module.call", "nothing"])
def test_a_name_that_is_nowhere(target: str) -> None:
    """A wrong name is an error."""
    with pytest.raises(LookupError, match=target):
        find(target)


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Disk]:
    """A function that makes the disk of a machine that was just started."""
    for name in ("open", "pwritev", "pwrite", "ftruncate", "fdatasync", "fsync", "unlink"):
        monkeypatch.setattr(os, name, getattr(os, name))  # put back afterwards

    def plug() -> Disk:
        disk = Disk(tmp_path / "0", tmp_path / "platter", random.Random(1))
        disk.install()
        return disk

    (tmp_path / "0").mkdir()
    return plug


def found(folder: Path) -> list[str]:
    """Return what the spool holds, for a gateway that starts now."""
    return names(everything(folder, appender(folder).end))


def test_what_was_synced_is_there(tmp_path: Path, plugged: Callable[[], Disk]) -> None:
    """A power cut takes nothing of what a write returned from."""
    disk = plugged()
    spool = appender(tmp_path / "0")
    spool.write([draft("a")])
    spool.write([draft("b"), draft("c")])
    disk.cut()
    assert found(tmp_path / "0") == ["a", "b", "c"]


@pytest.mark.parametrize(("target", "left"), [("os.fdatasync", []), ("gateway.spool.appender._sync_folder", [])])
def test_what_was_not_synced_is_gone(
    tmp_path: Path, plugged: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch, target: str, left: list[str]
) -> None:
    """Without a sync, of the file or of the folder, nothing is there after a power cut."""
    disk = plugged()
    owner, last = find(target)
    monkeypatch.setattr(owner, last, getattr(owner, last))  # put back afterwards
    replace(target, lambda _: lambda *_: None)
    spool = appender(tmp_path / "0")
    spool.write([draft("a")])
    disk.cut()
    assert found(tmp_path / "0") == left


def test_a_later_power_cut(tmp_path: Path, plugged: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process wrote and did not sync is there at the next start, and may be gone after that."""
    disk = plugged()
    spool = appender(tmp_path / "0")
    spool.write([draft("a")])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _: None)
        spool.write([draft("b")])
    del disk  # the process is killed
    disk = plugged()
    (path,) = (tmp_path / "0").glob("*.segment")
    before = path.stat().st_size
    disk.cut()
    assert path.stat().st_size < before
    assert found(tmp_path / "0") == ["a"]


def test_a_deletion_that_was_not_synced(tmp_path: Path, plugged: Callable[[], Disk]) -> None:
    """A deleted segment may be back after a power cut, with what was synced of it; once the folder is synced not."""
    disk = plugged()
    spool = Appender(tmp_path / "0", 1, lambda _: None)
    spool.write([draft("a")])
    spool.write([draft("b")])
    first, second = (tmp_path / "0" / f"{each:020d}.segment" for each in segments_in(tmp_path / "0"))
    first.unlink()
    spool.write([draft("c")])  # opens a segment, and syncs the folder
    second.unlink()
    disk.cut()
    assert not first.exists()
    assert found(tmp_path / "0") == ["b", "c"]


def test_sqlite_syncs_each_transaction(tmp_path: Path) -> None:
    """What `Disk` cannot look at and has to believe: a commit of the cursors returns when it is on the disk."""
    state = State(tmp_path / "state.sqlite3", 1000)
    try:
        (told,) = asyncio.run(state.run(lambda: state._db.execute("PRAGMA synchronous").fetchone()))
    finally:
        state.close()
    assert told == 2  # FULL: in WAL mode the log is synced with each transaction


def test_missing_doubled_and_strange_documents() -> None:
    """Of what was acknowledged each good event is there once; nothing else is."""
    clients = [Client("one", sent=10, acknowledged=6)]
    place = [("one", number) for number in (0, 1, 1, 3, 4, 9)] + [("one", 7), ("one", 10), ("two", 0)]
    found = comparison.documents(clients, place)
    assert (found.indexed, found.missing, found.doubled, found.strange) == (6, 2, 1, 3)
    assert found.examples == [
        "strange one-10", "strange two-0", "doubled one-1", "missing one-2", "missing one-5", "strange one-7",
    ]  # fmt: skip


def test_missing_dead_letters() -> None:
    """Of what was acknowledged each bad event is a dead letter, once or more often; good ones are not."""
    clients = [Client("one", sent=80, acknowledged=60)]
    found = comparison.letters(clients, [("one", 7), ("one", 7), ("one", 76), ("one", 8)])
    assert (found.indexed, found.missing, found.doubled, found.strange) == (3, 2, 0, 1)
    assert found.examples == ["strange one-8", "missing one-30", "missing one-53"]


def test_the_document_tells_each_sabotage() -> None:
    """`docs/failures.md` lists the mistakes that are tried; it has no commands but those of `make`."""
    text = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    assert [name for name in SABOTAGES if f"\n| {name} | " not in text] == []
