"""What every sort of traffic has in common: kinds in their shares, times, ids, and the scenario's course."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

from gateway.cli.traffic.scenario import Effects, Scenario, effects

Maker = Callable[[dict[str, Any], Effects], dict[str, Any]]
"""Completes an event that has its type, time and ids."""

_STEPS = 200


class Events:
    """Makes one event after another, each kind by its maker and as often as its share of the whole says."""

    def __init__(
        self, random: Random, scenario: Scenario, shares: Mapping[str, int], makers: Mapping[str, Maker]
    ) -> None:
        self._random = random
        self._scenario = scenario
        self._table = [(kind, makers[kind]) for kind, share in shares.items() for _ in range(share)]
        self._step = 0
        self._effects = effects(scenario, 0.0)
        self._now: datetime | None = None
        self._timestamp = ""

    def event(self, now: datetime, progress: float) -> dict[str, Any]:
        """Make the next event, of the time `now`, at a progress of 0 to 1 through the scenario."""
        if now is not self._now:
            self._now = now
            self._timestamp = f"{now.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
        step = int(min(1.0, max(0.0, progress)) * _STEPS)
        if step != self._step:
            self._step, self._effects = step, effects(self._scenario, step / _STEPS)
        kind, make = self._table[int(self._random.random() * len(self._table))]
        identifiers = f"{self._random.getrandbits(192):048x}"
        event: dict[str, Any] = {
            "type": kind,
            "timestamp": self._timestamp,
            "event_id": identifiers[:32],
            "request_id": f"req-{identifiers[32:]}",
        }
        return make(event, self._effects)
