"""A proxy in front of a real Elasticsearch that misbehaves as it is told to, at run time and over real sockets.

What it passes on is asked of the real node, and what it answers then is the node's own answer; an
`Act` says what happens to it on the way. ``sinks/elasticsearch/odd_server.py`` is for what needs no node.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx
import orjson

from tests.elasticsearch_node.ports import free_port

JSON = {"content-type": "application/json", "x-elastic-product": "Elasticsearch"}
NOT_PASSED_ON = {"host", "connection", "content-length", "accept-encoding", "transfer-encoding"}
HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


class Reply(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Exchange:
    """One request and the connection that it came on."""

    method: str
    path: str
    headers: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    draw: random.Random
    node: httpx.AsyncClient
    left: int = 0  # bytes of the body that were not read yet
    body: bytes = b""

    async def read(self, share: float = 1.0) -> bytes:
        """Read this share of what is left of the body; return all of it that was read."""
        part = int(self.left * share)
        self.left -= part
        self.body += await self.reader.readexactly(part)
        return self.body

    async def ask(self, body: bytes | None = None) -> Reply:
        """Ask the node."""
        content = await self.read() if body is None else body
        answer = await self.node.request(self.method, self.path, content=content, headers=self.headers)
        return Reply(answer.status_code, {**JSON, "content-type": answer.headers["content-type"]}, answer.content)

    async def answer(self, reply: Reply, sent: int | None = None) -> None:
        """Answer, with no more than the first ``sent`` bytes of the body."""
        await self.read()
        lines = [f"HTTP/1.1 {reply.status} Said", *(f"{name}: {value}" for name, value in reply.headers.items())]
        lines += [f"content-length: {len(reply.body)}", "", ""]
        self.writer.write("\r\n".join(lines).encode() + reply.body[:sent])
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def given_up(self) -> None:
        """Say nothing more, until the other side closes."""
        while await self.reader.read(1024):
            pass


class Act(NamedTuple):
    """Something to do with a request. A connection that was not answered in full is of no more use."""

    name: str
    do: Callable[[Exchange], Awaitable[None]]


def _act(do: Callable[[Exchange], Awaitable[None]]) -> Act:
    return Act(getattr(do, "__name__", ""), do)


# The connection


@_act
async def reset_in_the_request(exchange: Exchange) -> None:
    """Read half of the body."""
    await exchange.read(0.5)
    exchange.reset()


@_act
async def reset_in_the_answer(exchange: Exchange) -> None:
    """The documents are written, half of the answer comes."""
    reply = await exchange.ask()
    await exchange.answer(reply, len(reply.body) // 2)
    exchange.reset()


@_act
async def half_an_answer(exchange: Exchange) -> None:
    """The documents are written, half of the answer comes, then an orderly end of the connection."""
    reply = await exchange.ask()
    await exchange.answer(reply, len(reply.body) // 2)
    exchange.writer.close()


@_act
async def silence_in_the_answer(exchange: Exchange) -> None:
    """The documents are written, half of the answer comes, then nothing."""
    reply = await exchange.ask()
    await exchange.answer(reply, len(reply.body) // 2)
    await exchange.given_up()


@_act
async def drip(exchange: Exchange) -> None:
    """The documents are written, the answer comes at one byte a second."""
    reply = await exchange.ask()
    await exchange.answer(reply, 0)
    with contextlib.suppress(ConnectionError):
        for byte in reply.body:
            exchange.writer.write(bytes([byte]))
            await exchange.writer.drain()
            await asyncio.sleep(1)
    exchange.writer.close()


@_act
async def mute(exchange: Exchange) -> None:
    """Take the request and never answer."""
    await exchange.read()
    await exchange.given_up()


def late(secs: float) -> Act:
    """The documents are written, the answer comes when nobody waits for it any more."""

    async def do(exchange: Exchange) -> None:
        reply = await exchange.ask()
        await asyncio.sleep(secs)
        await exchange.answer(reply)

    return Act("late", do)


# Answers of Elasticsearch or of what stands before it, to requests that never reach the node


def says(name: str, reply: Reply) -> Act:
    """Answer this; nothing is written."""

    async def do(exchange: Exchange) -> None:
        await exchange.answer(reply)

    return Act(name, do)


def status(number: int, kind: str = "odd_exception", reason: str = "odd", **headers: str) -> Act:
    """Elasticsearch's own answer of this status."""
    body = orjson.dumps({"error": {"type": kind, "reason": reason}, "status": number})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return says(str(number), Reply(number, {**JSON, **named}, body))


def page(number: int) -> Act:
    """A load balancer's page."""
    return says(f"page {number}", Reply(number, {"content-type": "text/html"}, HTML))


