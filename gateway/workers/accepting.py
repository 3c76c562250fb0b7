"""Accepts from a socket that several processes listen on, so that each gets its share of the connections."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

import structlog

from gateway.sources.listening import HANDSHAKE_SECS

log = structlog.get_logger(__name__)
PAUSE_SECS = 0.05  # in which the others may take what comes, before this process does after all
EXHAUSTED_SECS = 0.5
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Share:
    """How many connections of a source this process has, and the others."""

    def __init__(self, mine: Callable[[], int]) -> None:
        self._mine = mine
        self.coming = 0  # accepted, and not counted yet
        self.elsewhere = 0
        self.receivers = 1
        self.accepting: list[Accepting] = []

    @property
    def is_reached(self) -> bool:
        """Whether another process is to take the next one, if it can."""
        mine = self._mine() + self.coming
        everywhere = mine + self.elsewhere
        return mine >= everywhere // self.receivers + 1 + everywhere // 16

    def heard(self, elsewhere: int, receivers: int) -> None:
        """Take note of the others."""
        self.elsewhere, self.receivers = elsewhere, receivers
        if not self.is_reached:
            for each in self.accepting:
                each.resume()


class Accepting:
    """Accepts from one socket; `pause`d when the share is reached, but never for long."""

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], Any],
        context: ssl.SSLContext | None,
        share: Share,
        accepted: Callable[[], None],
    ) -> None:
        """``accepted`` is called after each connection."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._protocol = protocol
        self._handshake: dict[str, Any] = (
            {} if context is None else {"ssl": context, "ssl_handshake_timeout": HANDSHAKE_SECS}
        )
        self._share = share
        self._accepted = accepted
        self._waited = False
        self._pause: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        share.accepting.append(self)
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Accept nothing more."""
        self._share.accepting.remove(self)
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def pause(self, secs: float) -> None:
        """Accept nothing for a while."""
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(secs, self.resume)

    def resume(self) -> None:
        """Accept again."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        if self._share.is_reached and not self._waited:
            self._waited = True
            self.pause(PAUSE_SECS)
            return
        self._waited = False
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                log.error("No connection can be accepted now.", error=str(error))
                self.pause(EXHAUSTED_SECS)
            return  # else another process was faster, or the client has gone
        connection.setblocking(False)
        self._share.coming += 1
        task = self._loop.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection, **self._handshake)
        except (OSError, ssl.SSLError):  # a handshake that failed, a client that has gone
            connection.close()
        finally:
            self._share.coming -= 1
            self._accepted()
