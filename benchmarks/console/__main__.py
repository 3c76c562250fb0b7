"""``python -m benchmarks.console``: the console with a million events in the store, against its targets.

Fills a data directory once (`--cache` names where it is kept), opens every page in Chromium, then lets three browsers
watch while events come.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from playwright.sync_api import Error as BrowserError

from benchmarks.__main__ import FAILURES, begun, ended, options, say, written
from benchmarks.console.filling import filled, of_last_day, serving
from benchmarks.console.pages import navigation, opened
from benchmarks.console.tables import TARGETS, figures_of_pages, tables
from benchmarks.console.watching import WATCHED, Watching
from benchmarks.measure import cores
from tests.browser.chromium import chromium

GROUPS = ("pages", "watching")


def main() -> int:
    """Run what the arguments name; return the exit code."""
    parser = options("python -m benchmarks.console", (__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=GROUPS, help="this alone; may be given again")
    parser.add_argument("--cache", type=Path, help="folder for the filled store (default: a temporary one)")
    parser.add_argument("--stored", type=int, default=1_000_000, help="events in the store (default: %(default)s)")
    parser.add_argument("--secs", type=float, default=20, help="length of a run at a fixed rate (default: %(default)s)")
    parser.add_argument("--table", type=Path, metavar="FILE", help="measure nothing, print a result's tables")
    asked = parser.parse_args()
    if asked.table:
        print(tables(json.loads(asked.table.read_text())))
        return 0
    events, repeat = asked.events or 200_000, asked.repeat or 3
    result: dict[str, Any] = begun(events, repeat) | {"failed": {}, "stored": asked.stored}
    where = cores(pinned=False)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-console-")))
        try:
            made = filled(asked.cache or folder, asked.stored, say)
            gateway = stack.enter_context(serving(made, where))
            result["of_last_day"] = of_last_day(gateway)
            browser = stack.enter_context(chromium())
            if "pages" in (asked.only or GROUPS):
                result["pages"] = [asdict(page) for page in opened(gateway, browser, repeat, say)]
            if "watching" in (asked.only or GROUPS):
                paths = [path for path, (name, _) in navigation(gateway).items() if name in WATCHED]
                watching = Watching(gateway, browser, paths, folder, where)
                say(f"{len(paths)} browsers and events at a fixed rate")
                watching.at_rate(asked.secs)
                say(f"{len(paths)} browsers and as many events as are taken")
                watching.at_full_speed(events, repeat)
                result |= {"watched": len(paths), "figures": watching.figures.summary(), "runs": watching.figures.runs}
        except (*FAILURES, BrowserError, AssertionError, subprocess.SubprocessError) as error:
            print(f"failed: {error}", file=sys.stderr)
            result["failed"]["console"] = str(error)
    figures = figures_of_pages(result)
    result["targets"] = [target.row(figures) for target in TARGETS]
    result["load_average_at_end"] = round(os.getloadavg()[0], 2)
    print(tables(result))
    written(result, asked.results, "console")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(ended(main))
