"""A receiver: ``python -m gateway.workers.receiver``, started by the owner with the sockets as descriptors.

It accepts from the inherited listeners, puts events into its own folder of the spool, and tells the owner what is
there. It keeps promises 1, 5, 7 and 8 as a gateway of one process does; it ends with its owner.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import pickle
import signal
import socket
import ssl
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import structlog
import uvloop

from gateway import logs
from gateway.access import INGESTION_PATHS, Access, Keys, Receive, Scope, Send
from gateway.errors import GatewayError
from gateway.kinds import make_registry
from gateway.pipeline.configured import make_digest
from gateway.pipeline.intake import Door
from gateway.process import settle
from gateway.settings import Settings
from gateway.sources.http.limits import RateLimit
from gateway.sources.http.routes import Ingestion
from gateway.sources.http.server import HttpServer
from gateway.sources.listening import Server, is_loopback
from gateway.sources.tcp.source import TcpSource
from gateway.spool.spool import Spool
from gateway.telemetry import Telemetry
from gateway.workers import words
from gateway.workers.accepting import Accepting, Share
from gateway.workers.calls import Passing
from gateway.workers.words import Channel, Word

log = structlog.get_logger(__name__)
TELL_SECS = 0.05
METRICS_SECS = 0.5
PR_SET_PDEATHSIG = 1


class Receiver:
    """The process."""

    def __init__(self, number: int, calls: socket.socket, listeners: list[socket.socket]) -> None:
        """``listeners``: HTTP, and TCP where it is enabled, plain and TLS."""
        self._number = number
        self._calls = calls
        self._listeners = listeners
        self._telemetry = Telemetry()
        self._channel = Channel(self._hear, self._lost)
        self._begun: asyncio.Future[words.Begin] = asyncio.get_running_loop().create_future()
        self._granted = asyncio.Event()
        self._stop = asyncio.Event()
        self._closed: asyncio.Event | None = None  # once it ends by itself
        self._shares: dict[str, Share] = {}
        self._sources: dict[str, TcpSource | HttpServer] = {}
        self._told: words.Live | None = None
        self._samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    async def run(self, control: socket.socket) -> None:
        """Serve until the owner says stop."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self._channel, sock=control)
        begin = await self._begun
        settings: Settings = pickle.loads(begin.settings)  # noqa: S301 - the owner's own
        logs.configure(settings.log.model_copy(update={"file": None}))
        logging.getLogger().handlers = [_Forwarding(self._channel.say)]
        try:
            await self._serve(settings, begin.receivers)
        except (GatewayError, OSError) as error:
            self._channel.say(words.Unable(str(error)))
        self._closed = asyncio.Event()
        self._channel.close()
        await self._closed.wait()

    async def _serve(self, settings: Settings, receivers: int) -> None:
        digest = make_digest(settings, make_registry(settings))
        telemetry = self._telemetry
        folder = settings.data_dir / "spool" / str(self._number)
        self._spool = spool = Spool(folder, settings.spool, self._wrote, receivers + 1)
        self._segment = spool.end.segment
        spool.granted = (0, "The gateway is starting.")
        self._limit = _Limit(settings, self._channel.say)
        self._channel.say(words.Opened(dict(spool.closed_segments), spool.end, spool.counts))
        door = Door(digest, spool.append, spool.closed, telemetry, receivers)
        ingestion = Ingestion(settings.http, self._limit, door, telemetry, receivers)
        passing = Passing(self._calls)
        access = Access(ingestion.before(passing), settings.http.api_keys, loopback=is_loopback(settings.http.host))

        async def split(scope: Scope, receive: Receive, send: Send) -> None:
            takes = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in INGESTION_PATHS
            if not takes:
                self._tell()  # so that an answer knows of all that was before
                self._tell_metrics()
            await (access if takes else passing)(scope, receive, send)

        http, *tcp = self._listeners
        self._sources["http"] = HttpServer(settings.http, split, http)
        if tcp:
            keys = Keys(settings.http.api_keys)
            self._sources["tcp"] = TcpSource(settings.tcp, door, telemetry, keys, tcp, receivers)
        await self._granted.wait()
        for name, source in self._sources.items():
            share = self._shares[name] = Share(lambda source=source: source.connections)  # type: ignore[misc]
            await source.start(self._serve_from(share))
        settle()
        self._channel.say(words.Listening())
        telling = asyncio.create_task(self._keep_telling())
        await self._stop.wait()
        await asyncio.gather(*(source.stop() for source in self._sources.values()))
        await spool.stop()
        telling.cancel()
        self._tell()
        self._tell_metrics()

    def _serve_from(self, share: Share) -> Callable[..., Any]:
        async def serve(listener: socket.socket, protocol: Callable[[], Any], context: ssl.SSLContext | None) -> Server:
            return Accepting(listener, protocol, context, share, self._tell)

        return serve

    def _hear(self, word: Word) -> None:
        match word:
            case words.Begin():
                self._begun.set_result(word)
            case words.Grant(upto, why):
                self._spool.granted = (upto, why)
                self._granted.set()
            case words.Others(connections, receivers):
                for name, source in self._sources.items():
                    elsewhere = connections.get(name, 0)
                    source.count_elsewhere(elsewhere)
                    if share := self._shares.get(name):
                        share.heard(elsewhere, receivers)
            case words.Spent(tenant, size):
                self._limit.spent(tenant, size)
            case words.Stop():
                self._stop.set()

    def _lost(self) -> None:
        if self._closed is None:
            os._exit(1)  # the owner is no more: what is not synced was told to nobody, and another owner may begin
        self._closed.set()

    def _wrote(self, *, records: int, seconds: float) -> None:
        """Tell of a group before its senders are told."""
        self._telemetry.group_synced(records=records, seconds=seconds)
        spool = self._spool
        closed = {}
        if spool.end.segment != self._segment and self._segment in spool.closed_segments:
            closed[self._segment] = spool.closed_segments[self._segment]
        self._segment = spool.end.segment
        self._channel.say(words.Wrote(closed, spool.end, spool.counts, spool.appended))

    async def _keep_telling(self) -> None:
        due = 0.0
        while True:
            await asyncio.sleep(TELL_SECS)
            self._tell()
            if time.monotonic() >= due:
                self._tell_metrics()
                logs.write_kept_back()
                due = time.monotonic() + METRICS_SECS

    def _tell(self) -> None:
        """Tell how the sources stand, when that has changed."""
        sources = {name: source.status() for name, source in self._sources.items()}
        live = words.Live(sources, self._spool.failure)
        if live != self._told:
            self._told = live
            self._channel.say(live)

    def _tell_metrics(self) -> None:
        risen = []
        for family in self._telemetry.registry.collect():
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                if rise := sample.value - self._samples.get(key, 0.0):
                    risen.append((sample.name, dict(sample.labels), rise))
                    self._samples[key] = sample.value
        if risen:
            self._channel.say(words.Metrics(risen))


