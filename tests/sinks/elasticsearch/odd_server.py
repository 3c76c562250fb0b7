"""A small Elasticsearch that misbehaves as it is told to, for what the real one cannot be brought to do."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson

PRODUCT = {"x-elastic-product": "Elasticsearch"}


class Request(NamedTuple):
    """What was asked, and when."""

    at: float
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What is answered: after ``delay``, and cut off by a reset behind ``sent`` bytes of the body."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delay: float = 0.0
    sent: int | None = None


class Oddity(NamedTuple):
    """How one answer differs from the right one, and whether the documents are written all the same."""

    change: Callable[[Reply], Reply]
    written: bool = True


def status(number: int, reason: str = "odd", **headers: str) -> Oddity:
    """Elasticsearch's answer of this status; nothing is written."""
    body = orjson.dumps({"error": {"type": f"odd_{number}", "reason": reason}, "status": number})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Oddity(lambda _: Reply(body, number, named), written=False)


def page(number: int, text: bytes = b"<html>no</html>") -> Oddity:
    """A proxy's page instead of an answer; nothing is written."""
    return Oddity(lambda _: Reply(text, number, {}, "text/html"), written=False)


def body(data: bytes, content_type: str = "application/json") -> Oddity:
    """Another body than the right one, though the documents are written."""
    return Oddity(lambda reply: replace(reply, body=data, content_type=content_type))


class OddServer:
    """Takes bulks as Elasticsearch does, but for the oddities in ``odd``, one for each bulk."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.documents: dict[tuple[str, str], bytes] = {}
        self.requests: list[Request] = []
        self.odd: deque[Oddity] = deque()
        self.always: Oddity | None = None
        self.product = PRODUCT
        self.item: Callable[[str, bytes], dict[str, Any] | None] = lambda _id, _source: None
        self.max_bytes = 100 * 1024 * 1024
        self.templates: list[dict[str, Any]] = []
        self.templates_answer: Reply | None = None
        self.policies: dict[str, bytes] | None = None  # None: a server without index lifecycle management
        self.policies_answer: Reply | None = None
        self.indices_answer = Reply()
        self.time_answer: Reply | None = None  # None: the time it is
        self.deletions: dict[str, Reply] = {}  # by path
        self.refused: bytes | None = None  # a body that holds this is refused as a whole
        self.busiest = 0
        self._now = 0
        self._context = context

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        """The address."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    @property
    def bulks(self) -> list[Request]:
        """The bulk requests so far."""
        return [each for each in self.requests if "/_bulk" in each.path]

    def gaps(self) -> list[float]:
        """The seconds between the bulk requests."""
        moments = [each.at for each in self.bulks]
        return [after - before for before, after in itertools.pairwise(moments)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                sent = await reader.readexactly(int(headers.get("content-length", 0)))
                self._now += 1
                self.busiest = max(self.busiest, self._now)
                try:
                    reply = self._reply(Request(time.monotonic(), method, path, headers, sent))
                    await asyncio.sleep(reply.delay)
                finally:
                    self._now -= 1
                if not await self._answer(reply, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reply: Reply, writer: asyncio.StreamWriter) -> bool:
        lines = [f"HTTP/1.1 {reply.status} Said", f"content-type: {reply.content_type}"]
        lines += [f"{name}: {value}" for name, value in (self.product | reply.headers).items()]
        lines += [f"content-length: {len(reply.body)}", "", ""]
        writer.write("\r\n".join(lines).encode() + reply.body[: reply.sent])
        await writer.drain()
        if reply.sent is not None:
            writer.transport.abort()
        return reply.sent is None

    def _reply(self, request: Request) -> Reply:
        self.requests.append(request)
        if "/_bulk" not in request.path:
            if "_index_template" in request.path and request.method == "GET":
                return self.templates_answer or Reply(orjson.dumps({"index_templates": self.templates}))
            if request.path.startswith("/_ilm/policy/"):
                return self.policies_answer or self._policy(request)
            if request.method == "DELETE":
                return self.deletions.get(request.path, Reply(b'{"acknowledged":true}'))
            if request.path.startswith("/_cat/health"):
                return self.time_answer or Reply(orjson.dumps([{"epoch": str(int(time.time()))}]))
            if "expand_wildcards" in request.path:
                return self.indices_answer
            return Reply(b'{"version":{"number":"8.19.9"}}')
        oddity = self.odd.popleft() if self.odd else self.always
        if len(request.body) > self.max_bytes:
            oddity = page(413)
        elif self.refused is not None and self.refused in request.body:
            oddity = status(400, "somehow malformed")
        if oddity is not None and not oddity.written:
            return oddity.change(Reply())
        reply = Reply(self._write(request.body))
        return reply if oddity is None else oddity.change(reply)

    def _policy(self, request: Request) -> Reply:
        """What index lifecycle management answers, in a server that has it."""
        if self.policies is None:
            text = f"no handler found for uri [{request.path}] and method [{request.method}]"
            return Reply(orjson.dumps({"error": text}), 400)
        name = request.path.rpartition("/")[2]
        if request.method == "PUT":
            self.policies[name] = request.body
            return Reply(b'{"acknowledged":true}')
        if name not in self.policies:
            error = {"type": "resource_not_found_exception", "reason": f"Lifecycle policy not found: {name}"}
            return Reply(orjson.dumps({"error": error, "status": 404}), 404)
        return Reply(b'{"%s":{"version":1,%s}' % (name.encode(), self.policies[name][1:]))

    def _write(self, lines: bytes) -> bytes:
        items = []
        pairs = lines.split(b"\n")
        for action, source in zip(pairs[0::2], pairs[1::2], strict=False):
            create = orjson.loads(action)["create"]
            key = create["_index"], create["_id"]
            answer = self.item(create["_id"], source)
            if answer is None and key in self.documents:
                error = {"type": "version_conflict_engine_exception", "reason": "document already exists"}
                answer = {"status": 409, "error": error}
            elif answer is None:
                self.documents[key] = source
                answer = {"status": 201}
            items.append({"create": answer})
        return orjson.dumps({"errors": any(each["create"]["status"] != 201 for each in items), "items": items})
