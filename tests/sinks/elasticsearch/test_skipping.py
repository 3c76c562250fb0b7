"""What a sink that is not required skips when the spool is full, and what becomes of what was on its way."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.settings import Spool as SpoolSettings
from gateway.spool.reader import Item, Reader
from gateway.spool.segment import Position, path_of, segments_in
from tests.sinks.elasticsearch.odd_server import Oddity, OddServer, Reply
from tests.sinks.elasticsearch.running import Doc, Rig, docs, running, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick")]
MIB = 1 << 20
POISON = b'{"model_name": {"a": 1}, "pad": "%s"}' % (b"x" * 1000)
REFUSED = {"status": 400, "error": {"type": "document_parsing_exception", "reason": "wrong"}}
CLOSED = {"status": 400, "error": {"type": "index_closed_exception", "reason": "closed"}}
BUSY = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}
NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool of 4 MiB in eight files."""
    monkeypatch.setattr(Rig, "limits", SpoolSettings(max_bytes=4 * MIB, min_free_bytes=0))


async def fill(rig: Rig, mib: float, start: int = 1000) -> int:
    """Put so many MiB of documents into the spool; return how many that were."""
    count = int(mib * 1000)
    for first in range(start, start + count, 50):
        await rig.append(docs(50, start=first, pad=900))
        await asyncio.sleep(0.005)  # as other senders would
    return count


async def test_only_when_the_spool_is_full_and_only_as_much_as_it_takes(tmp_path: Path) -> None:
    """With room nothing is skipped; then file by file, the oldest first; the log says so once."""
    with capture_logs() as logs:
        async with running(tmp_path, NOBODY, required=False) as rig:
            count = await fill(rig, 3)
            assert rig.books["waiting"] == count
            count += await fill(rig, 5, start=10_000)
            await until(lambda: rig.spool.place_to_skip("elasticsearch") is None)
            assert 2.5 * MIB < rig.books["waiting"] * 1050 < 4 * MIB
            assert rig.books["skipped"] + rig.books["waiting"] == count
            assert sorted(rig.status)[-3:] == ["required", "state", "troubled_indices"]
            assert rig.status["last_skip"] is not None
    skips = [each for each in logs if "it skips events" in each["event"]]
    assert {(each["log_level"], each["sink"]) for each in skips} == {("error", "elasticsearch")}
    assert skips[-1]["skipped"] > skips[0]["skipped"] > 0


async def test_after_a_restart_it_stays_skipped(odd: OddServer, tmp_path: Path) -> None:
    """What was skipped is in the cursor on disk: what is left is sent, and nothing else."""
    async with running(tmp_path, NOBODY, required=False) as rig:
        count = await fill(rig, 6)
        await until(lambda: rig.spool.place_to_skip("elasticsearch") is None)
        skipped = rig.books["skipped"]
    async with running(tmp_path, odd.url, required=False, max_batch_bytes=500_000) as rig:
        books = await rig.settled()
    assert (books["skipped"], books["indexed"], books["damaged"]) == (skipped, count - skipped, 0)
    assert len(odd.documents) == count - skipped


async def test_what_hangs_on_its_way_is_given_up(odd: OddServer, tmp_path: Path) -> None:
    """Bulks that hold nothing but skipped documents end; their slots are free for those behind."""
    hang = True
    odd.always = Oddity(lambda reply: Reply(reply.body, delay=60 if hang else 0), written=False)
    async with running(tmp_path, odd.url, required=False, max_in_flight=2, max_batch_bytes=100_000) as rig:
        count = await fill(rig, 6)
        await until(lambda: rig.books["skipped"] > 0)
        hang = False
        odd.always = None
        count += await fill(rig, 4, start=20_000)
        books = await rig.settled()
    assert books["skipped"] + books["indexed"] + books["duplicates"] == count
    assert len(odd.documents) == books["indexed"]


async def test_a_document_that_never_gets_a_verdict(odd: OddServer, tmp_path: Path) -> None:
    """It is skipped alone: its neighbours were taken, and are counted as that."""
    [stuck] = docs(1)
    odd.item = lambda name, _: BUSY if name == stuck.id else None
    async with running(tmp_path, odd.url, required=False, max_batch_events=100) as rig:
        await rig.append([stuck, *docs(5, start=1)])
        count = await fill(rig, 6)
        books = await rig.settled()
        assert rig.status["in_flight"] == 0
    assert (books["skipped"], books["indexed"]) == (1, count + 5)