def pretends(name: str, answer: Callable[[int], Any], headers: Mapping[str, str] = JSON) -> Act:
    """200 with what ``answer`` makes of the number of documents; nothing is written."""

    async def do(exchange: Exchange) -> None:
        count = (await exchange.read()).count(b"\n") // 2
        await exchange.answer(Reply(200, headers, orjson.dumps(answer(count))))

    return Act(name, do)


# Answers to requests that were carried out


def changed(name: str, change: Callable[[bytes], bytes]) -> Act:
    """The documents are written, the answer's body is another."""

    async def do(exchange: Exchange) -> None:
        reply = await exchange.ask()
        await exchange.answer(reply._replace(body=change(reply.body)))

    return Act(name, do)


def without_an_item(body: bytes) -> bytes:
    """An answer with one item less."""
    answer = orjson.loads(body)
    return orjson.dumps({**answer, "items": answer["items"][:-1]})


def refuse_items(name: str, share: float, item: Mapping[str, Any], **headers: str) -> Act:
    """A share of the documents is answered with ``item``, the others are written."""

    async def do(exchange: Exchange) -> None:
        lines = (await exchange.read()).split(b"\n")[:-1]
        pairs = [b"\n".join(pair) + b"\n" for pair in zip(lines[0::2], lines[1::2], strict=True)]
        refused = [exchange.draw.random() < share for _ in pairs]
        passed = b"".join(pair for pair, no in zip(pairs, refused, strict=True) if not no)
        written = iter(orjson.loads((await exchange.ask(passed)).body)["items"] if passed else [])
        items = [{"create": item} if no else next(written) for no in refused]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await exchange.answer(Reply(200, {**JSON, **named}, orjson.dumps({"errors": True, "items": items})))

    return Act(name, do)


def is_bulk(exchange: Exchange) -> bool:
    """What most acts are for."""
    return exchange.path.startswith("/_bulk")


def is_any(_: Exchange) -> bool:
    """Every request."""
    return True


class Seen(NamedTuple):
    """A request: when it came on the monotonic clock, what it was, and the act that it met, if any."""

    at: float
    method: str
    path: str
    act: str | None


@dataclass
class _Rule:
    acts: tuple[Act, ...]
    to: Callable[[Exchange], bool]
    share: float
    left: int | None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def draw(self, exchange: Exchange) -> Act | None:
        with self.lock:
            if self.left == 0 or not self.to(exchange) or exchange.draw.random() >= self.share:
                return None
            if self.left is not None:
                self.left -= 1
            return exchange.draw.choice(self.acts)


class MisbehavingProxy:
    """Listens in a thread of its own; ``done`` counts the acts by name, ``seen`` has the last requests."""

    def __init__(self, node_url: str, seed: int = 0) -> None:
        self._node_url = node_url
        self._draw = random.Random(seed)
        self._rule: _Rule | None = None
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = free_port()
        self.done: Counter[str] = Counter()
        self.seen: deque[Seen] = deque(maxlen=10_000)

    @property
    def url(self) -> str:
        """The address that stands for the node's."""
        return f"http://127.0.0.1:{self.port}"

    def misbehave(
        self, *acts: Act, to: Callable[[Exchange], bool] = is_bulk, share: float = 1.0, times: int | None = None
    ) -> None:
        """From now on do one of ``acts`` with this share of the requests, at most so many ``times``."""
        self._rule = _Rule(acts, to, share, times)

    def behave(self) -> None:
        """Pass everything on from now on; what was left hanging is left so."""
        self._rule = None

    def down(self) -> None:
        """Listen no more and reset every connection."""
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def up(self) -> None:
        """Listen again, at the same port."""
        self._ready.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()))
        self._thread.start()
        assert self._ready.wait(10)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self.down()

    async def _listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        async with httpx.AsyncClient(
            base_url=self._node_url, timeout=60, trust_env=False, headers={"accept-encoding": "identity"}
        ) as self._node:
            server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
            self._ready.set()
            await self._ending.wait()
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                passed = {name: value for name, value in headers.items() if name not in NOT_PASSED_ON}
                size = int(headers.get("content-length", 0))
                await self._handle(Exchange(method, path, passed, reader, writer, self._draw, self._node, size))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _handle(self, exchange: Exchange) -> None:
        act = self._rule.draw(exchange) if self._rule else None
        self.seen.append(Seen(time.monotonic(), exchange.method, exchange.path, act and act.name))
        if act is None:
            await exchange.answer(await exchange.ask())
            return
        self.done[act.name] += 1
        await act.do(exchange)
