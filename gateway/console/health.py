"""How the gateway and its models do: what every page tells, and what somebody should look at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.monitoring import findings
from gateway.monitoring.figures import Figures
from gateway.monitoring.findings import Comparison, Silent
from gateway.monitoring.kept import Kept
from gateway.monitoring.standing import Standing, standings

JUDGED_SECS = 5.0
TIMES_ITS_COST = 10
"""Of hundreds of classes of many models there is much to add up: so long nobody looks again."""
HEARD_MINUTES = 5
MOST_TOLD = 10
Status = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """What the figures say at one moment."""

    comparison: Comparison
    models: list[Standing]
    """Of the window."""
    silent: list[Silent]
    heard: dict[str, int]
    """How many models, services and kinds of events were heard in the last `HEARD_MINUTES`."""


class Health:
    """Asks `/status` and the figures, the latter no more often than pages need."""

    def __init__(self, status: Callable[[], Status], figures: Figures) -> None:
        """``status`` gives what `/status` says."""
        self.status = status
        self.figures = figures
        self._judging: asyncio.Task[Judged] | None = None
        self._judged: Judged | None = None
        self._since = -JUDGED_SECS
        self._before: tuple[float, dict[str, int], dict[str, int]] = time.monotonic(), {}, {}

    async def judged(self) -> Judged:
        """Return what the figures say, as of some seconds ago at most."""
        task = self._judge()
        if task is None and self._judged is not None:
            return self._judged
        # One browser that leaves does not break off what others wait for.
        return await asyncio.shield(task or asyncio.create_task(self._look()))

    def now(self) -> dict[str, Any]:
        """Return how things stand, without waiting; rates are of the time since it was last asked."""
        found = self.status()
        books = found["books"]
        at = time.monotonic()
        received = {name: each["received"] for name, each in found["sources"].items()}
        taken = {name: each["indexed"] + each["duplicates"] for name, each in books["sinks"].items()}
        since, received_before, taken_before = self._before
        secs = max(at - since, 0.1)
        self._before = at, received, taken
        self._judge()
        judged = self._judged
        found_out = []
        if judged is not None:
            found_out = [each.text for each in judged.comparison.worse] + [each.text for each in judged.silent]
        return {
            "troubles": [*troubles(found), *found_out][:MOST_TOLD],
            "received": books["received"],
            "stored": stored(found),
            "waiting": waiting(found),
            "refused": books["refused"],
            "missing": abs(books["difference"]),
            "sources": _rise(received, received_before, secs),
            "sinks": _rise(taken, taken_before, secs),
            "kinds": self.figures.rates()[0],
        }

    def _judge(self) -> asyncio.Task[Judged] | None:
        """Begin to look at the figures when that was long ago; return who does so, None when it was not."""
        if self._judging is None and time.monotonic() - self._since >= JUDGED_SECS:
            self._judging = asyncio.create_task(self._look())
        return self._judging

    async def _look(self) -> Judged:
        began = time.monotonic()
        try:
            status = self.status()
            # In a thread: the minutes of many models take a while to add up, and may have to be waited for.
            self._judged = await asyncio.to_thread(lambda: _judged(self.figures.kept(), status))
            return self._judged
        finally:
            self._since = max(time.monotonic(), began + TIMES_ITS_COST * (time.monotonic() - began) - JUDGED_SECS)
            self._judging = None


def _judged(kept: Kept, status: Status) -> Judged:
    now = time.time()
    silent = findings.silent(kept, now - status["spool"]["oldest_secs"], now - status["uptime_secs"])
    last = kept.between(kept.present - HEARD_MINUTES)
    services = {service for service, _ in last.endpoints if service}
    models = {name for (name, _), model in last.models.items() if model.predictions}
    heard = {"model": len(models), "service": len(services), "kind": len(last.indices)}
    return Judged(findings.comparison(kept), standings(kept), silent, heard)


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
