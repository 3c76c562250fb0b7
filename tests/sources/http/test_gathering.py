"""Single events that arrive together share a block; each sender is told of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.errors import SpoolFull
from tests.sources.http.serving import connected, post, serving
from tests.sources.intake import FakeIntake, real_intake

SENDERS = 30
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_each_of_many_senders_is_told_what_became_of_its_own_event(tmp_path: Path) -> None:
    async def send(number: int) -> tuple[int, int, str]:
        good = number % 3 > 0
        body = b'{"model_name":"m","user_id":"%d","inference_time_ms":%s}' % (number, b"5" if good else b'"x"')
        async with connected(server.port) as client:
            peer = client.writer.get_extra_info("sockname")
            answer = await client.post(body)
        said = answer.json
        assert (said["accepted"], said["rejected"]) == ((1, 0) if good else (0, 1))
        assert [(each["index"], each["path"]) for each in said["errors"]] == (
            [] if good else [(0, "$.inference_time_ms")]
        )
        return number, answer.status, f"{peer[0]}:{peer[1]}"

    async with real_intake(tmp_path) as intake, serving(intake.door) as server:
        told = await asyncio.gather(*(send(number) for number in range(SENDERS)))
        documents, letters = intake.stored()
    assert all(status == (200 if number % 3 else 400) for number, status, _ in told)
    assert sorted(int(each.document["user_id"]) for each in documents) == [n for n in range(SENDERS) if n % 3]
    # Who sent a refused event is kept with it, whoever else was in its block.
    assert {(letter.peer, letter.data) for letter in letters} == {
        (peer, b'{"model_name":"m","user_id":"%d","inference_time_ms":"x"}' % number)
        for number, _, peer in told
        if number % 3 == 0
    }


async def test_what_waits_together_goes_as_one_block_of_one_tenant_and_kind() -> None:
    intake = FakeIntake()
    async with serving(intake) as server:
        intake.open.clear()
        calls = [
            asyncio.create_task(post(server, b'{"request_id":"%d"}\n' % number, path, **headers))
            for number in range(3)
            for path, headers in (
                ("/v1/events", {}),
                ("/v1/events", {"x_scope_orgid": "blue"}),
                ("/v1/labels", {}),
            )
        ]
        await asyncio.sleep(0.2)
        intake.open.set()
        assert [answer.status for answer in await asyncio.gather(*calls)] == [200] * 9
    # At most the first of each goes ahead; those that came meanwhile follow together.
    taken: dict[tuple[str | None, str | None], list[int]] = {}
    for block in intake.blocks:
        taken.setdefault((block.tenant, block.kind), []).append(len(block.lines))
    assert {whose: sum(counts) for whose, counts in taken.items()} == {
        (None, None): 3, ("blue", None): 3, (None, "label"): 3,
    }  # fmt: skip
    assert all(len(counts) <= 2 for counts in taken.values())


async def test_what_the_intake_refuses_is_told_to_all_and_the_next_are_taken() -> None:
    intake = FakeIntake()
    async with serving(intake) as server:
        intake.open.clear()
        intake.error = SpoolFull("The spool holds 8 bytes, its limit is 8 (spool.max_bytes).")
        calls = [asyncio.create_task(post(server, b'{"request_id":"%d"}' % number)) for number in range(5)]
        await asyncio.sleep(0.2)
        intake.open.set()
        answers = await asyncio.gather(*calls)
        assert {(each.status, each.headers["retry-after"]) for each in answers} == {(429, "1")}
        intake.error = None
        assert (await post(server, b'{"request_id":"6"}')).status == 200
    assert intake.lines == [b'{"request_id":"6"}']


async def test_a_sender_that_goes_away_costs_its_neighbours_nothing() -> None:
    intake = FakeIntake()
    async with serving(intake) as server:
        intake.open.clear()
        calls = [asyncio.create_task(post(server, b'{"request_id":"%d"}' % number)) for number in range(4)]
        await asyncio.sleep(0.2)
        calls[2].cancel()
        await asyncio.sleep(0.1)
        intake.open.set()
        answers = await asyncio.gather(*calls[:2], *calls[3:])
    assert calls[2].cancelled()
    assert {each.status for each in answers} == {200}
    assert sorted(intake.lines) == [b'{"request_id":"%d"}' % number for number in range(4)]
