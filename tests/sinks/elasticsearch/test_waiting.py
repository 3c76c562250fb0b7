"""How a server in trouble is treated: waits grow, one request at a time probes, Retry-After is honoured."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.sinks.elasticsearch import backoff, sender, upkeep
from tests.sinks.elasticsearch.odd_server import Oddity, OddServer, Reply, page, status
from tests.sinks.elasticsearch.running import Rig, docs, running, until

pytestmark = pytest.mark.anyio


async def in_flight(rig: Rig, count: int) -> None:
    """Wait until this many bulks are on their way."""
    await until(lambda: rig.status["in_flight"] == count)


@pytest.mark.parametrize("number", [429, 503])
async def test_waits_grow(number: int, odd: OddServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of several failures in a row is followed by a longer wait than the one before, within the jitter."""
    monkeypatch.setattr(backoff, "FIRST_SECS", 0.05)
    odd.odd += [status(number)] * 5
    async with running(tmp_path, odd.url) as rig:
        await rig.append(docs(5))
        assert (await rig.settled())["indexed"] == 5
    for tries, gap in enumerate(odd.gaps()):
        assert 0.05 * 2**tries / 2 <= gap <= 0.05 * 2**tries + 0.2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("dated", [False, True])
async def test_retry_after_is_honoured(dated: bool, odd: OddServer, tmp_path: Path) -> None:
    """No request comes before the time that Elasticsearch, or what stands before it, asked for."""
    # A date has whole seconds: the wait may be up to one shorter.
    asked = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True) if dated else "1"
    odd.odd.append(status(429, retry_after=asked))
    async with running(tmp_path, odd.url) as rig:
        await rig.append(docs(5))
        await rig.settled()
    assert odd.gaps()[0] >= (0.9 if dated else 1.0)


@pytest.mark.usefixtures("quick")
async def test_one_request_at_a_time_probes(odd: OddServer, tmp_path: Path) -> None:
    """While whole requests fail they do not come together, and when it is over all go on."""
    odd.always = Oddity(lambda _: Reply(b"", 503, delay=0.1), written=False)  # long enough to overlap
    async with running(tmp_path, odd.url, max_in_flight=4, flush_after_secs=0.01, manage_templates=False) as rig:
        for number in range(6):
            await rig.append(docs(5, start=5 * number))
            await in_flight(rig, min(4, number + 1))
        seen = len(odd.bulks)
        await until(lambda: len(odd.bulks) > seen + 8)  # those that were on their way together are over
        odd.busiest = 0
        seen = len(odd.bulks)
        await until(lambda: len(odd.bulks) > seen + 8)
        assert odd.busiest == 1
        odd.always = None
        assert (await rig.settled())["indexed"] == 30


async def test_a_dead_server_costs_no_cpu(tmp_path: Path) -> None:
    """While nothing answers, the sink sleeps: a second of it takes less than a tenth of a second of CPU."""
    async with running(tmp_path, "http://127.0.0.1:1") as rig:
        for number in range(20):
            await rig.append(docs(50, start=50 * number))
        await until(lambda: rig.status["state"] == "retrying")
        await asyncio.sleep(0.5)
        used = time.process_time()
        await asyncio.sleep(1)
        assert time.process_time() - used < 0.1
        assert rig.books["waiting"] == 1000
        assert rig.status["last_error"].startswith("Elasticsearch at 127.0.0.1:1 cannot be reached: ")


