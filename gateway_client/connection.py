"""One connection to the gateway's TCP port that was answered its hello."""

from __future__ import annotations

import encodings.idna  # noqa: F401 - a host is read with it; a fork while a thread imports it leaves the child without
import json
import socket
import ssl
import time
from typing import Any

CONNECT_SECS = 5.0
HELLO_SECS = 10.0
_READ_BYTES = 64 * 1024
_WRITE_BYTES = 256 * 1024
_MESSAGE_BYTES = 16 * 1024 * 1024  # 100 rejections of some kilobytes, and room
_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Trouble(Exception):
    """Nothing can be sent for now; the text says why, in a sentence."""


class Refused(Trouble):
    """Nothing will be taken before somebody mends something: to try again soon is of no use."""


class Connection:
    """Lines go, messages come; nothing waits but the beginning."""

    def __init__(self, host: str, port: int, key: str | None, tls: ssl.SSLContext | None) -> None:
        """Connect and say hello; raise `Trouble` or `Refused`. Takes `CONNECT_SECS` and `HELLO_SECS` at most."""
        self._name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._read = b""
        self._ended = False
        self.unsent = memoryview(b"")
        try:
            self.socket = socket.create_connection((host, port), CONNECT_SECS)
        except OSError as error:
            raise Trouble(f"{self._name} cannot be reached ({_reason(error)}): is the gateway running?") from None
        try:
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket, server_hostname=host)
            self._keep_alive()
            self._greet(key)
        except OSError as error:
            self.close()
            hint = "does the port speak TLS?" if tls is None else "is it the gateway's TLS port?"
            raise Trouble(f"{self._name} did not answer the hello ({_reason(error)}): {hint}") from None
        except BaseException:
            self.close()
            raise
        self.socket.setblocking(False)

    def send(self) -> bool:
        """Send what is `unsent`, as far as it goes at once; return whether anything went."""
        left = len(self.unsent)
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent[:_WRITE_BYTES]) :]
        except _LATER:
            pass
        except OSError as error:
            raise self._lost(error) from None
        return len(self.unsent) < left

    def receive(self) -> list[dict[str, Any]]:
        """Return the messages that are there; raise `Trouble` when there are none and will be none."""
        try:
            while not self._ended and len(self._read) <= _MESSAGE_BYTES:
                data = self.socket.recv(_READ_BYTES)
                self._read += data
                self._ended = not data
        except _LATER:
            pass
        except OSError as error:
            raise self._lost(error) from None
        *lines, self._read = self._read.split(b"\n")
        if len(self._read) > _MESSAGE_BYTES:
            raise Trouble(f"{self._name} answers without end: it is not the gateway.")
        if self._ended and not lines:
            raise Trouble(f"{self._name} closed the connection: the gateway has stopped, or was started again.")
        return [self._message(line) for line in lines]

    def close(self) -> None:
        """Release the socket."""
        self.socket.close()

    def _greet(self, key: str | None) -> None:
        hello = {"ack": True} if key is None else {"ack": True, "key": key}
        self.socket.settimeout(HELLO_SECS)
        self.socket.sendall(json.dumps(hello).encode() + b"\n")
        deadline = time.monotonic() + HELLO_SECS
        while b"\n" not in self._read and len(self._read) < _READ_BYTES:
            try:
                self.socket.settimeout(max(0.001, deadline - time.monotonic()))
                data = self.socket.recv(_READ_BYTES)
            except TimeoutError:
                raise Refused(
                    f"{self._name} did not answer the hello within {HELLO_SECS:g} s: what listens there acknowledges "
                    "nothing (Logstash, or an older gateway)."
                ) from None
            if not data:
                raise ConnectionResetError("it closed the connection")
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        said = self._message(line)
        if said.get("ack") == "refused":
            raise Refused(f"{self._name} refused the connection: {said.get('message')}")
        if said.get("ack") != "ready":
            raise self._stranger(line)

    def _keep_alive(self) -> None:
        """Have the system notice a machine that is gone, within about a minute."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                self.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def _message(self, line: bytes) -> dict[str, Any]:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise self._stranger(line)
        return message

    def _stranger(self, line: bytes) -> Refused:
        text = line[:60].decode(errors="replace")
        return Refused(
            f"{self._name} answered {text!r}: it is not the gateway's TCP port (5001, unless tcp.port is set)."
        )

    def _lost(self, error: OSError) -> Trouble:
        return Trouble(f"{self._name} broke the connection ({_reason(error)}).")


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "verify_message", None) or error.strerror or str(error)
