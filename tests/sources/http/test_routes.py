"""Every answer to POST /v1/events, /v1/labels and /."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable

import pytest
import zstandard

from gateway.sources.http.server import HttpServer
from tests.sources.http.serving import connected, post, request
from tests.sources.intake import FakeIntake, refusal

pytestmark = pytest.mark.anyio


FORMS: dict[str, tuple[bytes, list[bytes]]] = {
    "object": (b'{"a":1}', [b'{"a":1}']),
    "array": (b'[{"a":1},\n{"b":2}]', [b'{"a":1}', b'{"b":2}']),
    "NDJSON": (b'{"a":1}\r\n\r\n{"b":2}\r\n', [b'{"a":1}\r', b'{"b":2}\r']),
    "no events": (b"[]", []),
    "no events, BOM": (b"\xef\xbb\xbf[]", []),
}


@pytest.mark.parametrize(("body", "lines"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("path", ["/v1/events", "/v1/labels", "/"])
async def test_all_accepted(server: HttpServer, intake: FakeIntake, path: str, body: bytes, lines: list[bytes]) -> None:
    """An object, an array, NDJSON and an empty array get 200 and how many were accepted."""
    answer = await post(server, body, path)
    assert (answer.status, answer.json) == (200, {"accepted": len(lines), "rejected": 0, "errors": []})
    assert answer.headers["content-type"] == "application/json"
    (block,) = intake.blocks
    assert (block.lines, block.source, block.kind) == (lines, "http", "label" if path == "/v1/labels" else None)
    assert block.peer.startswith("127.0.0.1:")


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "upper case": ("GZIP", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "zstd": ("zstd", zstandard.compress),
}


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("count", [1, 100_000])
async def test_encodings(server: HttpServer, intake: FakeIntake, name: str, count: int) -> None:
    """A body may be packed with gzip, deflate or zstd, small or large."""
    encoding, pack = PACKED[name]
    answer = await post(server, pack(b'{"a":%d}\n' % 7 * count), content_encoding=encoding)
    assert (answer.status, answer.json["accepted"]) == (200, count)
    assert intake.lines == [b'{"a":7}'] * count


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-8",
        "application/x-ndjson",
    ],
)
async def test_content_types(server: HttpServer, intake: FakeIntake, content_type: str | None) -> None:
    """Whatever the content type, multipart aside, the body is read as JSON or NDJSON."""
    headers = {} if content_type is None else {"content_type": content_type}
    answer = await post(server, b'{"a":1}\n{"a":1}', **headers)
    assert (answer.status, len(intake.lines)) == (200, 2)


@pytest.mark.parametrize(
    ("refused", "lines", "status"), [([0], 1, 400), ([1], 3, 207), ([0, 1, 2], 3, 400), ([], 3, 200)]
)
async def test_some_refused(
    server: HttpServer, intake: FakeIntake, refused: list[int], lines: int, status: int
) -> None:
    """207 when some are refused, 400 when all are; POST / says 200 to both, with the same body."""
    intake.refusals = [refusal(line, "1.7", hint="Send a number.") for line in refused]
    errors = [
        {
            "index": line,
            "path": "$.x",
            "rule": "float_type",
            "message": "It is no number.",
            "value": "1.7",
            "hint": "Send a number.",
        }
        for line in refused
    ]
    answer = await post(server, b"{}\n" * lines)
    logstash = await post(server, b"{}\n" * lines, "/")
    assert (answer.status, logstash.status) == (status, 200)
    assert answer.json == logstash.json
    assert answer.json == {"accepted": lines - len(refused), "rejected": len(refused), "errors": errors}


async def test_an_item_of_a_line(server: HttpServer, intake: FakeIntake) -> None:
    """In NDJSON whose lines are arrays, the index is the line and the path begins with the item."""
    intake.refusals = [refusal(1, item=3)]
    answer = await post(server, b"{}\n[{},{},{},3]")
    assert [(error["index"], error["path"]) for error in answer.json["errors"]] == [(1, "$[3].x")]
    assert "hint" not in answer.json["errors"][0]


@pytest.mark.parametrize(("count", "omitted"), [(100, None), (101, 1), (250, 150)])
async def test_at_most_a_hundred_errors(
    server: HttpServer, intake: FakeIntake, count: int, omitted: int | None
) -> None:
    """At most 100 errors are told, and how many more there are."""
    intake.refusals = [refusal(line) for line in range(count)]
    answer = await post(server, b"{}\n" * 300)
    assert (answer.status, answer.json["rejected"]) == (207, count)
    assert list(range(100)) == [error["index"] for error in answer.json["errors"]]
    assert answer.json.get("errors_omitted") == omitted


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"", "identity", 400),
        (b" \r\n ", "identity", 400),
        (b"\xef\xbb\xbf", "identity", 400),
        (b"", "gzip", 400),
        (gzip.compress(b"", mtime=0), "gzip", 400),
        (b"{}", "gzip", 400),
        (zstandard.compress(b'{"a":1}\n' * 1000)[:-3], "zstd", 400),
    ],
)
async def test_unreadable(server: HttpServer, intake: FakeIntake, body: bytes, encoding: str, status: int) -> None:
    """An empty or broken body gets 400 with one error, and reaches nobody; POST / says 200."""
    answer = await post(server, body, content_encoding=encoding)
    logstash = await post(server, body, "/", content_encoding=encoding)
    assert (answer.status, logstash.status, intake.blocks) == (status, 200, [])
    for each in (answer, logstash):
        (error,) = each.json["errors"]
        assert (each.json["accepted"], each.json["rejected"], error["path"]) == (0, 0, "$")
        assert error["message"].endswith(".")


async def test_chunked(server: HttpServer, intake: FakeIntake) -> None:
    """A chunked body is taken like any other."""
    body = b'5\r\n{"a":\r\n3\r\n1}\n\r\n2;x=y\r\n{}\r\n0\r\ntrailer: x\r\n\r\n'
    answer = await post(server, body, transfer_encoding="chunked")
    assert (answer.status, intake.lines) == (200, [b'{"a":1}', b"{}"])


async def test_a_sender_that_goes_away(server: HttpServer, intake: FakeIntake) -> None:
    """A connection that ends within the body takes nothing with it and harms nobody."""
    async with connected(server.port) as client:
        await client.send(request(b"{}", content_length="100"))
    await asyncio.sleep(0.05)
    answer = await post(server, b"{}")
    assert (answer.status, len(intake.blocks)) == (200, 1)


async def test_the_answer_is_json_that_anyone_reads(server: HttpServer, intake: FakeIntake) -> None:
    """Values with signs and quotes come through the answer whole."""
    intake.refusals = [refusal(0, '"ż\u2028\x00')]
    answer = await post(server)
    assert json.loads(answer.body)["errors"][0]["value"] == '"ż\u2028\x00'
