"""A request's body to events."""

from __future__ import annotations

import gzip
import os
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.sources.http.body import BodyError, decompress, split
from tests.pipeline.blocks import to_the_end

MIB = 1024 * 1024
BOM = b"\xef\xbb\xbf"
PRETTY = b'{\n  "a": 1,\n  "b": {\n    "c": 2\n  }\n}'


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"", []),
        (b" \r\n\t\n", []),
        (BOM, []),
        (b"[]", []),
        (b" [ ] \n", []),
        (BOM + b"[]", []),
        (b'{"a":1}', [b'{"a":1}']),
        (b'{"a":1}\n', [b'{"a":1}']),
        (BOM + b'{"a":1}', [b'{"a":1}']),
        (PRETTY, [PRETTY]),
        (b"\n" + PRETTY + b"\r\n", [PRETTY]),
        (PRETTY.replace(b"\n", b"\r\n"), [PRETTY.replace(b"\n", b"\r\n")]),
        (PRETTY.replace(b"1", b"NaN"), [PRETTY.replace(b"1", b"NaN")]),
        (PRETTY.replace(b'"a"', b'"\xff"'), [PRETTY.replace(b'"a"', b'"\xff"')]),
        (b'[{"a":1},{"b":2}]', [b'{"a":1}', b'{"b":2}']),
        (b'[{"a":1}, 3, null, {"b":NaN}]', [b'{"a":1}', b"3", b"null", b'{"b":NaN}']),
        (b"[\n" + PRETTY + b",\n" + PRETTY + b"\n]\n", [PRETTY, PRETTY]),
        (b"[\n" + PRETTY + b',\n{\n"a": NaN}\n]', [PRETTY, b'{\n"a": NaN}']),
        (BOM + b'[{"a":1}]', [b'{"a":1}']),
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\n\n \n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n{"b":2}\r\n', [b'{"a":1}\r', b'{"b":2}\r']),
        (b'{"a":1\n{"b":2}', [b'{"a":1', b'{"b":2}']),
        (b'{"a":1}\nnonsense\n{"b":2}', [b'{"a":1}', b"nonsense", b'{"b":2}']),
        (b'[{"a":1}]\n[{"b":2}]', [b'[{"a":1}]', b'[{"b":2}]']),
        (b'[{"a":1}\n{"b":2}', [b'[{"a":1}', b'{"b":2}']),
        (b"hello", [b"hello"]),
        (b"[" * 5000, [b"[" * 5000]),
        (b"[" * 5000 + b"]" * 5000, [b"[" * 5000 + b"]" * 5000]),
        (b'{"a":\n' * 5000, [b'{"a":'] * 5000),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_forms(body: bytes, events: list[bytes]) -> None:
    """One object, an array or NDJSON, pretty or not: each event comes with the bytes it was sent as."""
    assert events == to_the_end(split(body, 5000))


@pytest.mark.parametrize("body", [b"[" + b"{}," * 10_000 + b"{}]", b"{}\n" * 10_001, b"[1,2]\n" * 10_001])
def test_too_many(body: bytes) -> None:
    """A body of too many events is refused whole, with 413."""
    with pytest.raises(BodyError, match="more than 10000 events") as caught:
        to_the_end(split(body, 10_000))
    assert caught.value.status == 413


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * (5 * MIB) + b"1]",
        b"[" + b"[1]," * (2 * MIB) + b"1]x",
        b'{\n"a":[' + b"{}," * (3 * MIB) + b"{}]}",
        b"{\n" + b'"a":[1.5,2],\n' * 700_000 + b'"b":1}',
        b"{" + b"\n" * (10 * MIB) + b"}",
        b"\n" * (10 * MIB),
        b"{\n" + b'"' * (10 * MIB),
        b'{\n"' + b"\\" * (10 * MIB),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_long_bodies_are_cut_in_steps(body: bytes) -> None:
    """However a body of the largest size is made, no step of its reading takes long."""
    steps = split(body, 200_000)
    longest = 0.0
    with suppress(StopIteration, BodyError):
        while True:
            started = time.thread_time()
            next(steps)
            longest = max(longest, time.thread_time() - started)
    assert longest < 0.1


def deflate_raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd_without_size(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compressobj()
    return packer.compress(data) + packer.flush()


SKIPPABLE = b"\x50\x2a\x4d\x18\x05\x00\x00\x00abcde"
PACK: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip members": ("gzip", lambda data: gzip.compress(data[:7]) + gzip.compress(b"") + gzip.compress(data[7:])),
    "deflate": ("deflate", zlib.compress),
    "deflate bare": ("deflate", deflate_raw),
    "zstd": ("zstd", zstandard.compress),
    "zstd unsized": ("zstd", zstd_without_size),
    "zstd frames": ("zstd", lambda data: zstandard.compress(data[:7]) + SKIPPABLE + zstd_without_size(data[7:])),
}


