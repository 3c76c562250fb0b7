"""What happens around predictions: training, pipelines, data checks, logs, operations, audit, lineage."""

from datetime import datetime
from random import Random
from typing import Any

from gateway.cli.traffic.models import MODELS, OUTAGE_ERRORS
from gateway.cli.traffic.predictions import Predictions
from gateway.cli.traffic.scenario import Effects
from gateway.mlflow import RUN, STEPS

_EVENTS = (
    f"{RUN}_start",
    *(f"{step}_{end}" for step in STEPS for end in ("start", "success")),
    f"{RUN}_success",
    f"{RUN}_end",
)
_EPOCHS = 20
_CHECKS = ("completeness", "uniqueness", "value_range", "distribution", "freshness")
_COLUMNS = ("amount", "age", "country", "device", "session_length")
_OPERATIONS = ("deploy_model", "batch_scoring", "feature_backfill", "index_rebuild")
_ACTIONS = ("model.promote", "model.read", "dataset.export", "key.create", "threshold.change")
_ACTORS = ("alice", "bob", "carol", "ci-pipeline")


class Work:
    """Makes the events around predictions; runs and operations go on from event to event."""

    def __init__(self, random: Random, predictions: Predictions) -> None:
        self._random = random
        self._predictions = predictions
        self._epoch = 0
        self._run_id = ""
        self._model = MODELS[0]
        self._pipeline_step = 0
        self._pipeline_run = ""
        self._run_began = self._step_began = self._epoch_began = self._operation_began = ""
        self._operation = ""
        self._operation_id = ""
        self._operation_done = 0.0

    def training(self, event: dict[str, Any], _: Effects) -> dict[str, Any]:
        """Report the next epoch of the current training run."""
        draw = self._random.random
        # An epoch began when the one before was reported.
        self._epoch_began, began = event["timestamp"], self._epoch_began or event["timestamp"]
        if self._epoch in (0, _EPOCHS):
            self._epoch, self._run_id = 0, self._identifier("run")
            self._model = self._random.choice(MODELS)
        self._epoch += 1
        loss = 0.15 + 0.9 * 0.82**self._epoch
        event["model_name"], event["model_version"] = self._model.name, self._model.versions[1]
        event["run_id"], event["experiment_id"] = self._run_id, f"{self._model.name}-weekly"
        event["epoch"], event["step"] = self._epoch, self._epoch * 500
        event["metrics"] = {
            "loss": round(loss * (0.97 + 0.06 * draw()), 4),
            "val_loss": round(loss * (1.05 + 0.1 * draw()), 4),
            "accuracy": round(0.97 - 0.4 * loss + 0.01 * draw(), 4),
        }
        event["parameters"] = {"learning_rate": 0.001, "batch_size": 64, "optimizer": "adam"}
        event["dataset_version"] = "2024-w03"
        event["duration_ms"] = _milliseconds(began, event["timestamp"])
        event["status"] = "completed" if self._epoch == _EPOCHS else "running"
        return event

    def mlflow(self, event: dict[str, Any], effects: Effects) -> dict[str, Any]:
        """Report the next step of the current MLflow pipeline run, now and then its failure."""
        draw = self._random.random
        # An MLflow pipeline sends no type: its event_type decides.
        del event["type"]
        if self._pipeline_step == 0:
            self._pipeline_run, self._run_began = self._identifier("run"), event["timestamp"]
        name = _EVENTS[self._pipeline_step]
        self._pipeline_step = (self._pipeline_step + 1) % len(_EVENTS)
        details: dict[str, Any] = {"run_id": self._pipeline_run}
        if name.endswith("_start"):
            self._step_began = event["timestamp"]
        if name.endswith("_success"):
            since = self._run_began if name == f"{RUN}_success" else self._step_began
            details["duration_ms"] = _milliseconds(since, event["timestamp"])
            if draw() < 2 * effects.error_share:
                name = name.removesuffix("success") + "error"
                details["error"] = self._random.choice(OUTAGE_ERRORS)[0]
                self._pipeline_step = 0
        if name == "model_evaluation_success":
            details["rmse"] = round(0.3 + 0.4 * draw(), 4)
            details["r2"] = round(0.8 + 0.15 * draw(), 4)
        event["event_type"], event["details"], event["source"] = name, details, "mlflow_pipeline"
        return event

    def data_quality(self, event: dict[str, Any], effects: Effects) -> dict[str, Any]:
        """Report one check of a data set; under drift its score falls and its distance grows."""
        draw = self._random.random
        score = 0.94 + 0.06 * draw() - 0.35 * effects.drift
        drift = 0.02 + 0.08 * draw() + 0.5 * effects.drift
        rows = 10_000 + int(draw() * 5000)
        event["dataset_name"] = f"{self._random.choice(MODELS).name}_features"
        event["check_name"], event["column"] = self._random.choice(_CHECKS), self._random.choice(_COLUMNS)
        event["score"], event["drift_score"] = round(score, 3), round(drift, 3)
        event["passed"] = score >= 0.8 and drift < 0.3
        event["row_count"], event["missing_count"] = rows, int(rows * (1 - score) * 0.2)
        return event

    def log(self, event: dict[str, Any], effects: Effects) -> dict[str, Any]:
        """Write the prediction service's line about the last prediction."""
        draw = self._random.random
        about = self._predictions.recent or {}
        event["request_id"] = about.get("request_id", event["request_id"])
        # A request takes somewhat longer than the model.
        duration = round(about.get("inference_time_ms", MODELS[0].latency_ms) / 1000 * (1.05 + 0.2 * draw()), 4)
        event["service"], event["logger"] = "prediction-api", "prediction_api.handlers"
        event["endpoint"], event["duration"] = "/predict", duration
        event["model_type"] = about.get("model_name", MODELS[0].name)
        event["labels"] = {"app": "prediction-api", "pod": f"prediction-api-{int(draw() * 4)}"}
        message = about.get("error_message")
        if message is None and draw() < effects.error_share:
            message = self._random.choice(OUTAGE_ERRORS)[0]
        if message is not None:
            event["level"], event["message"], event["error"] = "ERROR", message, message
        elif duration > 0.3:
            event["level"], event["message"] = "WARNING", f"Slow request: /predict took {duration} s"
        else:
            event["level"], event["message"] = "INFO", f"POST /predict 200 in {duration} s"
        return event

    def operation(self, event: dict[str, Any], effects: Effects) -> dict[str, Any]:
        """Report how the current operation goes on: its start, its progress, its end."""
        draw = self._random.random
        if not self._operation:
            self._operation, self._operation_done = self._random.choice(_OPERATIONS), 0.0
            self._operation_id, status = self._identifier("op"), "start"
            self._operation_began = event["timestamp"]
        else:
            self._operation_done = min(1.0, self._operation_done + 0.15 + 0.3 * draw())
            status = "complete" if self._operation_done == 1.0 else "progress"
            if draw() < effects.error_share:
                status = "error"
        event["operation_id"], event["operation"], event["status"] = (
            self._operation_id,
            self._operation,
            status,
        )
        event["progress"] = round(self._operation_done, 2)
        event["duration_ms"] = _milliseconds(self._operation_began, event["timestamp"])
        event["user_id"] = self._random.choice(_ACTORS)
        if status in ("complete", "error"):
            self._operation = ""
        return event

    def audit(self, event: dict[str, Any], _: Effects) -> dict[str, Any]:
        """Say who did what to which model."""
        event["actor"], event["action"] = self._random.choice(_ACTORS), self._random.choice(_ACTIONS)
        event["resource"] = f"models/{self._random.choice(MODELS).name}"
        event["outcome"] = "denied" if self._random.random() < 0.05 else "success"
        return event

    def lineage(self, event: dict[str, Any], _: Effects) -> dict[str, Any]:
        """Name one node of a model's history and what it was made from."""
        model = self._random.choice(MODELS).name
        chain = (
            ("data_source", "warehouse", "register"),
            ("raw_data", "raw rows", "extract"),
            ("features", "features", "engineer"),
            ("model", "model", "train"),
            ("predictions", "predictions", "predict"),
        )
        position = self._random.randrange(len(chain))
        node_type, name, operation = chain[position]
        event["node_id"], event["node_type"] = f"{model}:{node_type}", node_type
        event["name"], event["operation"] = f"{model} {name}", operation
        event["inputs"] = [f"{model}:{chain[position - 1][0]}"] if position else []
        return event

    def _identifier(self, prefix: str) -> str:
        return f"{prefix}-{self._random.getrandbits(48):012x}"


def _milliseconds(since: str, until: str) -> int:
    """Return how long it took: so a duration is never longer than the time in which it is reported."""
    began, ended = map(datetime.fromisoformat, (since, until))
    return round((ended - began).total_seconds() * 1000)
