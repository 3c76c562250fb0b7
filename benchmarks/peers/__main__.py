"""``python -m benchmarks.peers``: the gateway and every peer that is installed, the same events on the same core."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.__main__ import FAILURES, begun, ended, keep, options, say, sizes
from benchmarks.events import lines
from benchmarks.load import Job
from benchmarks.measure import PeakMemory, cores, cpu_secs, on, pss_mib
from benchmarks.peers.compare import compare
from benchmarks.peers.peers import PEERS, Peer
from benchmarks.peers.report import picture, table
from benchmarks.processes import POLL_SECS, Sink, Wrong, sender, sink
from benchmarks.run import started
from benchmarks.suite import IDLE_SECS, WARM_UP
from tests.elasticsearch_node.ports import free_port

OURS = "this gateway, synced to disk"
COMPARED = 2_000
STALLED_SECS = 20  # without a new document what is missing is lost
END_SECS = 20


def main() -> int:
    """Measure; return the exit code."""
    parser = options("python -m benchmarks.peers", __doc__ or "")
    parser.add_argument("--only", action="append", choices=[each.name for each in PEERS], help="these peers alone")
    asked = parser.parse_args()
    events, repeat = sizes(parser, asked)
    result = begun(events, repeat)
    peers = [each for each in PEERS if not asked.only or each.name in asked.only]
    installed = {each: program for each in peers if (program := each.program())}
    result["versions"] = {each.name: each.version_of(program) for each, program in installed.items()}
    result["not_installed"] = [each.name for each in peers if each not in installed]
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as folder:
        try:
            result["systems"] = _measure(installed, Path(folder), events, repeat)
        except FAILURES as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
    result["load_average_at_end"] = round(os.getloadavg()[0], 2)
    print(table(result))
    keep(result, asked.results, "peers", picture(result))
    return 0


def _measure(installed: dict[Peer, str], folder: Path, events: int, repeat: int) -> dict[str, dict[str, Any]]:
    """Measure everybody in turn, so often; return values by system and figure."""
    made = {"warm": lines(max(COMPARED, events // WARM_UP), 1), "events": lines(events, 2)}
    for name, each in made.items():
        (folder / name).write_bytes(b"".join(each))
    everybody: list[Peer | None] = [None, *installed]
    systems: dict[str, dict[str, Any]] = {}
    for turn in range(repeat):
        for peer in everybody[turn % len(everybody) :] + everybody[: turn % len(everybody)]:
            name = peer.name if peer else OURS
            say(f"{name}, turn {turn + 1}")
            figures = systems.setdefault(name, {})
            try:
                found = _turn(peer, installed[peer] if peer else "", folder, made)
            except Wrong as error:
                if peer is None:
                    raise
                found = {"failed": str(error)}
            for figure, value in found.items():
                figures.setdefault(figure, []).append(value)
    return {name: systems[name] for name in [OURS, *(each.name for each in installed)]}


def _turn(peer: Peer | None, program: str, folder: Path, made: dict[str, list[bytes]]) -> dict[str, Any]:
    """Start, warm up, look at documents, measure, end."""
    where = cores(pinned=True)
    with ExitStack() as stack:
        counts = stack.enter_context(sink(where.others))
        if peer is None:
            gateway, ready = stack.enter_context(started(where, {"ELASTICSEARCH_URL": counts.url}))
            pid, port = gateway.pid, gateway.tcp_port
        else:
            port = free_port()
            pid, ready = stack.enter_context(_running(peer, program, folder, port, counts.port, where.measured))
        time.sleep(IDLE_SECS)
        idle = pss_mib(pid)
        counts.ask(f"keep/{COMPARED}")
        warm = len(made["warm"])
        if lost := _send(counts, Job("tcp", port, str(folder / "warm")), warm, where.others)[1]:
            raise Wrong(f"{lost} of {warm} documents did not come")
        difference = compare(made["warm"], counts.kept())
        events = len(made["events"])
        for _ in range(peer.warm_ups if peer else 0):
            _send(counts, Job("tcp", port, str(folder / "events"), patience_secs=600), events, where.others)
        with PeakMemory(pid) as memory:
            cpu = cpu_secs(pid)
            secs, lost = _send(
                counts, Job("tcp", port, str(folder / "events"), patience_secs=600), events, where.others
            )
            cpu = cpu_secs(pid) - cpu
        came = events - lost
        return {
            "cpu": round(cpu / max(came, 1) * 1e6, 2),
            "rate": round(came / secs),
            "peak": round(memory.mib, 1),
            "idle": round(idle, 1),
            "ready": round(ready, 2),
            "lost": lost,
            "documents": difference.told(),
        }


def _send(counts: Sink, job: Job, events: int, others: frozenset[int]) -> tuple[float, int]:
    """Send; return the seconds until the last document came, and how many did not."""
    had = counts.ask("reset")["documents"]
    with sender(others, job) as ready:
        began = time.monotonic_ns()
        ready.send()
        seen, moved = counts.ask(), time.monotonic()
        while seen["documents"] - had < events and time.monotonic() < moved + STALLED_SECS:
            time.sleep(POLL_SECS)
            before, seen = seen, counts.ask()
            if seen["documents"] != before["documents"]:
                moved = time.monotonic()
    came = seen["documents"] - had
    if not came or came > events:
        raise Wrong(f"{events} events were sent, {came} documents came")
    return (seen["last_ns"] - began) / 1e9, events - came


@contextmanager
def _running(
    peer: Peer, program: str, folder: Path, port: int, sink_port: int, measured: frozenset[int]
) -> Iterator[tuple[int, float]]:
    """Run a peer with an empty folder; give its process id and the seconds until it took a connection."""
    with tempfile.TemporaryDirectory(prefix="peer-", dir=folder) as own:
        config = peer.configure(Path(own), port, sink_port)
        log = Path(own) / "output.txt"
        began = time.perf_counter()
        with log.open("wb") as output, on(measured):
            process = subprocess.Popen(
                [program, *peer.start(config, Path(own))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=own,
                env={**os.environ, **peer.env},
                start_new_session=True,
            )
        try:
            _wait_for(port, process, peer, log)
            yield process.pid, time.perf_counter() - began
        finally:
            _end(process)


def _wait_for(port: int, process: subprocess.Popen[bytes], peer: Peer, log: Path) -> None:
    deadline = time.monotonic() + peer.ready_secs
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(POLL_SECS)
    raise Wrong(f"{peer.name} did not start: {log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    end: Callable[[int], None] = lambda number: os.killpg(process.pid, number)  # noqa: E731
    with suppress(ProcessLookupError):
        end(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECS)
        end(signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    sys.exit(ended(main))
