"""A connection that outlasts the gateway: it waits while that is away, and goes on when it is back."""

import time
from collections.abc import Callable

from gateway.cli.generate.connection import Away, Connection, Stalled
from gateway.cli.generate.run import Stop

_RETRY_SECS = 0.5
_STEADY_SECS = 1.0
"""A connection that lasted so long is one: a gateway that closes each at once is not back."""


class Lasting:
    """Sends as `Connection` does, but ends only when it is to `stop`; trouble, and its end, are told once."""

    def __init__(
        self, connection: Connection, connect: Callable[[], Connection], stop: Stop, tell: Callable[[str], None]
    ) -> None:
        """Begin with a connection; ``connect`` makes another one."""
        self._connection, self._connect, self._stop, self._tell = connection, connect, stop, tell
        self._began = time.monotonic()
        self._is_there = True
        self._trouble: type[Exception] | None = None
        self.waited = 0.0
        """Seconds that were spent waiting."""

    def send(self, lines: bytes, sent: int) -> bool:
        """Send whole lines, as `Connection.send`; say whether they were sent, or it stopped before.

        Those that the gateway may have had when it went are sent again: it knows them by their ids.
        """
        rest, since = lines, None
        while not self._stop.is_set():
            try:
                self._connection.send(rest, sent)
            except Stalled as error:
                self._note(error, f"{error} Waiting, Ctrl-C ends.")
                since = since or time.monotonic()
                rest = b""
            except Away as error:
                self._note(
                    error,
                    f"The gateway at {self._connection.address} is away after {sent:,} events sent, the last of them "
                    "may be lost: waiting for it, Ctrl-C ends.",
                )
                since = since or time.monotonic()
                self._again()
                rest = lines
            else:
                self._settle()
                self.waited += 0.0 if since is None else time.monotonic() - since
                return True
        return False

    def finish(self, sent: int) -> None:
        """Say that no more comes; when the gateway is away there is nobody to hear it."""
        if self._is_there:
            self._connection.finish(sent)

    def close(self) -> None:
        """Release the socket."""
        self._connection.close()

    def _note(self, error: Exception, text: str) -> None:
        if self._trouble is None:
            self._tell(text)
        self._trouble = type(error)

    def _again(self) -> None:
        self._connection.close()
        self._is_there = False
        while not self._stop.is_set():
            self._stop.wait(_RETRY_SECS)
            try:
                self._connection, self._began, self._is_there = self._connect(), time.monotonic(), True
                return
            except Away:
                pass

    def _settle(self) -> None:
        if self._trouble is Stalled:
            self._tell(f"{self._connection.address} takes events again.")
        elif self._trouble is Away and time.monotonic() - self._began >= _STEADY_SECS:
            self._tell(f"Connected to {self._connection.address} again.")
        else:
            return
        self._trouble = None