class _Limit(RateLimit):
    """Tells the other receivers, through the owner, what was taken."""

    def __init__(self, settings: Settings, say: Callable[[Word], None]) -> None:
        super().__init__(settings.limits)
        self._say = say

    def take(self, tenant: str | None, size: int) -> float:
        wait = super().take(tenant, size)
        if not wait and self.bytes_per_sec is not None:
            self._say(words.Spent(tenant, size))
        return wait


class _Forwarding(logging.Handler):
    """Lets the owner write the log, so that one process writes the file, and the same is said once."""

    def __init__(self, say: Callable[[Word], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        known = dict(record.msg) if isinstance(record.msg, dict) else {"event": record.getMessage()}
        if error := known.pop("exc_info", None) or record.exc_info:
            found = error[1] if isinstance(error, tuple) else error if isinstance(error, BaseException) else None
            known["exception"] = "".join(traceback.format_exception(found)) if found else ""
        said = {name: _plain(value) for name, value in known.items() if name not in ("level", "logger", "timestamp")}
        self._say(words.Logged(record.name, record.levelno, said))


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def main(arguments: Iterable[str]) -> None:
    """Run; ``arguments`` are the owner's process id, the number, and descriptors."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # the owner says when to stop
    owner, number, control, calls, *listeners = map(int, arguments)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:
        return
    sockets = [socket.socket(fileno=descriptor) for descriptor in (control, calls, *listeners)]
    for opened in sockets:
        opened.setblocking(False)

    async def run() -> None:
        await Receiver(number, sockets[1], sockets[2:]).run(sockets[0])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


if __name__ == "__main__":
    main(sys.argv[1:])
