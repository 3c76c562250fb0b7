"""The metrics of runs: over runs, and of one run over its epochs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.console.pages.training.runs import Run

FIRST = ("rmse", "r2", "r2_score", "r_squared", "mae", "mse", "accuracy", "f1", "f1_score", "auc", "val_loss", "loss")
MOST_LINES = 8
MOST_RUNS = 500
MOST_JOINED = 60
"""More points than these are not joined: one would see nothing but the lines."""
MOST_METRICS = 24
"""Of one run, over its epochs."""
MOST_POINTS = 500
"""Of one metric over epochs or steps: of more, which nobody could tell apart, the last of so many is shown."""
_SIDES = ("train_", "training_", "val_", "valid_", "validation_", "test_", "eval_")
Spec = dict[str, Any]


def names(runs: Iterable[Run]) -> list[str]:
    """Return the metrics that runs have, those that most people look at first."""
    found = {name for run in runs for name in run.metrics}
    return sorted(found, key=lambda name: (_rank(name), name))


def over_runs(runs: Sequence[Run], metric: str) -> tuple[Spec, int]:
    """Return a chart of the last value of a metric in each run, and how many older runs it leaves out.

    ``runs`` come newest first. A series is a model, else an experiment, else who told of it.
    """
    having = [run for run in runs if metric in run.metrics]
    points = sorted(having[:MOST_RUNS], key=lambda run: run.metrics[metric][0])
    most = [name for name, _ in Counter(run.series for run in points).most_common(MOST_LINES)]
    if len({run.series for run in points}) > MOST_LINES:
        most[-1] = "others"
    values: dict[str, list[float | None]] = {name: [None] * len(points) for name in most}
    for place, run in enumerate(points):
        values[run.series if run.series in values else "others"][place] = run.metrics[metric][1]
    spec: Spec = {
        "type": "points",
        "joined": len(points) <= MOST_JOINED,
        "time": True,
        "labels": [run.metrics[metric][0] * 1000 for run in points],
        "names": [run.title for run in points],
        "series": [{"name": name, "values": each} for name, each in sorted(values.items())],
    }
    if len(spec["labels"]) == 1:  # an axis needs a length
        (at,) = spec["labels"]
        spec |= {"from": at - 60_000, "to": at + 60_000}
    return spec, len(having) - len(points)


def over_epochs(run: Run) -> tuple[str, list[tuple[str, Spec]]]:
    """Return what the reports of a run count (epoch or step), and a chart for each group of metrics by name.

    What differs only in being of the training or of the validation is one group: loss and val_loss.
    """
    unit = "epoch" if any(each.epoch is not None for each in run.reports) else "step"
    values: dict[str, dict[int, float]] = {}
    for place, report in enumerate(run.reports):
        at = report.epoch if unit == "epoch" else report.step if report.step is not None else place
        if at is not None:
            for name, value in report.metrics.items():
                values.setdefault(name, {})[at] = value  # of several reports of an epoch the last counts
    groups: dict[str, list[str]] = {}
    for name in sorted(values, key=lambda name: (_rank(_base(name)), name))[:MOST_METRICS]:
        groups.setdefault(_base(name), []).append(name)
    charts = []
    for base, members in groups.items():
        shown = {name: _thinned(values[name]) for name in members}
        labels = sorted({at for each in shown.values() for at in each})
        series = [{"name": name, "values": [each.get(at) for at in labels]} for name, each in shown.items()]
        charts.append((base, {"type": "line", "joined": True, "labels": labels, "series": series}))
    return unit, charts


def _thinned(values: dict[int, float]) -> dict[int, float]:
    """Return as many values as a chart has points, the last one among them."""
    return {at: values[at] for at in sorted(values)[:: -math.ceil(len(values) / MOST_POINTS)]}


def _base(name: str) -> str:
    return next((name[len(side) :] for side in _SIDES if name.lower().startswith(side) and name != side), name)


def _rank(name: str) -> int:
    return FIRST.index(name.lower()) if name.lower() in FIRST else len(FIRST)
