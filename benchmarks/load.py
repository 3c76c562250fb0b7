"""The sender, a process of its own so that its work is not counted as the gateway's.

``python -m benchmarks.load JOB`` (a `Job` as JSON) makes ready all bytes that it will send, prints ``ready``, waits
for a line on standard input, sends, and prints `Sent` as JSON. Finished bytes are handed to the kernel in large
pieces, so that the sender is not what is measured.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
EVENTS_A_REQUEST = 1_000
EVENTS_A_BULK = 5_000
TICK_SECS = 0.001
HELLO = b'{"ack":true}\n'
ACTION = b'{"create":{"_index":"ml-metrics-2026.01.01"}}\n'
ID_AT, ID_DIGITS = len(b'{"event_id":"'), 32
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True)
class Job:
    """What to send: the lines of ``file`` to ``port``, with ``paced`` and ``paced ack`` at a ``rate`` for ``secs``."""

    kind: str
    port: int
    file: str
    connections: int = 4
    rate: int = 0
    secs: float = 0
    patience_secs: float = 60


@dataclass(frozen=True)
class Sent:
    """``secs`` until every connection was answered, and the CPU seconds of that time."""

    secs: float
    cpu_secs: float
    events: int
    delays_ms: dict[str, float] = field(default_factory=dict)
    """Of kind ``paced ack``: p50, p99 and the longest time from when an event was due to its acknowledgement."""


def _tcp(port: int, share: list[bytes], secs: float) -> Callable[[], None]:
    data = b"".join(share)

    def send() -> None:
        """Send all lines over one connection and wait until the gateway has closed it."""
        with socket.create_connection((HOST, port), secs) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass

    return send


def _acknowledged(port: int, share: list[bytes], secs: float) -> Callable[[], None]:
    data, count = HELLO + b"".join(share), len(share)

    def send() -> None:
        """Send all lines and read until the last one is acknowledged."""
        with socket.create_connection((HOST, port), secs) as connection, ThreadPoolExecutor(1) as pool:
            sending = pool.submit(connection.sendall, data)
            last = b""
            with connection.makefile("rb") as answers:
                for answer in answers:
                    last = answer
                    if json.loads(answer).get("acked") == count:
                        break
                else:
                    raise RuntimeError(f"not all of {count} lines were acknowledged, the last answer was {last!r}")
            sending.result()

    return send


def _requests(path: str, content_type: str, size: int, before: bytes = b"") -> Callable[..., Callable[[], None]]:
    """Return what sends requests of ``size`` lines, one after the other over one connection."""

    def prepare(port: int, share: list[bytes], secs: float) -> Callable[[], None]:
        requests = []
        for first in range(0, len(share), size):
            part = share[first : first + size]
            body = b"".join(before + line for line in part)
            requests.append((request(path, content_type, body), b'"accepted":%d,' % len(part)))

        def send() -> None:
            with socket.create_connection((HOST, port), secs) as connection:
                for data, said in requests:
                    connection.sendall(data)
                    answer = _answer(connection)
                    if not answer.startswith(b"HTTP/1.1 200") or (not before and said not in answer):
                        raise RuntimeError(f"{said!r} was expected: {answer[:500]!r}")

        return send

    return prepare


def request(path: str, content_type: str, body: bytes) -> bytes:
    """Return a POST as bytes."""
    head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}"
    return head.encode() + _END_OF_HEAD + body


def _answer(connection: socket.socket) -> bytes:
    """Read one answer whose length is told."""
    received = b""
    while True:
        head, found, body = received.partition(_END_OF_HEAD)
        if found:
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(body) >= length:
                return received
        if not (more := connection.recv(262_144)):
            raise RuntimeError(f"the connection ended after {received[:500]!r}")
        received += more


SEND = {
    "tcp": _tcp,
    "ack": _acknowledged,
    "http": _requests("/v1/events", "application/x-ndjson", EVENTS_A_REQUEST),
    "bulk": _requests("/_bulk?filter_path=errors", "application/x-ndjson", EVENTS_A_BULK, ACTION),
}


def paced(job: Job, made: list[bytes]) -> int:
    """Send by schedule: each event says when it was due, whether or not it could be sent then; return how many."""
    parts = [line[:-2] + b',"due_ns":' for line in made]
    count = int(job.rate * job.secs)
    apart = 1_000_000_000 / job.rate
    with socket.create_connection((HOST, job.port), job.patience_secs) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.monotonic_ns() + 50_000_000
        sent = 0
        while sent < count:
            now = time.monotonic_ns()
            due = min(count, int((now - start) / apart) + 1)
            if due > sent:
                connection.sendall(
                    b"".join(
                        b"%s%d}\n" % (parts[number % len(parts)], start + int(number * apart))
                        for number in range(sent, due)
                    )
                )
                sent = due
            time.sleep(TICK_SECS)
    return count


def paced_acknowledged(job: Job, made: list[bytes]) -> list[int]:
    """Send by schedule, each event with an id of its own; return after how many ns each was acknowledged."""
    parts = [line[ID_AT + ID_DIGITS :] for line in made]
    count, apart, ids = int(job.rate * job.secs), 1_000_000_000 / job.rate, time.time_ns() << 32
    answered: list[tuple[int, int]] = []
    with socket.create_connection((HOST, job.port), job.patience_secs) as connection, ThreadPoolExecutor(1) as pool:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(HELLO)

        def read() -> None:
            with connection.makefile("rb") as answers:
                for answer in answers:
                    answered.append((int(json.loads(answer).get("acked", 0)), time.monotonic_ns()))
                    if answered[-1][0] == count:
                        return
            raise RuntimeError(f"of {count} lines {answered[-1:]} were acknowledged")

        reading = pool.submit(read)
        start = time.monotonic_ns() + 50_000_000
        sent = 0
        while sent < count and not reading.done():
            due = min(count, int((time.monotonic_ns() - start) / apart) + 1)
            if due > sent:
                lines = (b'{"event_id":"%032x%s' % (ids + each, parts[each % len(parts)]) for each in range(sent, due))
                connection.sendall(b"".join(lines))
                sent = due
            time.sleep(TICK_SECS)
        reading.result()
    delays: list[int] = []
    for acked, at in answered:
        delays += [at - start - int(number * apart) for number in range(len(delays), acked)]
    return sorted(delays)


def main() -> None:
    """Send what the argument says."""
    job = Job(**json.loads(sys.argv[1]))
    made = Path(job.file).read_bytes().splitlines(keepends=True)
    work: Callable[[], object]
    delays: list[int] = []
    if job.kind == "paced":
        work = lambda: paced(job, made)  # noqa: E731 - one of three
    elif job.kind == "paced ack":
        work = lambda: delays.extend(paced_acknowledged(job, made))  # noqa: E731
    elif job.kind == "post":
        from benchmarks.posts import posts

        work = posts(job.port, made, job.connections, job.patience_secs)
    else:
        prepared = [
            SEND[job.kind](job.port, made[first :: job.connections], job.patience_secs)
            for first in range(min(job.connections, len(made)))
        ]
        work = lambda: _together(prepared)  # noqa: E731
    count = int(job.rate * job.secs) or len(made)
    print("ready", flush=True)
    if not sys.stdin.readline():
        return  # who started it is gone
    cpu, started = _cpu(), time.perf_counter()
    work()
    sent = Sent(time.perf_counter() - started, _cpu() - cpu, count, _told(delays))
    print(json.dumps(asdict(sent)), flush=True)


def _told(delays: list[int]) -> dict[str, float]:
    places = {"p50": len(delays) // 2, "p99": len(delays) * 99 // 100, "longest": len(delays) - 1}
    return {name: delays[place] / 1e6 for name, place in places.items()} if delays else {}


def _together(prepared: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(prepared)) as pool:
        for done in [pool.submit(send) for send in prepared]:
            done.result()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
