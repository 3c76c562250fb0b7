"""Predictions and the labels that come after them."""

from collections import deque
from random import Random
from typing import Any

from gateway.cli.traffic.models import DEGRADING, ERRORS, OUTAGE_ERRORS, TABLE_SIZE, drawn_models
from gateway.cli.traffic.scenario import Effects

_ENVIRONMENTS = ("production",) * 7 + ("staging",) * 2 + ("canary",)
_REGIONS = ("eu-central-1",) * 5 + ("us-east-1",) * 4 + ("ap-southeast-2",)
_USERS = 5000
_LABELLED_AT_ONCE = 0.8
_WAITING = 1000


class Predictions:
    """Makes predictions, and remembers those whose truth is still to be told."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._models = drawn_models()
        self._unlabelled: deque[tuple[str, str, str]] = deque(maxlen=_WAITING)
        self.recent: dict[str, Any] | None = None
        """The last prediction, for the log lines about it."""

    def prediction(self, event: dict[str, Any], effects: Effects) -> dict[str, Any]:
        """Make the event one prediction, right as often as its confidence says unless the effects differ."""
        draw = self._random.random
        model = self._models[int(draw() * len(self._models))]
        new = draw() < model.new_share
        latency = model.latencies[int(draw() * TABLE_SIZE)] * effects.latency_factor
        self.recent = event
        event["model_name"] = model.name
        event["model_version"] = model.versions[new]
        event["environment"] = _ENVIRONMENTS[int(draw() * 10)]
        event["region"] = _REGIONS[int(draw() * 10)]
        event["user_id"] = f"user-{int(draw() * _USERS)}"
        event["cpu_usage"] = round(min(100.0, 15 + 30 * draw() + effects.load), 1)
        if model.gpu:
            event["gpu_usage"] = round(min(100.0, model.gpu * (0.7 + 0.6 * draw()) + effects.load), 1)
        event["memory_usage_mb"] = round(model.memory_mb * (0.9 + 0.2 * draw() + effects.load / 200))
        event["data_quality_score"] = round(0.93 + 0.07 * draw() - 0.35 * effects.drift, 3)
        if draw() < effects.error_share:
            errors = OUTAGE_ERRORS if draw() < effects.outage_share else ERRORS
            event["error_message"], milliseconds = errors[int(draw() * len(errors))]
            event["inference_time_ms"] = round(milliseconds * (1 + 0.05 * draw()), 2)
            return event

        event["inference_time_ms"] = round(latency, 2)
        confidence = model.confidences[int(draw() * TABLE_SIZE)]
        accuracy = confidence
        if new and effects.degradation and model.name == DEGRADING.name:
            confidence = max(model.floor, confidence - 0.12 * effects.degradation)
            accuracy = confidence - 0.25 * effects.degradation
        # Half of the drifted inputs belong to the class that was the rarest, which the model knows least.
        classes = model.classes
        if effects.drift and draw() < 0.5 * effects.drift:
            truth = len(classes) - 1
            accuracy -= 0.15 * effects.drift
        else:
            truth = model.class_table[int(draw() * len(model.class_table))]
        answer = truth
        if draw() >= accuracy:
            answer = (truth + 1 + int(draw() * (len(classes) - 1))) % len(classes)
        event["prediction_confidence"] = round(confidence, 4)
        event["prediction_class"] = classes[answer]
        if draw() < _LABELLED_AT_ONCE:
            event["true_label"] = classes[truth]
        else:
            self._unlabelled.append((event["request_id"], model.name, classes[truth]))
        return event

    def label(self, event: dict[str, Any], effects: Effects) -> dict[str, Any]:
        """Make the event the label of the oldest prediction without one; without such, a prediction."""
        if not self._unlabelled:
            event["type"] = "model_inference"
            return self.prediction(event, effects)
        event["request_id"], event["model_name"], event["true_label"] = self._unlabelled.popleft()
        event["labelled_at"] = event["timestamp"]
        return event
