"""Just enough of Elasticsearch to take bulks as fast as they come, and to say how many documents they held.

``python -m benchmarks.counting_sink`` prints its port and ends with its standard input. Of a bulk it counts the lines.
Besides Elasticsearch's own calls it answers

    GET  /bench              documents so far, monotonic ns of the first and the last since the last reset
    POST /bench/reset        forget times, latencies and kept documents (not the count)
    POST /bench/away, back   answer bulks with 503, or take them again
    POST /bench/keep/N       keep the lines of the next N documents
    GET  /bench/kept         those, as they came: action and document
    POST /bench/stamp        note for each document with ``due_ns`` how much later than that it came
    GET  /bench/latencies    those, in ns
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import zlib
from functools import cache
from typing import Any, cast

import uvloop

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"
_DUE = re.compile(rb'"due_ns":\s*"?(\d+)')
ROOT = {"version": {"number": "8.19.0", "build_flavor": "default"}, "tagline": "You Know, for Search"}


class Ledger:
    """What was seen; shared by all connections."""

    def __init__(self) -> None:
        self.documents = 0
        self.away = False
        self.keep = 0
        self.stamp = False
        self.reset()

    def reset(self) -> None:
        """Forget all but the count."""
        self.first_ns = self.last_ns = 0
        self.bulks = self.bytes = 0
        self.kept: list[bytes] = []
        self.latencies: list[int] = []

    def take(self, body: bytes) -> int:
        """Count a bulk's documents: an action line and a line each."""
        now = time.monotonic_ns()
        documents = body.count(b"\n") // 2
        self.documents += documents
        self.bulks += 1
        self.bytes += len(body)
        self.first_ns = self.first_ns or now
        self.last_ns = now
        if self.stamp:
            self.latencies += [now - int(due) for due in _DUE.findall(body)]
        if self.keep > 0:
            kept = body.splitlines(keepends=True)[: 2 * self.keep]
            self.keep -= len(kept) // 2
            self.kept += kept
        return documents

    def asked(self, path: str) -> bytes:
        """Answer a call below ``/bench``."""
        word, _, number = path.removeprefix("/bench").lstrip("/").partition("/")
        match word:
            case "reset":
                self.reset()
            case "away" | "back":
                self.away = word == "away"
            case "keep":
                self.keep = int(number)
            case "stamp":
                self.stamp = True
            case "kept":
                return b"".join(self.kept)
            case "latencies":
                return _json(self.latencies)
        names = ("documents", "first_ns", "last_ns", "bulks", "bytes")
        return _json({name: getattr(self, name) for name in names})


class Connection(asyncio.Protocol):
    """One connection of a client that sends a request when it has the answer to the one before."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
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
            lower = head.lower()
            _, _, length = lower.partition(_LENGTH)
            self._missing = int(length.partition(b"\r\n")[0] or 0) - len(body)
            if self._missing and b"\r\nexpect: 100-continue" in lower:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._missing == 0:
            self._answer(b"".join(self._received))
            self._received = []

    def _answer(self, body: bytes) -> None:
        method, target = self._request.split(b" ", 2)[:2]
        path, _, query = target.partition(b"?")
        status, said = 200, b"{}"
        if path.endswith(b"/_bulk"):
            if b"\r\ncontent-encoding: gzip" in self._request.lower():
                body = zlib.decompress(body, wbits=31)
            if self._ledger.away:
                status, said = 503, _json({"error": {"type": "unavailable", "reason": "away"}, "status": 503})
            else:
                said = _bulk_answer(self._ledger.take(body), body[2:8] == b"create", _wants_items(query))
        elif path.startswith(b"/bench"):
            said = self._ledger.asked(path.decode())
        elif path in (b"/", b""):
            said = _json(ROOT)
        elif b"/_count" in path:
            said = _json({"count": self._ledger.documents, "_shards": {"total": 1, "successful": 1}})
        elif method in (b"PUT", b"HEAD"):
            said = _json({"acknowledged": True})
        elif b"_cluster/health" in path:
            said = _json({"status": "green"})
        elif method == b"GET":
            status, said = 404, _json({"error": {"type": "not_found"}, "status": 404})
        self._transport.write(
            b"HTTP/1.1 %d X\r\nX-Elastic-Product: Elasticsearch\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (status, len(said), said if method != b"HEAD" else b"")
        )


def _wants_items(query: bytes) -> bool:
    """Whether an answer has items, of which ours hold nothing but a status."""
    asked = query.partition(b"filter_path=")[2].partition(b"&")[0]
    return not asked or b"status" in asked or asked.endswith((b"items", b"items.*"))


@cache
def _bulk_answer(documents: int, create: bool, items: bool) -> bytes:
    if not items:
        return b'{"errors":false}'
    item = b'{"create":{"status":201}}' if create else b'{"index":{"status":201}}'
    return b'{"took":1,"errors":false,"items":[%s]}' % b",".join([item] * documents)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def main() -> None:
    """Serve until standard input ends."""
    ledger = Ledger()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(ledger), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
