"""Answers that are not as they should be: nothing is lost, nothing doubled, the rest goes on."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.sinks.elasticsearch.odd_server import PRODUCT, Oddity, OddServer, body, page, status
from tests.sinks.elasticsearch.running import docs, running, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick")]
COUNT = 20


async def taken(odd: OddServer, count: int) -> None:
    """Wait until the server has this many documents."""
    await until(lambda: len(odd.documents) == count)


def without_last_item(data: bytes) -> bytes:
    """An answer with one item less than was sent."""
    answer = orjson.loads(data)
    return orjson.dumps({**answer, "items": answer["items"][:-1]})


ODDITIES = {
    "reset before the answer": Oddity(lambda reply: replace(reply, sent=0)),
    "reset in mid-answer": Oddity(lambda reply: replace(reply, sent=len(reply.body) // 2)),
    "half a body": Oddity(lambda reply: replace(reply, body=reply.body[: len(reply.body) // 2])),
    "after the timeout": Oddity(lambda reply: replace(reply, delay=0.6)),
    "not JSON": body(b"<html>welcome</html>"),
    "not UTF-8": body(b"\xff\xfe\x00"),
    "empty": body(b""),
    "null": body(b"null"),
    "a list": body(b"[]"),
    "a text": body(b'"yes"'),
    "another page": body(b"<html>welcome</html>", "text/html"),
    "an image": body(b"GIF89a", "image/gif"),
    "nested without end": body(b"[" * 100_000),
    "no items": body(b'{"errors":false,"items":[]}'),
    "items that are none": body(orjson.dumps({"errors": True, "items": [1] * COUNT})),
    "items without an answer": body(orjson.dumps({"errors": True, "items": [{}] * COUNT})),
    "items without a status": body(orjson.dumps({"errors": True, "items": [{"create": {}}] * COUNT})),
    "too few items": Oddity(lambda reply: replace(reply, body=without_last_item(reply.body))),
    "redirected": Oddity(lambda reply: replace(reply, status=302, headers={"location": "http://127.0.0.1:1/"})),
    "not what it says": Oddity(lambda reply: replace(reply, headers={"content-encoding": "gzip"})),
    **{f"status {number}": status(number) for number in (401, 403, 404, 408, 409, 418, 429, 500, 502, 503, 504)},
    "a proxy's 400": page(400),
    "a proxy's 502": page(502),
}


@pytest.mark.parametrize("name", ODDITIES)
async def test_an_odd_answer_costs_nothing(name: str, odd: OddServer, tmp_path: Path) -> None:
    """After two odd answers every document is there once, and the books say so."""
    oddity = ODDITIES[name]
    odd.odd += [oddity, oddity]
    async with running(tmp_path, odd.url, request_timeout_secs=0.3) as rig:
        await rig.append(docs(COUNT))
        await until(lambda: not odd.odd)
        books = await rig.settled()
        assert len(odd.documents) == COUNT
        assert books["indexed"] == COUNT  # also those that were there when they were sent again
        assert await rig.letters() == []
        assert rig.status["state"] == "ok"
        assert rig.status["last_error"]
        await rig.append(docs(COUNT, start=COUNT))
        assert (await rig.settled())["indexed"] == 2 * COUNT
        assert len(odd.documents) == 2 * COUNT


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (401, "check elasticsearch.api_key, or username and password"),
        (403, "the key lacks a privilege, or the cluster is read-only: see docs/elasticsearch.md"),
    ],
)
async def test_a_refused_key_is_told_with_advice(number: int, advice: str, odd: OddServer, tmp_path: Path) -> None:
    """While a key is refused the events are kept, and the status says what to do."""
    odd.always = status(number, "you may not")
    async with running(tmp_path, odd.url, api_key="c2VjcmV0LWtleQ==") as rig:
        await rig.append(docs(COUNT))
        await until(lambda: len(odd.bulks) > 3)
        assert rig.books["waiting"] == COUNT
        assert rig.status["state"] == "retrying"
        assert rig.status["last_error"] == (
            f"Elasticsearch answered {number} to POST /_bulk: odd_{number}: you may not ({advice})."
        )
        odd.always = None
        assert (await rig.settled())["indexed"] == COUNT


@pytest.mark.parametrize("manage_templates", [True, False])
async def test_a_foreign_server_is_not_believed(manage_templates: bool, odd: OddServer, tmp_path: Path) -> None:
    """What does not call itself Elasticsearch settles no event, whatever it answers."""
    odd.product = {}
    async with running(tmp_path, odd.url, manage_templates=manage_templates) as rig:
        await rig.append(docs(COUNT))
        await until(lambda: len(odd.requests) > 2)
        assert rig.books["waiting"] == COUNT
        assert rig.status["last_error"].endswith("What answers at elasticsearch.urls is not Elasticsearch.")
        odd.product = PRODUCT
        books = await rig.settled()
        assert books["indexed"] + books["duplicates"] == COUNT


async def test_a_busy_document_does_not_repeat_its_neighbours(odd: OddServer, tmp_path: Path) -> None:
    """A single 429 is sent again alone, until it is taken."""
    busy = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}
    [slow, *_] = documents = docs(COUNT)
    odd.item = lambda name, _: busy if name == slow.id and len(odd.bulks) < 5 else None
    async with running(tmp_path, odd.url) as rig:
        await rig.append(documents)
        books = await rig.settled()
        assert books["indexed"] == COUNT
        assert books["duplicates"] == 0
        assert [each.body.count(b'"create"') for each in odd.bulks] == [COUNT, 1, 1, 1, 1]


async def test_a_busy_document_holds_back_no_other(odd: OddServer, tmp_path: Path) -> None:
    """While one document waits, later records are indexed, and the cursor stays before its record."""
    busy = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}
    [slow, *_] = docs(COUNT)
    waits = True
    odd.item = lambda name, _: busy if waits and name == slow.id else None
    async with running(tmp_path, odd.url, max_in_flight=2) as rig:
        for start in range(0, 10 * COUNT, COUNT):
            await rig.append(docs(COUNT, start=start))
            await taken(odd, start + COUNT - 1)
        assert rig.books["waiting"] == 10 * COUNT
        assert rig.sink.cursor.indexed == 0
        waits = False
        assert (await rig.settled())["indexed"] == 10 * COUNT
        assert len(odd.documents) == 10 * COUNT


async def test_a_slow_bulk_is_overtaken_without_harm(odd: OddServer, tmp_path: Path) -> None:
    """A bulk that ends last keeps the cursor before its record, though those behind it are done."""
    odd.odd.append(Oddity(lambda reply: replace(reply, delay=0.5)))
    async with running(tmp_path, odd.url, flush_after_secs=0.01) as rig:
        for number in range(5):
            await rig.append(docs(COUNT, start=number * COUNT))
            await taken(odd, (number + 1) * COUNT)
        assert len(odd.documents) == 5 * COUNT
        assert rig.books["waiting"] == 5 * COUNT
        assert (await rig.settled())["indexed"] == 5 * COUNT
