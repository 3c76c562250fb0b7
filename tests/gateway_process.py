"""The gateway as a process of its own, as its users run it, for tests that kill, stop and restart it."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.elasticsearch_node.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
SCRUBBED = ("GATEWAY_", "ELASTICSEARCH_")
KEPT = ("GATEWAY_WORKERS", "GATEWAY_DECODER")  # of the caller's environment: every test's gateway runs with them
POLL_SECS = 0.05
TAIL_LINES = 40


class GatewayError(AssertionError):
    """The gateway did not do in time what a test waited for; the message ends with what it last wrote."""


class Gateway:
    """``python -m gateway serve`` with its data, settings file and output in ``folder``, on free ports.

    Of the caller's own ``GATEWAY_*`` and ``ELASTICSEARCH_*`` variables only `KEPT` reach it; those in ``env``
    do. ``config`` is the settings file: YAML text, or a mapping. ``restart`` keeps ports and data.
    """

    def __init__(
        self,
        folder: Path,
        *,
        data_dir: Path | None = None,
        env: Mapping[str, str] | None = None,
        config: str | Mapping[str, Any] | None = None,
        args: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.data_dir = (data_dir or self.folder / "data").resolve()
        self.config_file: Path | None = None
        if config is not None:
            self.config_file = self.folder / "gateway.yaml"
            text = config if isinstance(config, str) else json.dumps(config)  # JSON is YAML
            self.config_file.write_text(text, encoding="utf-8")
        self.env = {"GATEWAY_TCP__PORT": str(free_port()), "GATEWAY_HTTP__PORT": str(free_port())}
        self.env.update({name: os.environ[name] for name in KEPT if name in os.environ})
        self.env.update(env or {})
        self.program = [sys.executable, "-m", "gateway"]
        self.args = list(args)
        self.log = self.folder / "output.txt"
        # No connection is kept, so that none outlives the process it led to.
        self.http = httpx.Client(
            base_url=self.url,
            timeout=30,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[int] = []

    @property
    def tcp_port(self) -> int:
        """The port of the TCP listener."""
        return int(self.env["GATEWAY_TCP__PORT"])

    @property
    def http_port(self) -> int:
        """The port of the HTTP listener."""
        return int(self.env["GATEWAY_HTTP__PORT"])

    @property
    def url(self) -> str:
        """The address of the HTTP listener."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the last process started."""
        return self._started().pid

    @property
    def pids(self) -> list[int]:
        """The process ids of the last gateway started: its own, and those of its receivers."""
        receivers = [each["pid"] for each in self.status()["workers"]]
        return sorted({self.pid, *(pid for pid in receivers if pid is not None)})

    @property
    def exit_code(self) -> int | None:
        """The exit code of the last process, negative for a signal; None while it runs."""
        return self._started().poll()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the process, with which other words of `gateway` find it."""
        inherited = {key: value for key, value in os.environ.items() if not key.upper().startswith(SCRUBBED)}
        path = os.pathsep.join(filter(None, (str(ROOT), inherited.get("PYTHONPATH"))))
        return inherited | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | self.env

    def start(self) -> None:
        """Start the process; ``wait_ready`` says when it serves."""
        if self.running:
            raise GatewayError("the gateway runs already")
        command = [*self.program, "serve", "--data-dir", str(self.data_dir)]
        if self.config_file is not None:
            command += ["--config", str(self.config_file)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self.args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,  # a gateway.yaml or data folder of the working copy is not this one's
                env=self.environment,
                start_new_session=True,
            )
        self._groups.append(self._process.pid)

    def wait_ready(self, timeout: float = 30) -> None:
        """Return when ``GET /ready`` says 200; raise GatewayError when it does not, or the process ended."""
        deadline = time.monotonic() + timeout
        last = "no answer"
        while time.monotonic() < deadline:
            self._fail_if_ended()
            try:
                response = self.http.get("/ready", timeout=5)
            except httpx.TransportError as error:
                last = repr(error)
            else:
                if response.status_code == httpx.codes.OK:
                    return
                last = f"{response.status_code} {response.text[:500]}"
            time.sleep(POLL_SECS)
        raise self._error(f"the gateway was not ready within {timeout:g} s: {last}")

    def connect_tcp(self, timeout: float = 30) -> socket.socket:
        """Return a connection to the TCP listener, for what ``send_tcp`` does not do: resets, pauses."""
        return socket.create_connection(("127.0.0.1", self.tcp_port), timeout)

    def send_tcp(self, lines: bytes, timeout: float = 30) -> bytes:
        """Send bytes over one connection, end it, and return what came back until the gateway closed it.

        Acknowledgements are read while sending, since who does not read them is no longer read from. A
        gateway that refuses says so, ends its side and reads on for a while: the rest is sent all the same.
        TimeoutError when neither side moves for ``timeout``; ConnectionError when it closed with bytes unsent.
        """
        unsent = memoryview(lines)
        answer = bytearray()
        said_all = False
        with self.connect_tcp(timeout) as connection:
            connection.setblocking(False)
            if not unsent:
                connection.shutdown(socket.SHUT_WR)
            while True:
                readers = [] if said_all else [connection]
                writers = [connection] if unsent else []
                readable, writable, _ = select.select(readers, writers, [], timeout)
                if not readable and not writable:
                    raise TimeoutError(f"{len(unsent)} bytes unsent, {len(answer)} received: nothing moves")
                if writable:
                    with contextlib.suppress(BlockingIOError):
                        unsent = unsent[connection.send(unsent[:262_144]) :]
                    if not unsent:
                        connection.shutdown(socket.SHUT_WR)
                if readable:
                    received = connection.recv(65_536)
                    answer += received
                    said_all = not received
                if said_all and not unsent:
                    return bytes(answer)

    def status(self) -> dict[str, Any]:
        """Return the JSON of ``GET /status``."""
        response = self.http.get("/status")
        response.raise_for_status()
        status: dict[str, Any] = response.json()
        return status

    def wait_until(self, predicate: Callable[[dict[str, Any]], bool], timeout: float = 15) -> dict[str, Any]:
        """Poll ``/status`` until the predicate holds for it; return that status.

        A field that is not there yet (KeyError) and a ``/status`` that does not answer are waited out.
        """
        deadline = time.monotonic() + timeout
        last: object = "no answer"
        while True:
            self._fail_if_ended()
            try:
                status = self.status()
            except httpx.HTTPError as error:
                last = repr(error)
            else:
                last = status
                with contextlib.suppress(KeyError):
                    if predicate(status):
                        return status
            if time.monotonic() > deadline:
                raise self._error(f"what was waited for did not come within {timeout:g} s; status: {last}")
            time.sleep(POLL_SECS)

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self._started().send_signal(number)

    def kill(self) -> None:
        """End the process with SIGKILL and wait until it is gone."""
        process = self._started()
        process.kill()
        process.wait()

    def stop(self, timeout: float = 20) -> int:
        """End the process with SIGTERM; return its exit code. One that stays is killed: GatewayError."""
        process = self._started()
        process.terminate()
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._error(f"the gateway did not stop within {timeout:g} s of SIGTERM") from None

    def restart(self, *, env: Mapping[str, str] | None = None, timeout: float = 30) -> None:
        """Start again on the same ports and data, stopping first what still runs; return when ready.

        ``env`` changes single settings from now on.
        """
        if self.running:
            self.stop()
        self.env.update(env or {})
        self.http.base_url = self.url
        self.start()
        self.wait_ready(timeout)

    def wait_output(self, text: str, timeout: float = 30) -> None:
        """Return when the process has written ``text``; raise GatewayError when it does not, or it ended."""
        deadline = time.monotonic() + timeout
        while text not in self.output():
            self._fail_if_ended()
            if time.monotonic() > deadline:
                raise self._error(f"the gateway did not write {text!r} within {timeout:g} s")
            time.sleep(POLL_SECS)

    def output(self) -> str:
        """Return all that the process and its predecessors wrote to stdout and stderr."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def output_tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines of the output."""
        return "\n".join(self.output().splitlines()[-lines:])

    def close(self) -> None:
        """End what still runs of it, its workers included."""
        if self.running:
            self.kill()
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self._groups.clear()
        self.http.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise GatewayError("the gateway was not started")
        return self._process

    def _fail_if_ended(self) -> None:
        if (code := self.exit_code) is not None:
            raise self._error(f"the gateway ended with exit code {code}")

    def _error(self, message: str) -> GatewayError:
        return GatewayError(f"{message}\nThe end of {self.log}:\n{self.output_tail() or '(nothing)'}")


class GatewayFactory:
    """Starts gateways below a folder and ends every process of theirs at ``close``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gateways: list[Gateway] = []

    def __call__(
        self,
        *,
        data_dir: Path | None = None,
        env: Mapping[str, str] | None = None,
        config: str | Mapping[str, Any] | None = None,
        args: Sequence[str] = (),
        start: bool = True,
        ready: bool = True,
    ) -> Gateway:
        """Return a gateway that is ready, with ``ready=False`` one that starts, ``start=False`` neither."""
        folder = self._folder / f"gateway-{len(self._gateways) + 1}"
        gateway = Gateway(folder, data_dir=data_dir, env=env, config=config, args=args)
        self._gateways.append(gateway)
        if start:
            gateway.start()
            if ready:
                gateway.wait_ready()
        return gateway

    def close(self) -> None:
        """End every gateway; leave the end of its output to the report of a test that failed."""
        for gateway in reversed(self._gateways):
            gateway.close()
            sys.stdout.write(f"The end of {gateway.log}:\n{gateway.output_tail()}\n")
        self._gateways.clear()
