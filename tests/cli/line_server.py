"""A stand-in for the gateway's TCP port, and `gateway generate` run against it."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
import typer
from typer.testing import CliRunner, Result

from gateway.cli.generate import generate

app = typer.Typer()
app.command()(generate)


class Server:
    """A TCP server that keeps every line and the time it came; `behave` replaces its reading."""

    def __init__(self, behave: Callable[[socket.socket], None] | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._behave = behave or self._read
        self.port: int = self._listener.getsockname()[1]
        self.data = b""
        self.times: list[float] = []
        self.first = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return
        with peer:
            self._behave(peer)

    def _read(self, peer: socket.socket) -> None:
        while data := peer.recv(65536):
            self.data += data
            self.times.extend([time.monotonic()] * data.count(b"\n"))
            self.first.set()

    def events(self) -> list[dict[str, Any]]:
        assert self.data.endswith(b"\n")
        return [orjson.loads(line) for line in self.data.splitlines()]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


def run(*words: str, port: int | None = None) -> Result:
    """Run `gateway generate` with these words."""
    return CliRunner().invoke(app, [*words, *(("--port", str(port)) if port else ())])
