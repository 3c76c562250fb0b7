"""No room for dead letters: the sink stops and says so, and goes on when there is room again."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.sinks.elasticsearch import room
from gateway.spool.shelf import NO_ROOM, ROW_BYTES
from tests.elasticsearch_node.client import EsClient
from tests.sinks.elasticsearch.odd_server import OddServer
from tests.sinks.elasticsearch.running import Doc, Rig, docs, running, until

pytestmark = pytest.mark.anyio
INDEX = "ml-metrics-2024.01.15"
POISON = b'{"model_name": {"a": 1}, "pad": "%s"}' % (b"x" * 1000)
REFUSED = {"status": 400, "error": {"type": "document_parsing_exception", "reason": "wrong"}}
CLOSED = {"status": 400, "error": {"type": "index_closed_exception", "reason": "closed"}}


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is looked for often, so that no test waits for it."""
    monkeypatch.setattr(room, "CHECK_SECS", 0.05)


async def make_room(rig: Rig, max_bytes: int) -> None:
    """Let dead letters have this many bytes."""
    rig.state._max_letter_bytes = max_bytes


async def test_stops_and_goes_on(node: EsClient, tmp_path: Path) -> None:
    """At dead_letters.max_bytes the sink stops with nothing lost; with more room it goes on by itself."""
    poison = [Doc(f"poison{number}", POISON, f"{node.prefix}{INDEX}") for number in range(5)]
    with capture_logs() as logs:
        async with running(tmp_path, node.url, prefix=node.prefix, max_letter_bytes=2500) as rig:
            await rig.append([*docs(5, node.prefix), *poison])
            await rig.append(docs(5, node.prefix, start=5))
            await until(lambda: rig.status["state"] == "stopped")
            assert rig.status["last_error"] == NO_ROOM
            assert rig.books["waiting"] == 15
            assert await rig.letters() == []
            await make_room(rig, 100_000)
            books = await rig.settled()
            letters = await rig.letters()
            assert rig.status["state"] == "ok"
    assert (books["indexed"] + books["duplicates"], books["dead_letters"]) == (10, 5)
    assert [each["data"] for each in letters] == [POISON] * 5
    assert [each["event"] for each in logs if each["log_level"] == "error"] == [NO_ROOM]


async def test_dropped_letters_make_room(odd: OddServer, tmp_path: Path) -> None:
    """A sink that was stopped by its own dead letters goes on by itself as soon as some are dropped."""
    odd.item = lambda name, _: REFUSED if name.startswith("poison") else None
    async with running(tmp_path, odd.url, max_letter_bytes=3000, flush_after_secs=0.01) as rig:
        for number in range(3):
            await rig.append([Doc(f"poison{number}", POISON)])
        await rig.append(docs(5))
        await until(lambda: rig.status["state"] == "stopped")
        await until(lambda: rig.state.letters == 2)
        ids = [each["id"] for each in await rig.letters()]
        await rig.state.run(lambda: rig.state.drop(ids))
        books = await rig.settled()
        assert (rig.status["state"], rig.state.letters) == ("ok", 1)
    assert (books["indexed"], books["dead_letters"]) == (5, 3)


async def test_restarted_without_room(node: EsClient, tmp_path: Path) -> None:
    """A sink that was stopped for want of room loses nothing by a restart."""
    poison = [Doc(f"poison{number}", POISON, f"{node.prefix}{INDEX}") for number in range(3)]
    async with running(tmp_path, node.url, prefix=node.prefix, max_letter_bytes=1500) as rig:
        await rig.append([*docs(5, node.prefix), *poison])
        await until(lambda: rig.status["state"] == "stopped")
        await rig.restart()
        await until(lambda: rig.status["state"] == "stopped")
        await make_room(rig, 100_000)
        books = await rig.settled()
        assert [each["data"] for each in await rig.letters()] == [POISON] * 3
    assert (books["indexed"] + books["duplicates"], books["dead_letters"]) == (5, 3)
    assert node.count() == 5


async def test_many_at_once_do_not_overrun(odd: OddServer, tmp_path: Path) -> None:
    """However many documents are refused at the same time, what is kept stays within the room, with all bytes."""
    odd.item = lambda _name, _source: REFUSED
    async with running(tmp_path, odd.url, max_letter_bytes=5600, max_batch_events=3, flush_after_secs=0.01) as rig:
        for start in range(0, 40, 4):
            await rig.append([Doc(str(start + each), POISON) for each in range(4)])
        await until(lambda: rig.status["state"] == "stopped")
        await asyncio.sleep(0.5)
        assert 0 < rig.state.letter_bytes <= 5600
        await make_room(rig, 10**6)
        assert (await rig.settled())["dead_letters"] == 40
        assert [each["data"] for each in await rig.letters()] == [POISON] * 40


async def test_parked_documents_take_room_and_give_it_back(odd: OddServer, tmp_path: Path) -> None:
    """Parked documents count as well; when their index opens the sink goes on without anybody's help."""
    shut = True

    def item(name: str, _: bytes) -> dict[str, Any] | None:
        return CLOSED if shut and name.startswith("shut") else None

    odd.item = item
    async with running(tmp_path, odd.url, max_letter_bytes=3000, flush_after_secs=0.01) as rig:
        for number in range(6):
            await rig.append([Doc(f"shut{number}", POISON)])
        await until(lambda: rig.status["state"] == "stopped")
        await until(lambda: rig.status["parked"] == 2)
        shut = False
        books = await rig.settled()
    assert (books["indexed"], books["dead_letters"]) == (6, 0)
    assert len(odd.documents) == 6


async def test_an_index_that_opens_needs_no_room(odd: OddServer, tmp_path: Path) -> None:
    """Documents of one record for which there is no room go on trying, and are taken when their index opens."""
    shut = True
    odd.item = lambda _name, _source: CLOSED if shut else None
    async with running(tmp_path, odd.url, max_letter_bytes=3000) as rig:
        await rig.append([Doc(f"shut{number}", POISON) for number in range(6)])
        await until(lambda: rig.status["state"] == "stopped")
        shut = False
        books = await rig.settled()
        assert rig.status["state"] == "ok"
    assert (books["indexed"], books["dead_letters"]) == (6, 0)
    assert len(odd.documents) == 6


async def test_expired_letters_fit_where_they_were_parked(odd: OddServer, tmp_path: Path) -> None:
    """A parked document that becomes a dead letter keeps its bytes, also when there is no more room than its own."""
    odd.item = lambda name, _: CLOSED if name.startswith("shut") else None
    async with running(tmp_path, odd.url, max_letter_bytes=len(POISON) + ROW_BYTES, index_retry_secs=0.2) as rig:
        await rig.append([Doc("shut", POISON), *docs(1)])
        await until(lambda: rig.books["dead_letters"] == 1)
        [letter] = await rig.letters()
    assert (letter["reason"], letter["data"]) == ("sink", POISON)
