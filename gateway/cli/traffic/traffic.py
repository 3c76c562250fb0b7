"""The generator: events of all kinds in realistic shares, the same for the same seed."""

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

from gateway.cli.traffic.predictions import Predictions
from gateway.cli.traffic.scenario import Effects, Scenario, effects
from gateway.cli.traffic.work import Work

_Maker = Callable[[dict[str, Any], Effects], dict[str, Any]]

SHARES = {
    "model_inference": 780,
    "label": 80,
    "log": 60,
    "data_quality": 25,
    "model_training": 15,
    "mlflow": 15,
    "operation": 12,
    "audit": 7,
    "lineage": 6,
}
"""How many of a thousand events are of a kind."""

_STEPS = 200


class Traffic:
    """Makes one event after another; nothing but the seed, the scenario and the calls decides about them."""

    def __init__(self, seed: int, scenario: Scenario) -> None:
        self._random = Random(seed)  # noqa: S311
        self._scenario = scenario
        predictions = Predictions(self._random)
        work = Work(self._random, predictions)
        makers: dict[str, _Maker] = {
            "model_inference": predictions.prediction,
            "label": predictions.label,
            "log": work.log,
            "data_quality": work.data_quality,
            "model_training": work.training,
            "mlflow": work.mlflow,
            "operation": work.operation,
            "audit": work.audit,
            "lineage": work.lineage,
        }
        self._table = [(kind, makers[kind]) for kind, share in SHARES.items() for _ in range(share)]
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
        kind, make = self._table[int(self._random.random() * 1000)]
        identifiers = f"{self._random.getrandbits(192):048x}"
        event: dict[str, Any] = {
            "type": kind,
            "timestamp": self._timestamp,
            "event_id": identifiers[:32],
            "request_id": f"req-{identifiers[32:]}",
        }
        return make(event, self._effects)
