"""The generator: invented events of all kinds in realistic shares, the same for the same seed."""

from random import Random

from gateway.cli.traffic.events import Events
from gateway.cli.traffic.predictions import Predictions
from gateway.cli.traffic.scenario import Scenario
from gateway.cli.traffic.work import Work

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


class Traffic(Events):
    """Invented traffic; nothing but the seed, the scenario and the calls decides about it."""

    def __init__(self, seed: int, scenario: Scenario) -> None:
        random = Random(seed)  # noqa: S311
        predictions = Predictions(random)
        work = Work(random, predictions)
        makers = {
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
        super().__init__(random, scenario, SHARES, makers)
