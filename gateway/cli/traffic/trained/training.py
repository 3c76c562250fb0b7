"""Trains the classifiers, two versions for each dataset, and reports how that went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gateway.cli.traffic.trained.data import Dataset, datasets

_EPOCHS = 20
_NET: dict[str, Any] = {"hidden_layer_sizes": [32], "batch_size": 32, "learning_rate_init": 0.003}
_LINEAR: dict[str, Any] = {"C": 1.0, "max_iter": 500}
_FOREST: dict[str, Any] = {"n_estimators": 10, "max_depth": 8}


@dataclass(frozen=True)
class Version:
    """A fitted classifier: `estimator` has scikit-learn's `predict_proba` and takes the dataset's own features."""

    dataset: Dataset
    number: str
    estimator: Any
    reports: list[dict[str, Any]]
    """The events of its training, in their order, without times and ids; durations and metrics are measured."""


@dataclass
class _Stopwatch:
    milliseconds: float = 0.0


@cache
def versions() -> tuple[tuple[Version, Version], ...]:
    """Train all of them, once: of each dataset 1.0.0, which is linear or a small net, and 2.0.0, a small forest."""
    return tuple(
        (
            _train(dataset, "1.0.0", MLPClassifier if dataset.name == "digits" else LogisticRegression),
            _train(dataset, "2.0.0", RandomForestClassifier),
        )
        for dataset in datasets()
    )


def _train(dataset: Dataset, number: str, algorithm: Any) -> Version:
    named = {"model_name": dataset.name, "model_version": number}
    given = {MLPClassifier: _NET, LogisticRegression: _LINEAR, RandomForestClassifier: _FOREST}[algorithm]
    parameters = {"algorithm": algorithm.__name__, **given}
    training = {"type": "model_training", **named, "experiment_id": dataset.name, "parameters": parameters}
    training["dataset_version"] = dataset.version
    estimator = algorithm(**given, random_state=0)
    rows, columns = dataset.learned.shape
    reports = [
        _step("mlflow_run_start", **named),
        _step("data_loading_success", **named, rows=rows, columns=columns),
        _step("model_training_start", **named),
    ]
    with _measured() as whole:
        scaler = StandardScaler().fit(dataset.learned)
        if algorithm is MLPClassifier:
            epochs = _epochs(estimator, scaler, dataset)
            reports += [{**training, **epoch, "status": "running"} for epoch in epochs]
        else:
            estimator.fit(scaler.transform(dataset.learned), dataset.learned_truths)
    pipeline = make_pipeline(scaler, estimator)
    with _measured() as evaluation:
        metrics = {
            "accuracy": float(pipeline.score(dataset.served, dataset.served_truths)),
            "train_accuracy": float(pipeline.score(dataset.learned, dataset.learned_truths)),
            "log_loss": float(log_loss(dataset.served_truths, pipeline.predict_proba(dataset.served))),
        }
    reports += [
        {**training, "metrics": metrics, "duration_ms": whole.milliseconds, "status": "completed"},
        _step("model_training_success", **named, duration_ms=whole.milliseconds),
        _step("model_evaluation_success", **named, duration_ms=evaluation.milliseconds, **metrics),
        _step("mlflow_run_end", **named),
    ]
    return Version(dataset, number, pipeline, reports)


def _epochs(net: Any, scaler: Any, dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Train the net epoch by epoch; yield what each reached and took."""
    learned, served = scaler.transform(dataset.learned), scaler.transform(dataset.served)
    for epoch in range(1, _EPOCHS + 1):
        with _measured() as passed:
            net.partial_fit(learned, dataset.learned_truths, classes=range(len(dataset.classes)))
        metrics = {"loss": float(net.loss_), "accuracy": float(net.score(served, dataset.served_truths))}
        yield {"epoch": epoch, "metrics": metrics, "duration_ms": passed.milliseconds}


def _step(event_type: str, **details: Any) -> dict[str, Any]:
    """Report a step as an MLflow pipeline does."""
    return {"event_type": event_type, "details": details, "source": "mlflow_pipeline"}


@contextmanager
def _measured() -> Iterator[_Stopwatch]:
    watch, started = _Stopwatch(), time.perf_counter()
    yield watch
    watch.milliseconds = (time.perf_counter() - started) * 1000
