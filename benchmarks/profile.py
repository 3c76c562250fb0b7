"""``python -m benchmarks.profile``: where the gateway's microseconds go under TCP load, and what the floor is.

Writes a flame graph, prints a table, and with ``--write`` puts the table into ARCHITECTURE.md. py-spy looks at the
running gateway: that needs root, or kernel.yama.ptrace_scope=0.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.__main__ import FAILURES, RESULTS, begun, ended
from benchmarks.flame import flame
from benchmarks.floor import floor
from benchmarks.machine import ROOT
from benchmarks.measure import cores
from benchmarks.processes import Wrong
from benchmarks.report import caption, number
from benchmarks.suite import TCP, Load, Suite

SAMPLES_A_SEC = 200
TURNS = 3
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
MARKS = ("<!-- steps: written by make profile -->", "<!-- end of steps -->")
REST = "event loop with its sockets, all else"
_IDLE = re.compile(r"_worker \([^;]*concurrent/futures/thread\.py:\d+\)$")  # a thread that waits for work
# The innermost frame of ours decides; of several beginnings that fit, the longest.
STEPS = {
    "receive, cut into lines": (("gateway/sources/", "gateway/room"), "receive"),
    "parse, validate": (("gateway/pipeline/", "schemas/"), "decode"),
    "clock, enrichment": (("gateway/pipeline/clock", "gateway/pipeline/enrich", "enrichers/"), ""),
    "identity": (("gateway/pipeline/identity",), "name"),
    "write the documents": (("gateway/pipeline/digest",), "write"),
    "figures of models": (("gateway/summary/", "gateway/monitoring/"), ""),
    "spool: checksum, write, sync": (("gateway/spool/",), "spool"),
    "spool: read again": (("gateway/spool/reader",), "read"),
    "bulks to Elasticsearch": (("gateway/sinks/",), "send"),
}
_STARTS = [(start, step) for step, (starts, _) in STEPS.items() for start in starts]
_FRAME = re.compile(r"\((?:.*/)?((?:gateway|enrichers|schemas)/[\w/]+)\.py(?::\d+)?\)$")


def step_of(stack: str) -> str:
    """Return the step that a stack of py-spy's raw format, outermost frame first, was at."""
    for frame in reversed(stack.split(";")):
        if found := _FRAME.search(frame):
            fitting = [
                (len(start), step)
                for step, (starts, _) in STEPS.items()
                for start in starts
                if found[1].startswith(start)
            ]
            return max(fitting)[1] if fitting else REST
    return REST


def table(stacks: dict[str, int], cpu: float, floors: dict[str, float]) -> list[str]:
    """Return the table: the CPU-s a million, ``cpu``, divided by how often each step was seen."""
    seen = Counter(dict.fromkeys((*STEPS, REST), 0))
    for stack, times in stacks.items():
        seen[step_of(stack)] += times
    total = max(1, seen.total())
    rows = ["| step | CPU-s / million | share | floor |", "|---|---:|---:|---:|"]
    for step, times in seen.items():
        least = floors.get(STEPS[step][1]) if step in STEPS else None
        told = "" if least is None else f"{least:.2f}"
        rows.append(f"| {step} | {cpu * times / total:.2f} | {100 * times / total:.0f} % | {told} |")
    rows.append(f"| all | {cpu:.2f} | 100 % | {sum(floors.values()):.2f} |")
    return rows


def main() -> int:
    """Profile; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="events of a run (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the flame graph")
    parser.add_argument("--write", action="store_true", help="put the table into ARCHITECTURE.md")
    asked = parser.parse_args()
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        print("py-spy is missing: pip install py-spy", file=sys.stderr)
        return 1
    asked.results.mkdir(parents=True, exist_ok=True)
    result = begun(asked.events, TURNS)
    with tempfile.TemporaryDirectory(prefix="bench-profile-") as folder:
        suite = Suite(Path(folder), asked.events, TURNS, 0, lambda text: print(text, "...", file=sys.stderr))
        raw = Path(folder) / "raw.txt"
        try:
            cpu = _profiled(suite, spy, raw)
        except FAILURES as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
        lines = (line.rpartition(" ") for line in raw.read_text().splitlines())
        stacks = {stack: int(times) for stack, _, times in lines if not _IDLE.search(stack)}
    on = result["machine"]
    told = (
        f"{result['date'][:10]}, commit {on['commit'][:10]}, {on['cores']} cores of {on['cpu']}, "
        f"Python {on['python']}: {number(asked.events)} events of 440 bytes over 4 connections, on one core, "
        "to the counting sink."
    )
    graph = flame(stacks, f"Where the gateway's CPU goes under TCP load. {caption(result)}")
    (asked.results / "profile.svg").write_text(graph)
    rows = [told, "", *table(stacks, cpu, floor())]
    print("\n".join(rows))
    if asked.write:
        write(rows)
    return 0


def write(rows: list[str], file: Path = ARCHITECTURE) -> None:
    """Put rows between the marks of a document."""
    before, first, rest = file.read_text().partition(MARKS[0])
    _, last, after = rest.partition(MARKS[1])
    if not first or not last:
        raise ValueError(f"{file} lacks {MARKS[0]} … {MARKS[1]}")
    file.write_text("".join([before, first, "\n", "\n".join(rows), "\n", last, after]))


def _profiled(suite: Suite, spy: str, file: Path) -> float:
    """Return the CPU-s a million without py-spy; write the stacks that py-spy sees in a run of its own."""
    where = cores(pinned=True)
    with suite.gateway(where, "profile") as (gateway, counts):
        for _ in range(TURNS):
            suite.load(TCP, gateway, counts, Load(), where)
        command = [spy, "record", "--pid", str(gateway.pid), "-f", "raw", "-o", str(file), "-r", str(SAMPLES_A_SEC)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            try:
                said = process.stdout.readline()  # that it samples, or what is wrong
                suite.load("with py-spy", gateway, counts, Load(), where)
                process.send_signal(signal.SIGINT)
                said += process.communicate(timeout=60)[0]
            finally:
                process.kill()
        if not file.exists():
            raise Wrong(f"py-spy wrote nothing: {said.strip()}")
    return suite.figures.median(f"{TCP} cpu") or 0.0


if __name__ == "__main__":
    sys.exit(ended(main))
