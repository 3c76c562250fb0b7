"""The thread that sends what is in the outbox, and hears what became of it."""

from __future__ import annotations

import logging
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gateway_client.connection import Connection, Refused, Trouble
from gateway_client.encoding import decode
from gateway_client.outbox import Outbox, ProtocolError, Rejection

log = logging.getLogger("gateway_client")
FIRST_PAUSE_SECS = 0.1
LONGEST_PAUSE_SECS = 10.0
REFUSED_PAUSE_SECS = 60.0
SLOW_SECS = 2.0  # without an acknowledgement, until `last_error` says so
SILENCE_SECS = 60.0  # until the connection is given up
SAID_AGAIN_SECS = 60.0
BATCH_BYTES = 256 * 1024
MAX_BYTES_ON_THE_WAY = 4 * 1024 * 1024
MAX_RULES = 100  # told of in the log


class Worker:
    """Runs until it is stopped, whatever happens; keeps no lock while it waits."""

    def __init__(
        self,
        outbox: Outbox,
        connect: Callable[[], Connection],
        on_rejected: Callable[[dict[str, Any], Rejection], object] | None,
    ) -> None:
        self.last_error: str | None = "Not connected yet."
        self.connected = False
        self._outbox = outbox
        self._connect = connect
        self._on_rejected = on_rejected or self._tell_rejected
        self._rules: set[tuple[object, object]] = set()
        self._connection: Connection | None = None
        self._stopping = False
        self._hurried = False
        self._pause_secs = FIRST_PAUSE_SECS
        self._told_at = -SAID_AGAIN_SECS  # when the log was last told of trouble
        self._told = False  # of the trouble there is
        self._is_silent = False  # the gateway, which takes connections and acknowledges nothing
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        for end in (self._bell, self._ear):
            end.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ)
        outbox.wake = self.wake
        self._thread = threading.Thread(target=self._run, name="gateway_client", daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether it is this thread that asks."""
        return threading.current_thread() is self._thread

    def wake(self) -> None:
        """Have the thread look at once."""
        with suppress(OSError):  # full of calls already, or closed
            self._bell.send(b"!")

    def hurry(self) -> None:
        """Have it try now, and then often, rather than after a long pause."""
        self._hurried = True
        self._pause_secs = FIRST_PAUSE_SECS
        self.wake()

    def stop(self, timeout_secs: float) -> None:
        """End the thread, and wait for that."""
        self._stopping = True
        self.wake()
        if not self.is_current:
            self._thread.join(timeout_secs)

    def forget(self) -> None:
        """Let go of the parent's connection, in a child process, in which the thread does not run."""
        self._selector.close()
        self._bell.close()
        self._ear.close()
        if self._connection is not None:
            self._connection.close()

    def _run(self) -> None:
        while not self._stopping:
            refused = False
            try:
                self._hurried = False
                self._session()
            except Refused as error:
                refused = True
                self._trouble(str(error))
            except Trouble as error:
                self._trouble(str(error))
            except ProtocolError as error:
                self._trouble(f"What answers is not the gateway: {error}.")
            except Exception as error:  # whatever it is, the next attempt may go well
                self._trouble(f"{type(error).__name__}: {error}")
            if not self._stopping:
                self._outbox.again()
                self._rest(refused)
        self.forget()

    def _session(self) -> None:
        """Connect and send, until something is wrong or the end."""
        connection = self._connection = self._connect()
        try:
            self._selector.register(connection.socket, selectors.EVENT_READ)
            try:
                self.connected = True
                if not self._is_silent:
                    self._well()
                self._exchange(connection)
            finally:
                self._selector.unregister(connection.socket)
        finally:
            self.connected = False
            connection.close()

    def _exchange(self, connection: Connection) -> None:
        last = time.monotonic()
        while not self._stopping:
            if not connection.unsent and self._outbox.on_the_way < MAX_BYTES_ON_THE_WAY:
                connection.unsent = memoryview(b"".join(self._outbox.take(BATCH_BYTES)))
            if self._outbox.torn:
                self._outbox.torn = 0
                log.warning("The last line of the overflow file was not whole, and is lost: its process was cut short.")
            moved, heard = connection.send(), False
            for message in connection.receive():
                moved = heard = True
                self._pause_secs = FIRST_PAUSE_SECS
                if self.last_error is not None:
                    self._well()
                if refused := self._outbox.acknowledge(message):
                    for line, rejection in refused:
                        self._rejected(line, rejection)
                    self._outbox.told()
            if heard or not self._outbox.on_the_way:
                last = time.monotonic()
            elif (silent := time.monotonic() - last) > SLOW_SECS:
                self._is_silent = True
                self.last_error = (
                    f"The gateway has acknowledged nothing for {silent:.0f} s: see in its log or on /status "
                    "what holds it up."
                )
                if silent > SILENCE_SECS:
                    raise Trouble(self.last_error)
            if not moved:
                self._wait(connection)

    def _wait(self, connection: Connection) -> None:
        write = selectors.EVENT_WRITE if connection.unsent else 0
        self._selector.modify(connection.socket, selectors.EVENT_READ | write)
        self._selector.select(1.0)
        self._hear_bell()

    def _rest(self, refused: bool) -> None:
        """Wait before the next attempt, each time longer; less when somebody is in a hurry."""
        pause = REFUSED_PAUSE_SECS if refused else self._pause_secs
        self._pause_secs = min(LONGEST_PAUSE_SECS, self._pause_secs * 2)
        until = time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311 - so that not all come at once
        while not self._stopping and (left := until - time.monotonic()) > 0:
            if self._hurried and not refused:
                return
            self._selector.select(left)
            self._hear_bell()

    def _hear_bell(self) -> None:
        with suppress(BlockingIOError):
            while self._ear.recv(1024):
                pass

    def _well(self) -> None:
        self.last_error = None
        self._is_silent = False
        if self._told:
            log.info("The gateway is there again.")
        self._told = False

    def _trouble(self, sentence: str) -> None:
        if self._stopping:
            return
        self.last_error = sentence
        now = time.monotonic()
        if now - self._told_at >= SAID_AGAIN_SECS:
            self._told_at, self._told = now, True
            log.warning("%s Events wait in the client until the gateway acknowledges them.", sentence)

    def _rejected(self, line: bytes, rejection: Rejection) -> None:
        try:
            self._on_rejected(decode(line), rejection)
        except Exception:
            log.exception("on_rejected failed.")

    def _tell_rejected(self, event: dict[str, Any], rejection: Rejection) -> None:
        """Say once for each rule and path what is wrong."""
        rule = rejection.get("rule"), rejection.get("path")
        if rule in self._rules or len(self._rules) >= MAX_RULES:
            return
        self._rules.add(rule)
        log.warning(
            "The gateway refused an event and keeps it as a dead letter: %s, %s. Of more like it nothing is said. %s",
            rule[1], rule[0], rejection.get("message"),
        )  # fmt: skip