async def test_dead_letters_and_parked_documents_are_kept(odd: OddServer, tmp_path: Path) -> None:
    """What had its verdict before the skip keeps it: letters are kept, parked documents stay parked and go later."""
    shut = True
    [stuck] = docs(1)

    def item(name: str, _: bytes) -> dict[str, Any] | None:
        if name.startswith("shut"):
            return CLOSED if shut else None
        return {stuck.id: BUSY, "poison": REFUSED}.get(name)

    odd.item = item
    async with running(tmp_path, odd.url, required=False, max_batch_bytes=500_000) as rig:
        await rig.append([stuck, Doc("poison", POISON), *(Doc(f"shut{each}", POISON) for each in range(3))])
        count = await fill(rig, 6)
        await until(lambda: rig.books["skipped"] == 1)
        assert rig.status["parked"] == 3
        assert rig.books["dead_letters"] == 1
        shut = False
        books = await rig.settled()
        assert rig.sink._room.reserved == 0
    assert (books["skipped"], books["dead_letters"], books["indexed"]) == (1, 1, count + 3)


async def test_without_room_for_dead_letters(odd: OddServer, tmp_path: Path) -> None:
    """A sink that stopped for want of room goes on behind the documents that it had no room for."""
    odd.item = lambda name, _: REFUSED if name.startswith("poison") else None
    settings: dict[str, Any] = {"required": False, "max_in_flight": 1, "max_batch_events": 10}
    async with running(tmp_path, odd.url, max_letter_bytes=0, **settings) as rig:
        await rig.append([Doc(f"poison{each}", POISON) for each in range(20)])
        await until(lambda: rig.status["state"] == "stopped")
        count = await fill(rig, 6)
        books = await rig.settled()
        assert rig.status["state"] == "ok"
        assert rig.sink._room.reserved == 0
    assert (books["skipped"] - 20) + books["indexed"] == count
    assert books["indexed"] > count / 2


async def test_damage_in_what_is_skipped(tmp_path: Path) -> None:
    """Events that cannot be read any more are damaged or skipped: the books balance to the last event."""
    async with running(tmp_path, NOBODY, required=False) as rig:
        await rig.append(docs(3))
        count = 3 + await fill(rig, 3)
        first, second, *_ = segments_in(rig.spool.folder)
        await rig.stop()
        for segment in (first, second):
            path = path_of(rig.spool.folder, segment)
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
        await rig.start()
        count += await fill(rig, 4, start=20_000)
        await until(lambda: rig.spool.place_to_skip("elasticsearch") is None)
        books = rig.books
    assert books["skipped"] + books["damaged"] + books["waiting"] == count


async def test_skipped_while_it_reads(odd: OddServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader whose file goes away comes back with what lies behind: none of that is lost."""
    real, skipped = Reader.read, threading.Event()

    def read(self: Reader, end: Position, max_bytes: int) -> list[Item]:
        first = min(segments_in(self.folder), default=0)
        if threading.current_thread() is not threading.main_thread() and max_bytes > 1 and not skipped.is_set():
            while path_of(self.folder, first).exists():
                time.sleep(0.01)
            skipped.set()
            end = rig.spool.end  # as if it had been behind when it began
        return real(self, end, max_bytes)

    async with running(tmp_path, odd.url, required=False, max_batch_bytes=500_000) as rig:
        monkeypatch.setattr(Reader, "read", read)
        count = 0
        while not skipped.is_set():
            count += await fill(rig, 0.05, start=1000 + count)
        books = await rig.settled()
    assert (books["skipped"] + books["indexed"], books["damaged"]) == (count, 0)
    assert len(odd.documents) == books["indexed"]


async def test_a_required_sink_skips_nothing(tmp_path: Path) -> None:
    """By default senders wait."""
    async with running(tmp_path, NOBODY) as rig:
        with pytest.raises(Exception, match="it waits for elasticsearch"):
            await fill(rig, 6)
        await asyncio.sleep(0.3)
        assert rig.books["skipped"] == 0
        assert (rig.status["required"], rig.status["last_skip"]) == (True, None)
