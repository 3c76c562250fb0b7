"""How the gateway does, out of `/status`: what every page tells, and what somebody should look at."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gateway.monitoring.figures import Figures

Status = dict[str, Any]


def live(status: Callable[[], Status], figures: Figures) -> Callable[[], dict[str, Any]]:
    """Return what tells all pages how things stand now; rates are of the time since it was last asked."""
    before: tuple[float, dict[str, int], dict[str, int]] = time.monotonic(), {}, {}

    def now() -> dict[str, Any]:
        nonlocal before
        found = status()
        books = found["books"]
        at = time.monotonic()
        received = {name: each["received"] for name, each in found["sources"].items()}
        taken = {name: each["indexed"] + each["duplicates"] for name, each in books["sinks"].items()}
        secs = max(at - before[0], 0.1)
        told = {
            "troubles": troubles(found),
            "received": books["received"],
            "stored": stored(found),
            "refused": books["refused"],
            "missing": abs(books["difference"]),
            "sources": _rise(received, before[1], secs),
            "sinks": _rise(taken, before[2], secs),
            "kinds": figures.rates()[0],
        }
        before = at, received, taken
        return told

    return now


def stored(status: Status) -> int:
    """Return how many events are in every sink."""
    return min((each["indexed"] + each["duplicates"] for each in status["books"]["sinks"].values()), default=0)


def waiting(status: Status) -> int:
    """Return how many events the sink that is furthest behind has not taken."""
    return max((each["waiting"] for each in status["books"]["sinks"].values()), default=0)


def troubles(status: Status) -> list[str]:
    """Return what somebody should look at, a sentence each."""
    found = []
    books = status["books"]
    if books["difference"]:
        found.append(f"{abs(books['difference']):,} events are missing in the books.")
    for name, sink in status["sinks"].items():
        if sink["state"] != "ok":
            found.append(f"{name} is {sink['state']}: {sink['last_error'] or 'no reason given'}")
    found += [each for each in (status["spool"]["failure"], status["spool"]["full"]) if each]
    for name, sink in books["sinks"].items():
        found += [
            f"{sink[what]:,} events {text} ({name})."
            for what, text in (("damaged", "could not be read again from the spool"), ("skipped", "were skipped"))
            if sink[what]
        ]
    return found


def _rise(now: dict[str, int], before: dict[str, int], secs: float) -> dict[str, float]:
    return {name: max(0, count - before.get(name, count)) / secs for name, count in now.items()}
