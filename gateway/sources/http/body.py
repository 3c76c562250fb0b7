"""A request's body to events, bounded, without I/O."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Protocol

import zstandard

from gateway.errors import GatewayError
from gateway.pipeline.items import Steps, is_one_value, items_of

# What is fed at once. It bounds what a bomb unpacks beyond the limit (16 MiB with zstd), and what is
# copied at the end of each stream, of which a hostile body may hold a million.
_PIECE_BYTES = 512
_STEP_BYTES = 32 * 1024
_ZSTD_WINDOW = 8 * 1024 * 1024  # what RFC 8878 asks of every decoder
ENCODINGS = ("identity", "gzip", "x-gzip", "deflate", "zstd")


class BodyError(GatewayError):
    """A body that cannot be read; ``status`` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def too_large(max_bytes: int) -> BodyError:
    """Return the error for a body over the limit, before or after decompression."""
    return BodyError(413, f"The body is larger than {max_bytes} bytes (http.max_body_bytes): send it in parts.")


def decompress(data: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return the body without its encoding, one of `ENCODINGS`; raise `BodyError`."""
    match encoding:
        case "gzip" | "x-gzip":
            return _unpack(data, lambda: zlib.decompressobj(31), encoding, max_bytes)
        case "deflate":
            # HTTP means zlib by "deflate"; some clients send the bare stream.
            zlib_header = len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] * 256 + data[1]) % 31 == 0
            return _unpack(data, lambda: zlib.decompressobj(15 if zlib_header else -15), encoding, max_bytes)
        case "zstd":
            frames = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
            return _unpack(data, frames.decompressobj, encoding, max_bytes)
    return data


class _Stream(Protocol):
    """One gzip member, zlib stream or zstd frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _unpack(data: bytes, begin: Callable[[], _Stream], encoding: str, max_bytes: int) -> bytes:
    """Return what all streams in ``data`` hold. A stream that ends too early loses events: it is refused."""
    parts: list[bytes] = []
    size = at = 0
    try:
        while at < len(data):
            stream = begin()
            while not stream.eof:
                piece = data[at : at + _PIECE_BYTES]
                if not piece:
                    raise BodyError(400, f"The body is not valid {encoding}: it ends too early.")
                part = stream.decompress(piece)
                at += len(piece) - len(stream.unused_data)
                size += len(part)
                if size > max_bytes:
                    raise too_large(max_bytes)
                parts.append(part)
    except (zlib.error, zstandard.ZstdError) as error:
        raise BodyError(400, f"The body is not valid {encoding}: {error}.") from None
    return b"".join(parts)


def split(body: bytes, max_events: int) -> Steps[list[bytes]]:
    """Return the events of a body: one object, an array, or NDJSON; blank lines left out. Raise `BodyError`."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    text = body.strip()
    if text[:1] == b"[" and (items := (yield from items_of(text, max_events))) is not None:
        if len(items) > max_events:
            raise _too_many(max_events)
        return items
    if text[:1] == b"{" and b"\n" in text and (yield from is_one_value(text)):
        return [text]
    lines: list[bytes] = []
    at = 0
    while at < len(body):
        end = body.find(b"\n", at + _STEP_BYTES)
        part = body[at:] if end < 0 else body[at:end]
        lines += [line for line in part.split(b"\n") if line and not line.isspace()]
        if len(lines) > max_events:
            raise _too_many(max_events)
        at += len(part) + 1
        if at < len(body):
            yield
    return lines


def _too_many(max_events: int) -> BodyError:
    return BodyError(413, f"The body holds more than {max_events} events: send it in parts.")
