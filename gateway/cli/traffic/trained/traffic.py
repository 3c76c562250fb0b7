"""Traffic of trained models: every prediction is one that a classifier really made of a row it had not seen.

What is real: each prediction is one call of `predict_proba` with one row, made when its event is made;
class and confidence are the call's, `true_label` the dataset's, `dataset_row` the row's number in
scikit-learn's dataset, `inference_time_ms` the time of that very call, `cpu_usage` and `memory_usage_mb`
those of this process. Data checks and training reports are computed and measured likewise.
What scenarios do: drift moves the features, degradation adds noise to those of one version; accuracy,
confidence and drift scores follow by themselves. Under high_load and errors the measured time is
multiplied, as by a queue in front of the model. Errors of an outage are invented, with their times;
the others are what scikit-learn says to a wrong row.
The same seed gives the same events but for the `MEASURED` fields.
"""

from collections import deque
from random import Random
from typing import Any

import numpy as np

from gateway.cli.traffic.events import Events
from gateway.cli.traffic.models import OUTAGE_ERRORS
from gateway.cli.traffic.scenario import Effects, Scenario
from gateway.cli.traffic.trained.service import Service, Usage
from gateway.cli.traffic.trained.training import Version, versions

SHARES = {"model_inference": 740, "label": 110, "log": 60, "data_quality": 40, "model_training": 50}
"""How many of a thousand events are of a kind. After the last report of a training there are more predictions."""

MEASURED = {"inference_time_ms", "duration_ms", "duration", "message", "cpu_usage", "memory_usage_mb"}
"""What differs from run to run: times, usage, and the log lines that tell a time."""

DEGRADING = "digits", "2.0.0"
"""The version that gets worse in the degradation scenario."""

_LABELLED_AT_ONCE = 0.8
_WAITING = 1000


class TrainedTraffic(Events):
    """Trains the models, about a second, then lets them predict."""

    def __init__(self, seed: int, scenario: Scenario) -> None:
        self._usage = Usage()
        random = Random(seed)  # noqa: S311
        noise = np.random.default_rng(random.getrandbits(64))
        self._services = [Service(pair, noise) for pair in versions()]
        self._reports = deque(
            _with_run_id(report, run_id)
            for pair in versions()
            for version in pair
            for run_id in [f"run-{random.getrandbits(48):012x}"]
            for report in version.reports
        )
        self._unlabelled: deque[dict[str, Any]] = deque(maxlen=_WAITING)
        self._recent: dict[str, Any] = {}
        makers = {
            "model_inference": self._prediction,
            "label": self._label,
            "log": self._log,
            "data_quality": self._data_quality,
            "model_training": self._training,
        }
        super().__init__(random, scenario, SHARES, makers)

    def _prediction(self, event: dict[str, Any], effects: Effects) -> dict[str, Any]:
        draw = self._random.random
        service = self._random.choice(self._services)
        version = self._random.choice(service.versions)
        request = service.request(effects)
        event["type"] = "model_inference"
        event["model_name"], event["model_version"] = service.dataset.name, version.number
        event["dataset_row"] = int(service.dataset.served_rows[request.position])
        event["data_quality_score"] = request.quality
        event["cpu_usage"], event["memory_usage_mb"] = self._usage.measured()
        self._recent = event
        if draw() < effects.error_share:
            if draw() < effects.outage_share:
                event["error_message"], event["inference_time_ms"] = self._random.choice(OUTAGE_ERRORS)
            else:
                refused = service.refuse(version, request, self._random.getrandbits(16))
                event["error_message"], event["inference_time_ms"] = refused.error, refused.milliseconds
            return event
        answer = service.answer(version, request, effects.degradation if _degrades(version) else 0.0)
        event["inference_time_ms"] = round(answer.milliseconds * effects.latency_factor, 4)
        event["prediction_class"] = service.dataset.classes[answer.position]
        event["prediction_confidence"] = answer.confidence
        truth = service.dataset.classes[int(service.dataset.served_truths[request.position])]
        if draw() < _LABELLED_AT_ONCE:
            event["true_label"] = truth
        else:
            known = {"request_id": event["request_id"], "model_name": event["model_name"], "true_label": truth}
            self._unlabelled.append(known)
        return event

    def _label(self, event: dict[str, Any], effects: Effects) -> dict[str, Any]:
        """Tell the truth about the oldest prediction without one."""
        if not self._unlabelled:
            return self._prediction(event, effects)
        return event | self._unlabelled.popleft() | {"labelled_at": event["timestamp"]}

    def _log(self, event: dict[str, Any], effects: Effects) -> dict[str, Any]:
        """Write the service's line about the last prediction."""
        recent = self._recent
        if not recent:
            return self._prediction(event, effects)
        milliseconds = recent["inference_time_ms"]
        event["request_id"], event["model_type"] = recent["request_id"], recent["model_name"]
        event["service"], event["logger"] = "sklearn-models", f"models.{recent['model_name']}"
        event["duration"] = round(milliseconds / 1000, 6)
        if error := recent.get("error_message"):
            event["level"], event["message"], event["error"] = "ERROR", error, error
            return event
        event["prediction"], event["confidence"] = recent["prediction_class"], recent["prediction_confidence"]
        event["level"] = "INFO"
        event["message"] = f"{recent['model_name']} {recent['model_version']} answered in {milliseconds:.2f} ms"
        return event

    def _data_quality(self, event: dict[str, Any], _: Effects) -> dict[str, Any]:
        service = self._random.choice(self._services)
        return event | service.check(self._random.choice(service.dataset.lively))

    def _training(self, event: dict[str, Any], effects: Effects) -> dict[str, Any]:
        """Tell the next piece of how the models were trained, before this run began to send."""
        if not self._reports:
            return self._prediction(event, effects)
        # An MLflow pipeline sends no type: its event_type decides.
        del event["type"]
        return event | self._reports.popleft()


def _degrades(version: Version) -> bool:
    return (version.dataset.name, version.number) == DEGRADING


def _with_run_id(report: dict[str, Any], run_id: str) -> dict[str, Any]:
    if "details" in report:
        return report | {"details": {"run_id": run_id} | report["details"]}
    return report | {"run_id": run_id}
