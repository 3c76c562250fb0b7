"""``python -m tests.crash.soak``: kills by the hundred for an hour, and one table of what came of it.

Two gateways side by side, one on an Elasticsearch of its own, one on the embedded store, with clients that
send all along. Ends with 1 when anything is missing, doubled or out of the books, when memory grows, or
when there were fewer kills than asked for. Ctrl-C ends the harm and compares what was done so far.
"""

import argparse
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.crash import driver
from tests.crash.faults import FAULTS
from tests.crash.lane import Lane
from tests.crash.lives import Result
from tests.crash.weather import Weather
from tests.elasticsearch_node.node import ElasticsearchNode

REST_SECS = 600.0  # about every so often there is a calm stretch
# How much more memory a gateway may have late in a calm stretch than early in the first one.
GROWTH, GROWTH_BYTES = 1.25, 32 << 20
COLUMNS = ("lane", "sent", "acknowledged", "indexed", "dead", "missing", "doubled", "peak MiB", "kills", "restarts")


def main() -> int:
    """Run the soak; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="how long there is harm (default 3600)")
    parser.add_argument("--kills", type=int, default=1000, help="of gateways, at least, in at most half as long again")
    parser.add_argument("--seed", type=int, help="of all that is drawn; without one it is drawn, too, and printed")
    parser.add_argument("--rate", type=float, default=100, help="events a second of each large client (default 100)")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does
    logging.getLogger("gateway_client").addHandler(logging.NullHandler())  # it has much to complain about
    seed = random.SystemRandom().randrange(1 << 31) if asked.seed is None else asked.seed
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    _tell(f"{asked.seconds:g} s, {asked.kills} kills, seed {seed}, data in {folder}")
    node = ElasticsearchNode(folder / "elasticsearch" / "data", heap="512m")
    try:
        node.start()
        sound = soak(folder, node, seconds=asked.seconds, kills=asked.kills, seed=seed, rate=asked.rate)
    finally:
        node.kill()
    if sound:
        shutil.rmtree(folder)
    else:
        _tell(f"Data and logs are kept in {folder}.")
    return 0 if sound else 1


def soak(folder: Path, node: ElasticsearchNode, *, seconds: float, kills: int, seed: int, rate: float) -> bool:
    """Harm gateways and the node, print progress and the table; return whether all is well."""
    began, now = time.monotonic(), datetime.now(UTC)
    lanes = [
        Lane("elasticsearch", folder, seed=seed, now=now, elasticsearch=node.url, rate=rate),
        Lane("embedded", folder, seed=seed + 1, now=now, rate=rate),
    ]
    weather = Weather(node, seed, pause_secs=min(30.0, seconds / 12))
    rests = max(1, round(seconds / REST_SECS))
    results = driver.run(lanes, secs=seconds, kills=kills, rests=rests, weather=weather, tell=_tell)
    for lane in lanes:
        lane.result.problems += _growth(lane)
    _tell(f"\n{time.monotonic() - began:.0f} s, seed {seed}\n\n{table(results)}\n")
    for lane in lanes:
        calm = ", ".join(f"{early / 2**20:.0f} → {late / 2**20:.0f}" for early, late in lane.calm)
        _tell(f"{lane.name}: MiB early and late in each calm stretch: {calm or 'there was none'}")
    ends = sum((each.ends for each in results), Counter[str]())
    _tell(f"Lives ended by: {', '.join(f'{count} {end}' for end, count in ends.most_common())}.")
    fired = sum((each.fired for each in results), Counter[str]())
    _tell(f"Faults met: {sum(fired.values())}, at {len(fired)} of {len(FAULTS)} places.")
    _tell(f"Not met: {', '.join(each for each in FAULTS if each not in fired) or 'none'}.")
    _tell(f"Elasticsearch: {', '.join(f'{count} {what}' for what, count in sorted(weather.done.items()))}.")
    for result in results:
        for problem in result.problems:
            _tell(f"{result.lane}: {problem}")
    ended = sum(each.kills for each in results)
    if ended < kills:
        _tell(f"There were {ended} kills of {kills}.")
    return ended >= kills and all(each.sound for each in results)


def table(results: Sequence[Result]) -> str:
    """Return the results as a table."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for each in results:
        figures = (each.sent, each.acknowledged, each.indexed, each.dead, each.missing, each.doubled)
        rows.append((each.lane, *map(str, (*figures, each.peak_bytes >> 20, each.kills, each.restarts))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)


def _growth(lane: Lane) -> list[str]:
    """Return what is wrong with the memory in the calm stretches."""
    if not lane.calm:
        return []
    first, last = lane.calm[0][0], lane.calm[-1][1]
    if last <= first * GROWTH + GROWTH_BYTES:
        return []
    return [f"memory is not flat: {first / 2**20:.0f} MiB in the first calm stretch, {last / 2**20:.0f} in the last"]


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