@pytest.mark.parametrize(("encoding", "pack"), PACK.values(), ids=PACK)
@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"a":1}\n' * 20_000, os.urandom(300_000)], ids=lambda data: str(len(data))
)
def test_encodings(encoding: str, pack: Callable[[bytes], bytes], data: bytes) -> None:
    """Every encoding gives back what was sent, in one piece or several."""
    assert decompress(pack(data), encoding, MIB) == data


@given(st.binary(max_size=3000), st.sampled_from(sorted(PACK)), st.data())
def test_cut_bodies(data: bytes, name: str, draw: Any) -> None:
    """A compressed body that ends too early is refused, never taken in part."""
    encoding, pack = PACK[name]
    packed = pack(data)
    if encoding == "identity" or " " in name:
        return  # the end of a stream among several is an end
    end = draw.draw(st.integers(1, len(packed) - 1))
    with pytest.raises(BodyError) as caught:
        decompress(packed[:end], encoding, MIB)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"not packed", "gzip"),
        (b"not packed", "zstd"),
        (b"\xff\xff\xff", "deflate"),
        (gzip.compress(b"{}", mtime=0) + b"garbage", "gzip"),
        (zlib.compress(b"{}") + b"\xff\xff", "deflate"),
        (zstandard.compress(b"{}") + b"garbage", "zstd"),
        (zstandard.compress(b"{}" * 1000)[:-1], "zstd"),
        (gzip.compress(b"{}", mtime=0)[:-8] + b"\0" * 8, "gzip"),
        (zlib.compress(b"{}")[:-1] + b"\0", "deflate"),
    ],
)
def test_corrupt_bodies(data: bytes, encoding: str) -> None:
    """A body that is not what its encoding says is refused with status 400 and a sentence."""
    with pytest.raises(BodyError, match=rf"^The body is not valid {encoding}: .*\.$") as caught:
        decompress(data, encoding, MIB)
    assert caught.value.status == 400


@pytest.mark.parametrize(("encoding", "pack"), list(PACK.values())[1:], ids=list(PACK)[1:])
@pytest.mark.parametrize(("size", "is_taken"), [(MIB, True), (MIB + 1, False)])
def test_the_limit(encoding: str, pack: Callable[[bytes], bytes], size: int, is_taken: bool) -> None:
    """A body of exactly the limit is taken, one byte more is refused with 413."""
    packed = pack(b"x" * size)
    if is_taken:
        assert len(decompress(packed, encoding, MIB)) == size
        return
    with pytest.raises(BodyError, match=r"http\.max_body_bytes") as caught:
        decompress(packed, encoding, MIB)
    assert caught.value.status == 413


def gzip_bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    first = packer.compress(bytes(MIB * 16)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(MIB * 16)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (size // (16 * MIB))


def zstd_bomb(size: int) -> bytes:
    block = ((128 * 1024) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"  # one byte, 128 KiB times
    return b"\x28\xb5\x2f\xfd\x00\x68" + block * (size // (128 * 1024))


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (gzip_bomb(10 * 1024 * MIB), "gzip"),
        (zstd_bomb(10 * 1024 * MIB), "zstd"),
        (zlib.compress(bytes(100 * MIB)), "deflate"),
    ],
    ids=["gzip 10 GB", "zstd 10 GB", "deflate 100 MB"],
)
def test_bombs(packed: bytes, encoding: str) -> None:
    """A small body that unpacks to gigabytes is refused at once, with little memory."""
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(BodyError) as caught:
        decompress(packed, encoding, 10 * MIB)
    took = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.status == 413
    assert took < 2
    assert peak < 64 * MIB


@pytest.mark.parametrize(
    ("packed", "encoding"), [(gzip.compress(b"") * 500_000, "gzip"), (zstandard.compress(b"") * 1_000_000, "zstd")]
)
def test_a_million_empty_streams(packed: bytes, encoding: str) -> None:
    """A body of nothing but stream ends costs its length, not its square."""
    started = time.perf_counter()
    assert decompress(packed, encoding, 10 * MIB) == b""
    assert time.perf_counter() - started < 15


def test_a_window_too_large() -> None:
    """A zstd stream that asks for a huge window is refused before the memory is taken."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, write_content_size=0)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(os.urandom(100)) + packer.flush()
    with pytest.raises(BodyError) as caught:
        decompress(packed, "zstd", MIB)
    assert caught.value.status == 400
