"""What a model server or a training job uses."""

from __future__ import annotations

import atexit
import logging
import os
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway_client.connection import Connection
from gateway_client.encoding import encode
from gateway_client.errors import CLOSED, ClientClosed
from gateway_client.outbox import Outbox, Rejection
from gateway_client.stats import Stats
from gateway_client.worker import Worker

log = logging.getLogger("gateway_client")
EXIT_SECS = 3.0
_clients: set[Client] = set()


class Client:
    """Sends events in the background and keeps each until the gateway has it on disk. Thread-safe.

    ``key`` is one of the gateway's `http.api_keys`, where TCP needs one. ``tls`` is for its TLS port, such as
    `ssl.create_default_context()`. In memory at most ``max_bytes`` of events wait; then they go to the file
    ``overflow``, which a next process finds, up to ``overflow_max_bytes``; then `send` waits ``full_secs`` for room.
    ``on_rejected`` is called in the background with an event that the gateway refused, and a mapping with `path`,
    `rule` and `message`; without it each rule and path is told once in the log, by the logger `gateway_client`.
    OSError when the overflow file cannot be had. After a fork the child has a client of its own, without the
    parent's events.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 5001,
        *,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
        max_bytes: int = 32 * 1024 * 1024,
        overflow: str | os.PathLike[str] | None = None,
        overflow_max_bytes: int = 1024 * 1024 * 1024,
        full_secs: float = 5.0,
        on_rejected: Callable[[dict[str, Any], Rejection], object] | None = None,
    ) -> None:
        path = None if overflow is None else Path(overflow).absolute()
        self._full_secs = full_secs
        self._on_rejected = on_rejected
        self._connect = partial(Connection, host, port, key, tls)
        self._new_outbox = partial(Outbox, max_bytes, path, overflow_max_bytes)
        self._closed = False
        self._starting = threading.RLock()  # a signal handler may send too
        self._outbox: Outbox | None = self._new_outbox()
        self._worker: Worker | None = None
        _clients.add(self)
        if not self._outbox.wait_empty(0):  # what an earlier process left
            self._started()

    def send(self, event: Mapping[str, Any]) -> None:
        """Take an event and return at once; the mapping stays as it is.

        It gets an `event_id` and a `timestamp` (UTC, now) where it has none. TypeError or ValueError: JSON cannot
        hold it, such as NaN; NumPy's and PyTorch's scalars are taken as numbers. `ClientFull`: there was no room
        within `full_secs`. `ClientClosed`: after `close`.
        """
        self._put(encode(event), self._full_secs)

    def flush(self, timeout: float = 10.0) -> bool:
        """Return whether all that was sent is acknowledged, as soon as it is, after ``timeout`` seconds at most."""
        outbox, worker = self._outbox, self._worker
        if outbox is None or outbox.wait_empty(0):
            return True
        if worker is None or worker.is_current:
            return False
        worker.hurry()
        return outbox.wait_empty(timeout)

    def close(self, timeout: float = 10.0) -> bool:
        """Send what is left, for ``timeout`` seconds at most; return whether nothing is lost.

        What is not acknowledged by then goes into the overflow file; without one it is lost, and told in the log.
        """
        if self._closed:
            return True
        try:
            self.flush(timeout)
        finally:
            with self._starting:
                self._closed = True
                outbox, worker = self._outbox, self._worker
            _clients.discard(self)
            if worker is not None:
                worker.stop(min(timeout, 1.0))
            lost = 0 if outbox is None else outbox.close()
        if lost:
            why = worker.last_error if worker else None
            log.error("%d events are lost: they were not acknowledged before the client closed. %s", lost, why or "")
        return not lost

    @property
    def stats(self) -> Stats:
        """The books of this client, all of one moment."""
        outbox, worker = self._outbox, self._worker
        if outbox is None:
            return Stats()
        connected, last_error = (False, None) if worker is None else (worker.connected, worker.last_error)
        return outbox.stats(connected=connected, last_error=last_error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _put(self, line: bytes, wait_secs: float) -> None:
        outbox, worker = self._started()
        # The thread that sends cannot wait for itself, when on_rejected sends.
        outbox.put(line, 0 if worker.is_current else wait_secs)

    def _lose(self) -> None:
        """Count an event that `_put` had no room for."""
        self._started()[0].lose()

    def _started(self) -> tuple[Outbox, Worker]:
        """Return outbox and thread, which begin with the first event."""
        outbox, worker = self._outbox, self._worker
        if outbox is not None and worker is not None:
            return outbox, worker
        with self._starting:
            if self._closed:
                raise ClientClosed(CLOSED)
            if self._outbox is None:
                self._outbox = self._new_outbox()
            if self._worker is None:
                self._worker = Worker(self._outbox, self._connect, self._on_rejected)
                _close_with_child(self)
            return self._outbox, self._worker

    def _after_fork(self) -> None:
        """Begin anew in a child process: what waits is the parent's, which sends it."""
        outbox, worker = self._outbox, self._worker
        self._outbox = self._worker = None
        self._starting = threading.RLock()
        with suppress(OSError):  # a file that was being closed at that moment
            if worker is not None:
                worker.forget()
            if outbox is not None:
                outbox.forget()


def _close_with_child(client: Client) -> None:
    """Have a process of `multiprocessing` close its client: it ends without what `atexit` knows."""
    if "multiprocessing.util" in sys.modules:
        from multiprocessing import parent_process, util

        if parent_process() is not None:
            util.Finalize(None, client.close, kwargs={"timeout": EXIT_SECS}, exitpriority=10)


def _close_all() -> None:
    for client in list(_clients):
        client.close(EXIT_SECS)


def _after_fork() -> None:
    for client in list(_clients):
        client._after_fork()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)
