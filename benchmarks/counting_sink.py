"""Just enough of Elasticsearch to take bulks as fast as they come, and to say how many documents they held.

``python -m benchmarks.counting_sink`` prints its port and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import cache
from typing import Any, cast

import uvloop

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"
ROOT = {"version": {"number": "8.19.0", "build_flavor": "default"}, "tagline": "You Know, for Search"}


class Connection(asyncio.Protocol):
    """One connection of a client that sends a request when it has the answer to the one before."""

    documents = 0  # of all connections

    def __init__(self) -> None:
        self._received: list[bytes] = []
        self._missing = 0  # bytes of the body
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where answers go."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Collect a request, then answer it."""
        self._received.append(data)
        if self._missing:
            self._missing -= len(data)
        else:
            head, found, body = b"".join(self._received).partition(_END_OF_HEAD)
            if not found:
                return
            self._request, self._received = head, [body]
            _, _, length = head.lower().partition(_LENGTH)
            self._missing = int(length.partition(b"\r\n")[0] or 0) - len(body)
        if self._missing == 0:
            self._answer(b"".join(self._received))
            self._received = []

    def _answer(self, body: bytes) -> None:
        method, path = self._request.split(b" ", 2)[:2]
        status, said = 200, b"{}"
        if path.startswith(b"/_bulk"):
            documents = body.count(b"\n") // 2  # an action and a document
            Connection.documents += documents
            said = _bulk_answer(documents)
        elif path == b"/":
            said = _json(ROOT)
        elif b"/_count" in path:
            said = _json({"count": Connection.documents, "_shards": {"total": 1, "successful": 1}})
        elif method == b"PUT":
            said = _json({"acknowledged": True})
        elif method == b"GET":
            status, said = 404, _json({"error": {"type": "not_found"}, "status": 404})
        self._transport.write(
            b"HTTP/1.1 %d X\r\nX-Elastic-Product: Elasticsearch\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (status, len(said), said if method != b"HEAD" else b"")
        )


@cache
def _bulk_answer(documents: int) -> bytes:
    return b'{"errors":false,"items":[%s]}' % b",".join([b'{"create":{"status":201}}'] * documents)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def main() -> None:
    """Serve until standard input ends."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
