"""Records as the sinks tell them to the figures, and a clock that tests set."""

import json
from collections.abc import Iterable
from typing import Any

from gateway.monitoring.figures import Figures, Told
from gateway.monitoring.gathering import gatherer
from gateway.settings import Monitoring
from gateway.summary import Summary
from schemas import BUILT_IN

NOW = 1_800_000_000.0  # a whole minute
gather = gatherer(BUILT_IN, "s")


class Clock:
    """Seconds since 1970."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def documents(events: Iterable[dict[str, Any]], index: str = "ml-metrics-2027.01.15") -> list[tuple[str, bytes]]:
    """Return events as documents of an index."""
    return [(index, json.dumps(each).encode()) for each in events]


def prediction(model: str = "m", version: str = "1", **fields: Any) -> dict[str, Any]:
    """Return a prediction."""
    return {"model_name": model, "model_version": version, **fields}


def told(at: float, *events: dict[str, Any], left_out: Iterable[dict[str, Any]] = ()) -> Told:
    """Return a record of events."""
    left = documents(left_out)
    return Told(at, gather(documents(events)).encode(), left, none=bool(left) and len(left) == len(events))


class Disk:
    """What a sink would have on disk, and figures over it."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.settings = Monitoring(**settings)
        self.blobs: dict[tuple[str, int], bytes] = {}
        self.figures = Figures(self.settings, gather, self.clock)

    def take(self, *records: Told, folder: str = "0") -> None:
        """Count records, as a transaction does."""
        change = self.figures.change(folder, records)
        for place, data in change.blobs.items():
            if data is None:
                del self.blobs[place]
            else:
                self.blobs[place] = data
        change.put()

    def restart(self) -> None:
        """Begin again with what is on disk."""
        self.figures = Figures(self.settings, gather, self.clock)
        self.figures.load((*place, data) for place, data in self.blobs.items())

    def predictions(self) -> dict[tuple[str, str], int]:
        """Return the predictions of each model and version."""
        return {key: model.predictions for key, model in self.figures.all().models.items()}


def plain(summary: Summary) -> dict[str, Any]:
    """Return all that is counted in a form in which order does not matter, sums rounded."""
    models = {
        key: (
            each.predictions, each.errors, each.outcomes, each.confidence.counts, round(each.confidence.sum, 6),
            each.duration_ms.counts, round(each.duration_ms.sum, 6), each.refused,
            {stage: found.counts for stage, found in each.stages.items()},
        )
        for key, each in summary.models.items()
    }  # fmt: skip
    endpoints = {key: each.counts for key, each in summary.endpoints.items()}
    return {"indices": summary.indices, "models": models, "endpoints": endpoints}
