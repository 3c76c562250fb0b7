"""Requests that are turned away as a whole: 401, 403, 405, 413, 415, 429, 503."""

from __future__ import annotations

import base64
import gzip

import pytest
import zstandard

from gateway.errors import LimitReached, SpoolFull, SpoolUnavailable, Stopping
from gateway.sources.http.server import HttpServer
from tests.sources.http.serving import connected, post, serving
from tests.sources.intake import FakeIntake

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({"content_encoding": "br"}, "br"),
        ({"content_encoding": "gzip, gzip"}, "gzip, gzip"),
        ({"content_type": "multipart/form-data; boundary=x"}, "multipart/form-data"),
        ({"content_type": "Multipart/Mixed"}, "multipart/mixed"),
    ],
)
async def test_415(server: HttpServer, intake: FakeIntake, headers: dict[str, str], names: str) -> None:
    """An unknown encoding and multipart get 415 naming it, also at POST /."""
    for path in ("/v1/events", "/"):
        answer = await post(server, b"{}", path, **headers)
        assert answer.status == 415
        assert names in answer.json["errors"][0]["message"]
    assert intake.blocks == []


BIG = b'{"a":1}\n' * 200


@pytest.mark.parametrize("path", ["/v1/events", "/"])
async def test_413(path: str) -> None:
    """A body over the limit gets 413 naming the setting: announced, streamed, or after decompression."""
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BIG[:800], BIG[800:])) + b"0\r\n\r\n"
    intake = FakeIntake()
    async with serving(intake, max_body_bytes=1000) as server:
        answers = [
            await post(server, BIG, path),
            await post(server, chunked, path, transfer_encoding="chunked"),
            await post(server, gzip.compress(BIG), path, content_encoding="gzip"),
            await post(server, zstandard.compress(BIG), path, content_encoding="zstd"),
        ]
        assert (await post(server, BIG[:1000], path)).status == 200
    assert [answer.status for answer in answers] == [413] * 4
    assert all("1000 bytes (http.max_body_bytes)" in answer.json["errors"][0]["message"] for answer in answers)
    assert len(intake.blocks) == 1


@pytest.mark.parametrize("path", ["/v1/events", "/"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SpoolFull("The spool holds 5 bytes, its limit is 4 (spool.max_bytes)."), 429),
        (LimitReached("A limit (some.limit) is reached."), 429),
        (SpoolUnavailable("The spool cannot be written: No space left on device."), 503),
        (Stopping("The gateway is stopping."), 503),
    ],
)
async def test_try_again(server: HttpServer, intake: FakeIntake, error: Exception, status: int, path: str) -> None:
    """429 and 503 say why and when to come again, also at POST /."""
    intake.error = error
    answer = await post(server, b"{}", path)
    assert answer.status == status
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json["errors"][0]["message"] == str(error)
    assert (answer.json["accepted"], answer.json["rejected"]) == (0, 0)


async def test_a_full_spool_is_told_before_the_body(server: HttpServer, intake: FakeIntake) -> None:
    """When the spool is full the answer does not wait for the body."""
    intake.why_full = "The spool holds 5 bytes, its limit is 4 (spool.max_bytes)."
    async with connected(server.port) as client:
        await client.send(b"POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.json["errors"][0]["message"]) == (429, intake.why_full)
        intake.why_full = None
        await client.send(b"x" * 100)
        assert (await client.post()).status == 200
    assert intake.lines == [b"{}"]


async def test_rate_limit() -> None:
    """More bytes than the limit get 429 naming limit and setting; nothing of them is taken."""
    intake = FakeIntake()
    async with serving(intake, limits={"bytes_per_sec": 1, "burst_bytes": 4}) as server:
        first = await post(server, b"{  }")
        second = await post(server, b"{  }")
    assert (first.status, second.status, len(intake.blocks)) == (200, 429, 1)
    assert "1 bytes a second (limits.bytes_per_sec)" in second.json["errors"][0]["message"]
    assert "retry-after" in second.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/labels"])
async def test_wrong_method(server: HttpServer, method: str, path: str) -> None:
    """Other methods get 405, which names the right one."""
    async with connected(server.port) as client:
        answer = await client.post(b"", path, method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


def basic(user_and_key: str) -> str:
    return "Basic " + base64.b64encode(user_and_key.encode()).decode()


@pytest.mark.parametrize(
    ("header", "status", "tenant"),
    [
        ("Bearer key-one", 200, "blue"),
        ("bearer  key-two ", 200, None),
        ("ApiKey key-one", 200, "blue"),
        (basic("anyone:key-one"), 200, "blue"),
        (basic(":key-one"), 200, "blue"),
        (None, 401, None),
        ("", 401, None),
        ("Bearer", 401, None),
        ("Digest key-one", 401, None),
        ("Basic !!!", 401, None),
        (basic("key-one"), 401, None),
        ("Bearer key-three", 403, None),
        ("Bearer key-on", 403, None),
        (basic("key-one:wrong"), 403, None),
    ],
)
@pytest.mark.parametrize("path", ["/v1/events", "/"])
async def test_keys(
    keyed: tuple[HttpServer, FakeIntake], header: str | None, status: int, tenant: str | None, path: str
) -> None:
    """Where keys are set one is needed, in any of three forms, and its tenant is the caller's."""
    server, intake = keyed
    intake.reset()
    headers = {"x_scope_orgid": "red"} | ({} if header is None else {"authorization": header})
    answer = await post(server, b"{}", path, **headers)
    assert answer.status == status
    assert [block.tenant for block in intake.blocks] == ([tenant] if status == 200 else [])
    assert b"key-one" not in answer.body
    if status != 200:
        assert answer.json["errors"][0]["message"].endswith(".")
