"""Clients that do harm without a pause: ``python -m tests.promises.hostile SORT HTTP_PORT TCP_PORT``."""

from __future__ import annotations

import gzip
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import zstandard

MIB = 1024 * 1024
GET = b"GET /v1/search?limit=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEAD = b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def filled(head: bytes, item: bytes, tail: bytes, size: int = MIB - 100) -> bytes:
    """Return as many items as fit, with commas between."""
    return head + b",".join([item] * ((size - len(head) - len(tail)) // (len(item) + 1))) + tail


def ten(event: bytes) -> bytes:
    """Return a body of events of nearly a megabyte."""
    return b"\n".join([event] * 10)


def posts(body: Callable[[], bytes], *headers: bytes) -> Callable[[int, int], None]:
    """Return a client that posts a body, reads the answer, and posts it again."""

    def run(http: int, _: int) -> None:
        data = body()
        lines = b"".join(each + b"\r\n" for each in headers)
        request = HEAD + lines + b"Content-Length: %d\r\n\r\n" % len(data) + data
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", http)) as connection:
                connection.sendall(request)
                connection.recv(65_536)

    return run


def streams(data: Callable[[], bytes]) -> Callable[[int, int], None]:
    """Return a client that sends bytes over TCP on and on."""

    def run(_: int, tcp: int) -> None:
        part = data()
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", tcp)) as connection:
                while True:
                    connection.sendall(part)

    return run


def byte_by_byte(http: int, tcp: int) -> None:
    """Keep two hundred requests and lines unfinished."""
    held = [socket.create_connection(("127.0.0.1", port)) for port in (http, tcp) for _ in range(100)]
    while True:
        for each in held:
            with suppress(OSError):
                each.sendall(b"P")
        time.sleep(0.05)


def never_reads(http: int, _: int) -> None:
    """Ask for large answers and read none."""
    held = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", http))
        connection.setblocking(False)
        held.append(connection)
    while True:
        for each in held:
            with suppress(OSError):
                each.send(GET * 20)
        time.sleep(0.05)


def pipelines(http: int, _: int) -> None:
    """Send requests far ahead of their answers, until the connection is closed."""
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", http)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100_000)
            while connection.recv(65_536):
                pass


def comes_and_goes(http: int, tcp: int) -> None:
    """Open connections, send half of something, and reset them."""
    while True:
        for port in (http, tcp):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.sendall(b'{"model_name":')
        time.sleep(0.002)


SORTS: dict[str, Callable[[int, int], None]] = {
    "200,000 events that are none": posts(lambda: b"{}\n" * 199_000),
    "an array of 10 MiB": posts(lambda: filled(b"[", b'{"model_name":"m","a":[1,2,3]}', b"]", 6 * MIB)),
    "an array of numbers": posts(lambda: filled(b"[", b"1", b"]", 10 * MIB)),
    "an array that is broken": posts(lambda: filled(b"[", b"[1]", b"]x", 10 * MIB)),
    "an object of 10 MiB": posts(lambda: filled(b'{\n"a":[', b"{}", b"]}", 10 * MIB)),
    "a hundred thousand wrong fields": posts(lambda: ten(filled(b'{"type":"lineage","inputs":[', b"[]", b"]}"))),
    "NaN at the end": posts(lambda: ten(filled(b'{"model_name":"m","x":[', b"1.5", b",NaN]}"))),
    "many levels": posts(lambda: ten(filled(b'{"model_name":"m","x":[', b"[" * 200 + b"]" * 200, b"]}"))),
    "a hundred thousand keys": posts(lambda: ten(filled(b'{"model_name":"m",', b'"abcde":1', b"}"))),
    "a message of a megabyte": posts(
        lambda: ten(b'{"model_name":"m","error_message":"' + b"http/1.1 status error " * 45_000 + b'"}')
    ),
    "a gzip bomb": posts(lambda: gzip.compress(bytes(512 * MIB)), b"Content-Encoding: gzip"),
    "a zstd bomb": posts(lambda: zstandard.compress(b"\n" * (10 * MIB - 1)), b"Content-Encoding: zstd"),
    "a line without end": streams(lambda: b"x" * MIB),
    "lines of nothing": streams(lambda: b"\n" * MIB),
    "arrays of bad events": streams(lambda: filled(b"[", b'{"modelname":1}', b"]\n")),
    "a byte at a time": byte_by_byte,
    "never reads": never_reads,
    "requests without end": pipelines,
    "comes and goes": comes_and_goes,
}

if __name__ == "__main__":
    SORTS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
