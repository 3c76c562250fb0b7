"""HTTP with the real pipeline and spool behind it: an answer tells what is on disk (promises 1, 3 and 7)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.sources.http.serving import post, serving
from tests.sources.intake import real_intake

pytestmark = pytest.mark.anyio


async def test_some_of_each(tmp_path: Path) -> None:
    """What the answer says was accepted is stored, and what it says was refused is a dead letter with its bytes."""
    bad = {1: (b'{"model_name":"a","prediction_confidence":1.7}\r', "$.prediction_confidence", "less_than_equal"),
           3: (b"nonsense", "$", "json_invalid"),
           4: (b'{"model_name":"a","inference_time_ms":NaN}', "$.inference_time_ms", "not_finite"),
           5: (b'{"type":"model_inference","model":"a"}', "$.model_name", "missing")}  # fmt: skip
    lines = [bad[number][0] if number in bad else b'{"model_name":"a","n":%d}' % number for number in range(7)]
    async with real_intake(tmp_path) as real, serving(real.door) as server:
        answer = await post(server, b"\n".join(lines))
        documents, letters = real.stored()
    assert (answer.status, answer.json["accepted"], answer.json["rejected"]) == (207, 3, 4)
    assert [each.document["n"] for each in documents] == [0, 2, 6]
    assert {error["index"]: (error["path"], error["rule"]) for error in answer.json["errors"]} == {
        number: (path, rule) for number, (_, path, rule) in bad.items()
    }
    assert {(each.data, each.path, each.rule) for each in letters} == set(bad.values())
    assert {each.source for each in letters} == {"http"}
    assert answer.json["errors"][0]["value"] == "1.7"
    assert all(len(error["value"]) <= 100 for error in answer.json["errors"])


async def test_all_refused(tmp_path: Path) -> None:
    """A body of which nothing is taken gets 400, and is kept all the same; one that is not JSON too."""
    async with real_intake(tmp_path) as real, serving(real.door) as server:
        for body in (b'{"model_name":""', b'{"foo":1}', b"[1]", b"\xff\xfe"):
            assert (await post(server, body)).status == 400
            assert (await post(server, body, "/")).status == 200
        _, letters = real.stored()
    assert len(letters) == 8


async def test_nothing_to_store(tmp_path: Path) -> None:
    """A body that is turned away, or holds no event, leaves no trace on disk."""
    async with real_intake(tmp_path) as real, serving(real.door, max_body_bytes=1000) as server:
        before = real.records()
        statuses = [
            (await post(server, b"[]")).status,
            (await post(server, b"")).status,
            (await post(server, b"x" * 1001)).status,
            (await post(server, b"{}", content_encoding="br")).status,
            (await post(server, b"{}", content_encoding="gzip")).status,
        ]
        assert real.records() == before
    assert statuses == [200, 400, 413, 415, 400]


async def test_curl_without_line_ends(tmp_path: Path) -> None:
    """Who sends NDJSON with curl -d is told of --data-binary."""
    async with real_intake(tmp_path) as real, serving(real.door) as server:
        body = b'{"model_name":"a"}{"model_name":"b"}'
        answer = await post(server, body, content_type="application/x-www-form-urlencoded")
    assert answer.status == 400
    assert "--data-binary" in answer.json["errors"][0]["hint"]


async def test_long_events(tmp_path: Path) -> None:
    """The limit for a line holds for each event, in NDJSON and in arrays; its neighbours are taken."""
    long = b'{"message":"%b"}' % (b"x" * 2000)
    short = b'{"message":"short"}'
    async with real_intake(tmp_path, max_line_bytes=1000) as real, serving(real.door) as server:
        ndjson = await post(server, b"\n".join([short, long, short]))
        array = await post(server, b"[" + b",\n".join([short, long, short]) + b"]")
        many = await post(server, b"[" + b",".join([short] * 200) + b"]")
        documents, letters = real.stored()
    assert [(each.status, each.json["accepted"]) for each in (ndjson, array, many)] == [(207, 2), (207, 2), (200, 200)]
    assert [each.json["errors"][0]["index"] for each in (ndjson, array)] == [1, 1]
    assert (len(documents), [(each.reason, each.data) for each in letters]) == (204, [("too_large", long)] * 2)


async def test_resend_in_other_clothes(tmp_path: Path) -> None:
    """An event with a request_id has one id, however its batch is wrapped or packed."""
    events = [json.dumps({"model_name": "a", "request_id": "r", "step": step}).encode() for step in range(5)]
    ndjson, array = b"\n".join(events), b"[\n  " + b",\n  ".join(events) + b"\n]\n"
    async with real_intake(tmp_path) as real, serving(real.door) as server:
        await post(server, ndjson)
        await post(server, ndjson.replace(b"\n", b"\r\n") + b"\r\n")
        await post(server, array)
        await post(server, gzip.compress(array), content_encoding="gzip")
        await post(server, b"[" + ndjson.replace(b"\n", b",") + b"]", "/")
        for event in events:
            await post(server, event)
        documents, _ = real.stored()
    assert len(documents) == 30
    assert len({each.id for each in documents}) == 5


async def test_tenant(tmp_path: Path) -> None:
    """Without keys X-Scope-OrgID chooses the tenant; with keys the key does."""
    async with real_intake(tmp_path) as real:
        async with serving(real.door) as server:
            await post(server, b'{"message":"1"}', x_scope_orgid="red")
        async with serving(real.door, api_keys=[{"key": "k", "tenant": "blue"}]) as server:
            await post(server, b'{"message":"2"}', x_scope_orgid="red", authorization="Bearer k")
            assert (await post(server, b'{"message":"3"}', x_scope_orgid="red")).status == 401
        documents, _ = real.stored()
    assert [(each.document["message"], each.document["tenant"]) for each in documents] == [("1", "red"), ("2", "blue")]


async def test_a_full_spool(tmp_path: Path) -> None:
    """When the spool is full the answer is 429 with limit, value and setting, and nothing is taken or counted."""
    body = b"\n".join(b'{"message":"%b"}' % (b"x" * 1000) for _ in range(900))
    async with real_intake(tmp_path, max_bytes=4 << 20) as real, serving(real.door, max_body_bytes=1 << 20) as server:
        answers = [await post(server, body) for _ in range(6)]
        before = (real.records(), dict(real.spool.counts))
        last = await post(server, body, "/")
        assert (real.records(), dict(real.spool.counts)) == before
        documents, _ = real.stored()
    taken = [answer.status for answer in answers].index(429)
    assert taken >= 3
    assert {answer.status for answer in answers[taken:]} == {429, last.status}
    assert len(documents) == 900 * taken
    for text in (str(4 << 20), "spool.max_bytes"):
        assert text in last.json["errors"][0]["message"]
    assert last.headers["retry-after"]


async def test_while_stopping(tmp_path: Path) -> None:
    """Once the spool takes nothing more the answer is 503 with Retry-After."""
    async with real_intake(tmp_path) as real, serving(real.door) as server:
        assert (await post(server, b'{"message":"1"}')).status == 200
        await real.spool.stop()
        answer = await post(server, b'{"message":"2"}')
        assert (answer.status, answer.json["accepted"]) == (503, 0)
        assert answer.headers["retry-after"]


async def test_hostile_bodies(tmp_path: Path) -> None:
    """No body, however odd, is answered by 500, and the next good one is taken."""
    deep = 5000
    bodies = [
        b"[" * deep, b"[" * deep + b"]" * deep, b'{"a":' * deep, b'[{"a":1},' + b"[" * deep + b"]" * deep + b"]",
        b"[" + b"[" * 500 + b"]" * 500 + b"]", b'{"model_name":"a","x":' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"model_name":"a","timestamp":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"model_name":' + b"[" * 900 + b"]" * 900 + b"}", b'{"\\ud800":NaN}', b'{"a":' + b"9" * 10_000 + b"}",
        b"\xef\xbb\xbf" * 3000 + b"{}", bytes(range(256)), b'{"model_name":"a","timestamp":1e308}',
        b'{"model_name":"a","timestamp":"0001-01-01T00:00:00+23:59"}', b'{"type":{},"message":"m"}',
    ]  # fmt: skip
    async with real_intake(tmp_path) as real, serving(real.door) as server:
        statuses = [(await post(server, body)).status for body in bodies]
        good = await post(server, b'{"model_name":"a"}')
    assert set(statuses) <= {200, 207, 400}
    assert good.status == 200
