"""JSON lines to the gateway.

What was sent counts as arrived when the gateway, having read to the end, closes the connection; plain
TCP tells no more. Where a key is required it is acknowledged, which is not looked at here.
"""

import json
import select
import socket
import time
from contextlib import suppress

_CONNECT_SECS = 5.0
_STALLED_SECS = 30.0
_CLOSE_SECS = 5.0
_START_IT = "start the gateway with `make run` or `gateway serve`"


class SendError(Exception):
    """The gateway cannot be reached or did not take everything; the text is one sentence for the user."""


class Away(SendError):
    """The gateway is not there, or is no more: it may come back."""


class Stalled(SendError):
    """The gateway takes nothing now: it may later."""


class Connection:
    """A connection to the gateway; every failure is a `SendError`."""

    def __init__(self, host: str, port: int, hello: bytes = b"") -> None:
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._rest = b""
        try:
            self._socket = socket.create_connection((host, port), timeout=_CONNECT_SECS)
        except OSError as error:
            reason = error.strerror or str(error)
            raise Away(
                f"{self.address} cannot be reached ({reason}), 0 events were sent: {_START_IT}, then try again."
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(_STALLED_SECS)
        self.send(hello, 0)

    waited = 0.0
    """Seconds that were spent waiting for the gateway: none, it ends with an error."""

    def send(self, lines: bytes, sent: int) -> bool:
        """Send whole lines; `sent` is what was sent before them, for the error. True: they were.

        What is left of them when it raises `Stalled` goes first when more is sent.
        """
        self._rest += lines
        try:
            # A gateway that has closed its side reads no more, yet TCP would take some more lines for it.
            while select.select([self._socket], [], [], 0)[0]:
                if not self._hear():
                    raise ConnectionResetError
            while self._rest:
                self._rest = self._rest[self._socket.send(self._rest) :]
        except TimeoutError as error:
            raise Stalled(
                f"{self.address} has taken nothing for {_STALLED_SECS:g} s, after {sent:,} events sent: "
                "see in its log or on /status what holds it up."
            ) from error
        except OSError as error:
            raise self._lost(sent) from error
        return True

    def finish(self, sent: int) -> None:
        """Say that no more comes, and wait until the gateway, having read it all, closes its side too."""
        deadline = time.monotonic() + _CLOSE_SECS
        try:
            self.send(b"", sent)
            self._socket.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if not self._hear():
                    return
            raise TimeoutError
        except TimeoutError as error:
            raise SendError(
                f"{self.address} has not closed the connection within {_CLOSE_SECS:g} s, so it is not known "
                f"whether all of the {sent:,} events sent have arrived: see in its log or on /status."
            ) from error
        except OSError as error:
            raise self._lost(sent) from error

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()

    def _hear(self) -> bytes:
        """Receive what the peer says. The TCP port says nothing; a port for HTTP answers anything in HTTP."""
        data = self._socket.recv(65536)
        if data.startswith(b"HTTP/"):
            raise SendError(
                f"{self.address} speaks HTTP, not JSON lines: use the TCP port (5001, unless tcp.port is set)."
            )
        if data.startswith(b'{"ack":"refused"'):
            raise SendError(f"{self.address} takes nothing: {json.loads(data)['message']}")
        return data

    def _lost(self, sent: int) -> Away:
        with suppress(OSError):
            self._socket.settimeout(0)
            self._hear()  # what it said before it closed
        return Away(
            f"{self.address} has closed the connection after {sent:,} events sent, the last of them may be "
            f"lost: {_START_IT}, then try again."
        )
