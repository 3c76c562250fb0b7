"""Runs lanes side by side: harm and rest by turns, then the comparison."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tests.crash.lane import Lane
from tests.crash.lives import Result
from tests.crash.weather import Weather

REST_SHARE = 0.25


def run(
    lanes: Sequence[Lane],
    *,
    secs: float,
    kills: int,
    rests: int = 1,
    weather: Weather | None = None,
    tell: Callable[[str], None] = lambda text: None,
    tell_secs: float = 30.0,
) -> list[Result]:
    """Harm lanes for ``secs``, with at least ``kills`` over all of them, and return what became of each.

    The time is cut into ``rests`` pieces, each of which ends with a calm stretch, in which the gateways are
    left alone and their memory is watched; what befalls Elasticsearch goes on. On KeyboardInterrupt the
    harm ends, and what was done so far is compared.
    """
    give_up = threading.Event()
    turns = max(1, rests)
    share = secs / turns
    rest = share * REST_SHARE if rests else 0.0
    each = -(-kills // (turns * len(lanes)))

    def torment(lane: Lane) -> None:
        try:
            for _ in range(turns):
                lane.torment(share - rest, each, give_up)
                if rest and not give_up.is_set():
                    lane.rest(rest, give_up)
        except Exception as error:
            lane.result.complain(f"the harm ended by {error!r}")

    began = time.monotonic()
    try:
        for lane in lanes:
            lane.start()
        if weather is not None:
            weather.start()
        threads = [threading.Thread(target=torment, args=(lane,), daemon=True) for lane in lanes]
        for thread in threads:
            thread.start()
        with suppress(KeyboardInterrupt):
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(tell_secs / len(threads))
                tell(_progress(time.monotonic() - began, lanes, weather))
        give_up.set()
        for thread in threads:
            thread.join(60)
        if weather is not None:
            weather.clear()
        tell("Clients and sinks finish, then everything is compared.")
        with ThreadPoolExecutor(len(lanes)) as pool:
            results = list(pool.map(Lane.finish, lanes))
        if weather is not None:
            results[0].problems += weather.problems
        return results
    finally:
        for lane in lanes:
            lane.close()


def _progress(secs: float, lanes: Sequence[Lane], weather: Weather | None) -> str:
    told = [
        f"{lane.name}: {sum(each.acknowledged for each in lane.clients)} acknowledged, {lane.result.kills} kills, "
        f"{len(lane.result.problems)} problems"
        for lane in lanes
    ]
    if weather is not None:
        told.append(f"Elasticsearch: {dict(weather.done)}")
    return f"{secs:5.0f} s  " + "; ".join(told)
