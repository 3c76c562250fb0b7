"""The owner's side of the receivers: starts them, replaces one that dies, hands out the spool's room, adds up.

A receiver that is killed has acknowledged nothing that is not on disk; the one that takes its place goes on with its
folder, as at a start. Keeps promises 1, 2, 5, 6 and 8 over all processes.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import structlog

from gateway.access import Application
from gateway.errors import GatewayError
from gateway.settings import Settings
from gateway.sources.listening import listen, tls_context
from gateway.sources.tcp.source import listen_tcp
from gateway.spool.books import total
from gateway.spool.folder import Folder
from gateway.spool.folders import Folders
from gateway.telemetry import Telemetry
from gateway.workers import words
from gateway.workers.calls import Answering
from gateway.workers.words import Channel, Word

log = structlog.get_logger(__name__)
LOOK_SECS = 0.1
AGAIN_SECS = 1.0  # before one is started again that lived no longer than this
STOP_SECS = 15.0
DISK_SECS = 1.0


class Worker:
    """What the owner knows of one receiver, through all processes that were it."""

    def __init__(self, number: int, folder: Folder) -> None:
        self.number = number
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: Channel | None = None
        self.started = 0.0
        self.listening = asyncio.Event()
        self.ended = asyncio.Event()
        self.unable: str | None = None
        self.opened = False  # its folder
        self.appended = self.granted = 0
        self.why = ""  # no more was granted, as it was told last
        self.live: dict[str, dict[str, Any]] = {}

    def say(self, word: Word) -> None:
        """Tell it, when it is there."""
        if self.channel is not None:
            self.channel.say(word)

    def connections(self, source: str) -> int:
        """Return its open connections to a source."""
        return int(self.live.get(source, {}).get("connections", 0))


class Crew:
    """All receivers."""

    def __init__(self, settings: Settings, folders: Folders, telemetry: Telemetry, lock: int) -> None:
        """Open the ports; raise `GatewayError` when one cannot be had. ``lock``: the data directory's."""
        for tls, name in ((settings.tcp.tls, "tcp.tls"), (settings.http.tls, "http.tls")):
            if tls is not None:
                tls_context(tls, name)
        # As plain settings: those that were loaded are of a class made for their sources, which no other process has.
        plain = Settings.model_construct(settings.model_fields_set, **dict(settings))
        self._pickled = pickle.dumps(plain)
        self._folders = folders
        self._telemetry = telemetry
        self._lock = lock
        http = listen(settings.http.host, settings.http.port, "http.port")
        try:
            tcp = listen_tcp(settings.tcp) if settings.tcp.enabled else []
        except GatewayError:
            http.close()
            raise
        self._listeners = [http, *tcp]
        self.http_port = int(http.getsockname()[1])
        self.tcp_port = int(tcp[0].getsockname()[1]) if tcp else 0
        self._workers = [Worker(number, folder) for number, folder in enumerate(folders.of_receivers, 1)]
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._application: Application | None = None

    async def start(self, application: Application) -> None:
        """Start all; return when they listen; raise `GatewayError` when one cannot. ``application`` answers."""
        self._application = application
        self._tasks = [asyncio.create_task(self._keep(worker)) for worker in self._workers]
        self._tasks.append(asyncio.create_task(self._look()))
        for worker, keeping in zip(self._workers, self._tasks, strict=False):
            waits = [asyncio.create_task(each.wait()) for each in (worker.listening, worker.ended)]
            await asyncio.wait([*waits, keeping], return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if keeping.done():
                keeping.result()
            if not worker.listening.is_set():
                raise GatewayError(worker.unable or f"The receiver {worker.number} ended before it listened.")

    async def stop(self) -> None:
        """Close the listeners, let the receivers finish what was read, end them."""
        self._stopping = True
        for listener in self._listeners:
            listener.close()
        for worker in self._workers:
            worker.say(words.Stop())
        keeping, looking = self._tasks[: len(self._workers)], self._tasks[len(self._workers) :]
        if keeping:
            await asyncio.wait(keeping, timeout=STOP_SECS)
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is None:
                log.error("A receiver did not stop in time and is ended.", worker=worker.number)
                worker.process.kill()
        if keeping:
            await asyncio.wait(keeping)
        for task in looking:
            task.cancel()

    def sources(self) -> dict[str, dict[str, Any]]:
        """Return how the sources of all receivers stand, added up."""
        sums: dict[str, Counter[str]] = {"http": Counter(connections=0)}
        for worker in self._workers:
            for name, figures in worker.live.items():
                sums.setdefault(name, Counter()).update(figures)
        return {name: dict(figures) for name, figures in sums.items()}

    def status(self) -> list[dict[str, Any]]:
        """Return each receiver's process, open connections and events in all."""
        return [
            {
                "pid": worker.process.pid if worker.process is not None and worker.listening.is_set() else None,
                "connections": sum(map(worker.connections, worker.live)),
                "events": total(worker.folder.counts).received,
            }
            for worker in self._workers
        ]

    async def _keep(self, worker: Worker) -> None:
        """Start a receiver, and again whenever it ends."""
        while not self._stopping:
            worker.started = time.monotonic()
            try:
                await self._run(worker)
            except OSError as error:  # no process, no descriptors
                worker.unable = f"The receiver {worker.number} cannot be started ({error.strerror})."
            worker.ended.set()
            worker.live = {}
            self._tell_others()
            if self._stopping:
                return
            worker.folder.failure = worker.unable
            code = worker.process.returncode if worker.process is not None else None
            log.error(
                f"The receiver {worker.number} ended: another one takes its place and its folder.",
                exit=code, why=worker.unable,
            )  # fmt: skip
            if time.monotonic() - worker.started < AGAIN_SECS:
                await asyncio.sleep(AGAIN_SECS)

    async def _run(self, worker: Worker) -> None:
        """Start a process and return when it has ended."""
        loop = asyncio.get_running_loop()
        control, its_control = socket.socketpair()
        calls, its_calls = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for mine in (control, calls):
            mine.setblocking(False)
        worker.listening.clear()
        worker.ended.clear()
        worker.unable = None
        worker.appended = worker.granted = 0
        worker.opened = False
        lost = asyncio.Event()
        channel = worker.channel = Channel(lambda word: self._hear(worker, word), lost.set)
        answering: Answering | None = None
        with its_control, its_calls:
            inherited = [each.fileno() for each in (its_control, its_calls, *self._listeners)]
            worker.process = self._spawned(worker.number, inherited)
        try:
            await loop.create_unix_connection(lambda: channel, sock=control)
            assert self._application is not None  # noqa: S101 - `start` sets it
            answering = Answering(calls, self._application)
            channel.say(words.Begin(self._pickled, len(self._workers)))
            await lost.wait()
        finally:
            worker.channel = None
            if answering is None:
                calls.close()
            else:
                answering.close()
            if worker.unable is None and not self._stopping:
                worker.process.kill()  # it may have closed the channel alone
            await asyncio.to_thread(worker.process.wait)

    def _spawned(self, number: int, inherited: list[int]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "gateway.workers.receiver", *map(str, (os.getpid(), number, *inherited))]
        descriptors = (*inherited, self._lock)  # it holds the lock, too: nobody else begins while it writes
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=descriptors)  # noqa: S603 - ourselves

    def _hear(self, worker: Worker, word: Word) -> None:
        match word:
            case words.Wrote(closed, end, counts, appended):
                worker.appended = appended
                worker.folder.moved(closed, end, counts)
                self._grant()
            case words.Opened(closed, end, counts):
                worker.opened = True
                worker.folder.moved(closed, end, counts)
                self._grant(also=worker)
            case words.Live(sources, failure):
                worker.live = sources
                worker.folder.failure = failure
                self._tell_others()
            case words.Listening():
                worker.listening.set()
                self._tell_others()
            case words.Metrics(risen):
                self._telemetry.add(risen)
            case words.Logged(name, level, said):
                event = said.pop("event", "")
                structlog.get_logger(name).log(level, event, worker=worker.number, **said)
            case words.Spent():
                for other in self._workers:
                    if other is not worker and other.opened:  # before that it cannot count
                        other.say(word)
            case words.Unable(why):
                worker.unable = why

    def _grant(self, also: Worker | None = None) -> None:
        """Divide the room that the spool has; tell those whose part is far from it."""
        own = self._folders.own
        part = own.room() // len(self._workers)
        why = None if part else own.why_no_more()
        for worker in self._workers:
            left = worker.granted - worker.appended
            if not worker.opened:
                continue
            is_as_told = part * 3 // 4 <= left <= part * 5 // 4 and why in (None, worker.why)
            if worker is also or not is_as_told:
                worker.granted = worker.appended + part
                worker.why = why or own.why_no_more()
                worker.say(words.Grant(worker.granted, worker.why))

    def _tell_others(self) -> None:
        """Tell each receiver of the others' connections."""
        working = [worker for worker in self._workers if worker.listening.is_set() and worker.channel is not None]
        names = {name for worker in working for name in worker.live}
        sums = {name: sum(worker.connections(name) for worker in working) for name in names}
        for worker in working:
            elsewhere = {name: sums[name] - worker.connections(name) for name in names}
            worker.say(words.Others(elsewhere, len(working)))

    async def _look(self) -> None:
        """Give out what became free, and look at the disk."""
        due = 0.0
        while True:
            await asyncio.sleep(LOOK_SECS)
            self._grant()
            if time.monotonic() >= due:
                self._folders.own.look_at_disk()
                due = time.monotonic() + DISK_SECS
