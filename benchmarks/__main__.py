"""``python -m benchmarks``: measure the gateway, write the figures to a file, print them as tables."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.machine import machine
from benchmarks.measure import tree
from benchmarks.processes import Wrong
from benchmarks.real import real
from benchmarks.report import picture, tables
from benchmarks.suite import Suite
from benchmarks.targets import TARGETS
from tests.elasticsearch_node.client import EsError
from tests.elasticsearch_node.node import NodeError
from tests.gateway_process import GatewayError

RESULTS = Path(__file__).parent / "results"
MOST_EVENTS = 500_000  # up to three times as many are in a file, and in the memory of the sender
GROUPS: dict[str, Callable[[Suite], None]] = {
    "counting": Suite.counting,
    "both": Suite.both,
    "embedded": Suite.embedded,
    "latency": Suite.latency,
    "workers": Suite.workers,
    "ceiling": Suite.ceiling,
    "elasticsearch": real,
}
FAILURES = (Wrong, GatewayError, NodeError, EsError, httpx.HTTPError, subprocess.TimeoutExpired)


def options(prog: str, described: str) -> argparse.ArgumentParser:
    """Return what every word of the harness takes."""
    parser = argparse.ArgumentParser(prog=prog, description=described)
    parser.add_argument("--events", type=int, help="events of a run (default: 50,000; --long: 300,000)")
    parser.add_argument("--repeat", type=int, help="repetitions, of which the median is told (default: 3; --long: 5)")
    parser.add_argument("--long", action="store_true", help="larger runs, for the record: about half an hour")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures (default: %(default)s)")
    return parser


def sizes(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> tuple[int, int]:
    """Return events and repetitions; end with exit code 2 where they make no sense."""
    events = (300_000 if asked.long else 50_000) if asked.events is None else asked.events
    repeat = (5 if asked.long else 3) if asked.repeat is None else asked.repeat
    if not 100 <= events <= MOST_EVENTS:
        parser.error(f"--events is from 100 to {MOST_EVENTS:,}")
    if not 1 <= repeat <= 100:
        parser.error("--repeat is from 1 to 100")
    return events, repeat


def begun(events: int, repeat: int) -> dict[str, Any]:
    """Return the head of a result."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(Path(tempfile.gettempdir())),
        "events": events,
        "repeat": repeat,
    }


def keep(result: dict[str, Any], folder: Path, name: str, svg: str) -> None:
    """Write a result and its picture."""
    written(result, folder, name)
    (folder / f"{name}.svg").write_text(svg)
    print(f"Its picture is {folder / f'{name}.svg'}", file=sys.stderr)


def written(result: dict[str, Any], folder: Path, name: str) -> None:
    """Write a result."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.fromisoformat(result["date"])
    file = folder / f"{moment:%Y%m%d-%H%M%S}-{name}-{os.uname().nodename}.json"
    file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"\nWritten to {file}", file=sys.stderr)


def say(text: str) -> None:
    """Tell what is done now."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text} ...", file=sys.stderr, flush=True)


def main() -> int:
    """Run what the arguments name; return the exit code."""
    parser = options("python -m benchmarks", __doc__ or "")
    parser.add_argument("--only", action="append", choices=GROUPS, help="this group alone; may be given again")
    parser.add_argument("--secs", type=float, help="length of each run at a fixed rate (default: 5; --long: 30)")
    parser.add_argument("--table", type=Path, metavar="FILE", help="measure nothing, print a result's tables")
    asked = parser.parse_args()
    if asked.table:
        print(tables(json.loads(asked.table.read_text())))
        return 0
    events, repeat = sizes(parser, asked)
    result = begun(events, repeat) | {"failed": {}}
    with tempfile.TemporaryDirectory(prefix="bench-events-") as folder:
        suite = Suite(Path(folder), events, repeat, asked.secs or (30 if asked.long else 5), say)
        for group in asked.only or GROUPS:
            try:
                GROUPS[group](suite)
            except FAILURES as error:  # what the others measured is kept
                print(f"{group} failed: {error}", file=sys.stderr)
                result["failed"][group] = str(error)
    result["targets"] = [target.row(suite.figures) for target in TARGETS]
    result["figures"] = suite.figures.summary()
    result["runs"] = suite.figures.runs
    result["load_average_at_end"] = round(os.getloadavg()[0], 2)
    print(tables(result))
    keep(result, asked.results, "bench", picture(result))
    return 1 if result["failed"] else 0


def ended(work: Callable[[], int]) -> int:
    """Do the work; whatever ends it, Ctrl-C or SIGTERM too, ends what was started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return work()
    except KeyboardInterrupt:
        return 130
    finally:  # a process that was just being started when Ctrl-C came is known to nobody else
        for left in tree(os.getpid())[1:]:
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(ended(main))