@pytest.mark.usefixtures("quick")
async def test_trouble_is_told_without_an_event(
    odd: OddServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server in trouble at the start, or later while nothing is sent, is in status and log, and so is its end."""
    monkeypatch.setattr(sender, "CHECK_SECS", 0.05)
    monkeypatch.setattr(upkeep, "CHECK_SECS", 0)
    with capture_logs() as logs:
        odd.templates_answer = Reply(b"", 503)
        async with running(tmp_path, odd.url) as rig:
            await until(lambda: rig.status["state"] == "retrying")
            assert "answered 503" in rig.status["last_error"]
            odd.templates_answer = None
            await until(lambda: rig.status["state"] == "ok")
            odd.templates_answer = Reply(b"", 503)
            await until(lambda: rig.status["state"] == "retrying")
            await rig.append(docs(5))
            odd.templates_answer = None
            assert (await rig.settled())["indexed"] == 5
            await until(lambda: rig.status["state"] == "ok")
    said = [each["event"].partition(":")[0] for each in logs]
    not_in_place = "The index templates are not in place (elasticsearch.manage_templates)"
    assert said == [not_in_place, "The sink works again."] * 2


async def test_a_dead_server_holds_up_no_stop(tmp_path: Path) -> None:
    """With nothing to send, a gateway whose server is away stops at once."""
    async with running(tmp_path, "http://127.0.0.1:1") as rig:
        await until(lambda: rig.status["state"] == "retrying")
        began = time.monotonic()
        await rig.sink.drain(10)
        assert time.monotonic() - began < 2


@pytest.mark.usefixtures("quick")
async def test_too_large_a_bulk_is_halved(odd: OddServer, tmp_path: Path) -> None:
    """A bulk that is too large for the server is sent in smaller ones, and so are those after it."""
    odd.max_bytes = 100_000
    async with running(tmp_path, odd.url) as rig:
        await rig.append(docs(100, pad=10_000))
        assert (await rig.settled())["indexed"] == 100
        assert rig.books["duplicates"] == 0
        assert len(odd.documents) == 100
        seen = len(odd.bulks)
        await rig.append(docs(100, start=100, pad=10_000))
        assert (await rig.settled())["indexed"] == 200
        assert max(len(each.body) for each in odd.bulks[seen:]) <= 100_000


@pytest.mark.usefixtures("quick")
async def test_too_large_a_document_is_a_dead_letter(odd: OddServer, tmp_path: Path) -> None:
    """A single document that is too large for the server becomes a dead letter; its neighbours are indexed once."""
    odd.max_bytes = 70_000
    [large] = docs(1, start=5, pad=80_000)
    async with running(tmp_path, odd.url) as rig:
        await rig.append([*docs(5), large, *docs(5, start=6)])
        books = await rig.settled()
        [letter] = await rig.letters()
    assert (books["indexed"], books["duplicates"], books["dead_letters"]) == (10, 0, 1)
    assert (letter["reason"], letter["data"]) == ("mapping", large.source)
    assert "413" in letter["message"]


@pytest.mark.usefixtures("quick")
async def test_a_proxy_that_finds_everything_too_large(odd: OddServer, tmp_path: Path) -> None:
    """A 413 for small documents says nothing of them: none becomes a dead letter, and all are there in the end."""
    odd.always = page(413)
    async with running(tmp_path, odd.url) as rig:
        await rig.append(docs(100, pad=2000))
        await until(lambda: len(odd.bulks) > 20)
        assert (rig.status["state"], rig.status["parked"], rig.books["waiting"]) == ("retrying", 0, 100)
        odd.always = None
        books = await rig.settled()
    assert (books["indexed"], books["dead_letters"]) == (100, 0)


@pytest.mark.usefixtures("quick")
async def test_a_body_refused_for_one_document_is_taken_apart(odd: OddServer, tmp_path: Path) -> None:
    """When Elasticsearch refuses a whole body for one document, that one is parked and its neighbours are indexed."""
    documents = docs(16)
    odd.refused = documents[7].lines()
    async with running(tmp_path, odd.url, index_retry_secs=1) as rig:
        await rig.append(documents)
        await until(lambda: rig.status["parked"] == 1)
        assert rig.books["indexed"] == 15
        await until(lambda: rig.status["parked"] == 0)
        books, [letter] = rig.books, await rig.letters()
    assert (books["indexed"], books["duplicates"], books["dead_letters"]) == (15, 0, 1)
    assert (letter["reason"], letter["data"]) == ("sink", documents[7].source)


@pytest.mark.usefixtures("quick")
async def test_a_server_that_refuses_every_body_parks_nothing(odd: OddServer, tmp_path: Path) -> None:
    """When no body is taken at all it is not the documents: they stay in the spool and are tried for ever."""
    odd.always = status(400, "media type not supported")
    async with running(tmp_path, odd.url, index_retry_secs=0.1) as rig:
        await rig.append(docs(4))
        await until(lambda: len(odd.bulks) > 20)
        assert (rig.status["state"], rig.status["parked"], rig.books["waiting"]) == ("retrying", 0, 4)
        odd.always = None
        assert (await rig.settled())["indexed"] == 4


@pytest.mark.usefixtures("quick")
async def test_a_proxys_400_is_no_word_of_elasticsearch(odd: OddServer, tmp_path: Path) -> None:
    """A 400 that is not in Elasticsearch's form blames no document: the bulk is sent again as it was."""
    odd.odd += [page(400)] * 5
    async with running(tmp_path, odd.url) as rig:
        await rig.append(docs(8))
        assert (await rig.settled())["indexed"] == 8
    assert len({each.body for each in odd.bulks}) == 1
