"""``python -m benchmarks``: measure, write the figures to a file, print them as a table."""

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
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.measure import tree
from benchmarks.run import SOURCES, Wrong, run
from benchmarks.sinks import SINKS
from tests.elasticsearch_node.node import NodeError
from tests.gateway_process import GatewayError

RESULTS = Path(__file__).parent / "results"
MOST_EVENTS = 5_000_000  # they are made beforehand and held in memory
COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "source": ("source", str),
    "sink": ("sink", str),
    "events_per_sec": ("events/s", "{:,}".format),
    "accepted_per_sec": ("accepted/s", "{:,}".format),
    "cpu_secs_per_million": ("CPU-s / million", "{:.2f}".format),
    "peak_mib": ("peak MiB", "{:.0f}".format),
    "ready_secs": ("ready in s", "{:.2f}".format),
}


def table(result: dict[str, Any]) -> str:
    """Return a result as a table of Markdown, below one line on what it was measured."""
    on, first = result["machine"], result["runs"][0]
    changes = " with uncommitted changes" if on["uncommitted_changes"] else ""
    rows = [
        f"{result['date']}, commit {on['commit'][:10] or 'unknown'}{changes}. {on['cores']} cores of {on['cpu']}, "
        f"{on['memory_gib']} GiB, Linux {on['kernel']}, {on['file_system']}, Python {on['python']}, "
        f"load average at the start {on['load_average'][0]}. "
        f"{first['events']:,} events of {first['bytes'] // first['events']} bytes a run.",
        "",
        "| " + " | ".join(title for title, _ in COLUMNS.values()) + " |",
        "|---|---|" + "---:|" * (len(COLUMNS) - 2),
    ]
    rows += [
        "| " + " | ".join(show(each[name]) for name, (_, show) in COLUMNS.items()) + " |" for each in result["runs"]
    ]
    return "\n".join(rows)


def main() -> int:
    """Run what the arguments name; return the exit code."""
    every = [f"{source}:{sink}" for sink in SINKS for source in SOURCES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="events of a run (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=every, help="this run alone; may be given again")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures (default: %(default)s)")
    parser.add_argument("--table", type=Path, metavar="FILE", help="measure nothing, print a result's table")
    asked = parser.parse_args()
    if asked.table:
        print(table(json.loads(asked.table.read_text())))
        return 0
    if not 1 <= asked.events <= MOST_EVENTS:
        parser.error(f"--events is from 1 to {MOST_EVENTS:,}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as Ctrl-C: what was started is ended

    now = datetime.now(UTC)
    result: dict[str, Any] = {
        "date": now.isoformat(timespec="seconds"),
        "machine": machine(Path(tempfile.gettempdir())),
        "runs": [],
    }
    for each in asked.only or every:
        print(f"{each} ...", file=sys.stderr, flush=True)
        source, _, sink = each.partition(":")
        try:
            result["runs"].append(asdict(run(source, sink, asked.events)))
        except (Wrong, GatewayError, NodeError, subprocess.TimeoutExpired) as error:
            print(f"{each} failed: {error}", file=sys.stderr)
            return 1
    asked.results.mkdir(parents=True, exist_ok=True)
    file = asked.results / f"{now:%Y%m%d-%H%M%S}-{os.uname().nodename}.json"
    file.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    print(f"\nWritten to {file}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    finally:  # a process that was just being started when Ctrl-C came is known to nobody else
        for left in tree(os.getpid())[1:]:
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
