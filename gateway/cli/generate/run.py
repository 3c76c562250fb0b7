"""The schedule of a run, and the loop that keeps it.

A run is open-loop: each event has its moment from the start of the run on, so a pause is caught up and
the rate does not drift.
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import orjson

from gateway.cli.traffic import Events

_ROUND_SECS = 0.002
_ROUND_EVENTS = 500
_CATCH_UP_SECS = 1.0
_HEARD_SECS = 0.1


@dataclass(frozen=True)
class Pace:
    """Events per second: from `start` evenly to `end` within `secs`, which then stays."""

    start: float
    end: float
    secs: float

    def count(self, secs: float) -> float:
        """Count the events of the first `secs` seconds."""
        rising = min(secs, self.secs)
        mean = self.start + (self.end - self.start) * rising / self.secs / 2
        return mean * rising + self.end * (secs - rising)

    def moment(self, count: float) -> float:
        """Give the second at which `count` events are due: `count` turned around."""
        later = count - self.count(self.secs)
        if later >= 0:
            return self.secs + later / self.end
        growth = (self.end - self.start) / self.secs
        return 2 * count / (self.start + math.sqrt(self.start**2 + 2 * growth * count))


@dataclass
class Run:
    """What is to be sent, and what has been. Without a pace, all at once."""

    total: int | None
    pace: Pace | None = None
    duration_secs: float | None = None
    sent: int = 0
    secs: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)

    def due(self, secs: float) -> int:
        """Count the events whose moment has come."""
        due = self.total if self.pace is None else int(self.pace.count(secs)) + 1
        return min(due, self.total) if due is not None and self.total is not None else due or 0

    def progress(self, secs: float) -> float:
        """Say how far through its scenario the run is."""
        if self.pace is None:
            return self.sent / (self.total or 1)
        return min(1.0, secs / self.pace.secs)

    def next_moment(self) -> float:
        """Give the second at which the next event is due, or after the last the end."""
        if self.pace is None or (self.total is not None and self.sent >= self.total):
            return self.duration_secs or 0.0
        return self.pace.moment(self.sent)

    def over(self, secs: float) -> bool:
        """Say whether all is sent in its time, or a gateway too slow for the rate has used up the time."""
        past = secs - (self.duration_secs or 0.0)
        if self.total is None or (self.sent < self.total and self.duration_secs is None):
            return False
        return past >= 0 if self.sent >= self.total else past > _CATCH_UP_SECS


class Stop:
    """A request to stop, for signal handlers: `threading.Event` waits for ever when one sets it amid its own `wait`."""

    def __init__(self) -> None:
        self._made = False

    def set(self) -> None:
        """Make the request."""
        self._made = True

    def is_set(self) -> bool:
        """Say whether it was made."""
        return self._made

    def wait(self, secs: float) -> None:
        """Return soon after it was made, or after so many seconds."""
        end = time.monotonic() + secs
        while not self._made and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _HEARD_SECS))


class Link(Protocol):
    """Where the lines go: `Connection` or `Lasting`."""

    waited: float

    def send(self, lines: bytes, sent: int) -> bool: ...
    def finish(self, sent: int) -> None: ...
    def close(self) -> None: ...


def send_run(
    run: Run,
    traffic: Events,
    connection: Link,
    stop: Stop,
    show: Callable[[Run, bytes], None],
) -> None:
    """Send the events when they are due, in small groups, until the run is over or stopped.

    `show` is called after each group, with its lines. Time in which the gateway was waited for does not count.
    """
    started = time.monotonic()
    while not stop.is_set() and not run.over(run.secs):
        group = min(run.due(run.secs) - run.sent, _ROUND_EVENTS)
        if group <= 0:
            stop.wait(max(_ROUND_SECS, run.next_moment() - run.secs))
        else:
            now, progress = datetime.now(UTC), run.progress(run.secs)
            events = [traffic.event(now, progress) for _ in range(group)]
            lines = b"".join([orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in events])
            if not connection.send(lines, run.sent):
                break
            run.sent += group
            run.kinds.update([event.get("type", "mlflow") for event in events])
            show(run, lines)
        run.secs = time.monotonic() - started - connection.waited
    connection.finish(run.sent)
    run.secs = time.monotonic() - started - connection.waited
