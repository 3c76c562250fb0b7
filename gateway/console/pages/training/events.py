"""What training jobs and pipelines tell, out of their documents: as little of it as the page needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from gateway.mlflow import RUN

OUTCOMES = ("start", "success", "error", "end")
FAILED = frozenset(("failed", "failure", "error", "killed", "aborted", "cancelled", "canceled", "crashed"))
FINISHED = frozenset(("finished", "completed", "complete", "succeeded", "success", "done", "ended"))
"""The words of a report's status, whatever the case; any other means that the run goes on."""
_ERRORS = ("error", "error_message", "message", "exception", "reason")
_EXPERIMENTS = ("experiment_name", "experiment_id", "experiment")
_NO_METRICS = ("run_id", "duration_ms")
MOST_CHARACTERS = 500
"""Of a name or a message: a sender may put a megabyte there, and a page has hundreds of them."""
Hit = dict[str, Any]


class Event(NamedTuple):
    """An MLflow pipeline event."""

    at: float
    """Seconds since 1970, as everywhere here."""
    category: str
    step: str
    outcome: str | None
    """One of `OUTCOMES`; None for a word that is no step's beginning or end."""
    run: str | None
    source: str
    model: str | None
    experiment: str | None
    duration_ms: float | None
    metrics: dict[str, float]
    error: str | None
    """What went wrong, if anything did; empty where nobody says."""
    hit: Hit | None
    """The document, of an error."""

    @property
    def who(self) -> str:
        """Who told it."""
        return self.source

    @property
    def order(self) -> tuple[float, int]:
        """Events of one moment come as they must have happened."""
        place = 1 if self.outcome == "start" else 2 if self.outcome is None else 3
        if self.step == RUN:
            place = 0 if self.outcome == "start" else 5 if self.outcome == "end" else 4
        return self.at, place


class Report(NamedTuple):
    """A training report."""

    at: float
    run: str | None
    model: str | None
    version: str | None
    experiment: str | None
    epoch: int | None
    step: int | None
    status: str | None
    metrics: dict[str, float]
    error: str | None
    """What went wrong, if the run failed; empty where nobody says."""
    hit: Hit | None
    """The document, of a run that failed."""

    @property
    def who(self) -> str:
        """What it is about, beside the run."""
        return self.model or self.experiment or "training"

    @property
    def progress(self) -> tuple[int, int]:
        """How far the training had come."""
        return -1 if self.epoch is None else self.epoch, -1 if self.step is None else self.step

    @property
    def order(self) -> tuple[float, tuple[int, int]]:
        """Reports of one moment come as they must have been made."""
        return self.at, self.progress


def told(hit: Hit) -> Event | Report:
    """Return what a document of a training index tells."""
    source = hit["_source"]
    at = datetime.fromisoformat(source["@timestamp"]).timestamp()
    return _event(at, source, hit) if source.get("pipeline") == "mlflow" else _report(at, source, hit)


def _message(*places: Mapping[str, Any]) -> str:
    """Return what went wrong, in the sender's words; empty where there are none."""
    return next((word for place in places for name in _ERRORS if (word := _word(place.get(name)))), "")


def _event(at: float, source: dict[str, Any], hit: Hit) -> Event:
    event = _mapping(source.get("mlflow_event"))
    details = _mapping(event.get("details"))
    category = str(source.get("event_category") or event.get("event_type"))[:MOST_CHARACTERS]
    step, _, outcome = category.rpartition("_")
    if not step or outcome not in OUTCOMES:
        step, outcome = category, ""
    return Event(
        at,
        category,
        step,
        outcome or None,
        _word(details.get("run_id")),
        _word(event.get("source")) or "pipeline",
        _word(details.get("model_name")) or _word(details.get("model")),
        next((word for name in _EXPERIMENTS if (word := _word(details.get(name)))), None),
        _duration(details.get("duration_ms"), at),
        {**_numbers(details), **_numbers(_mapping(details.get("metrics")))},
        _message(details, event) if outcome == "error" else None,
        hit if outcome == "error" else None,
    )


def _report(at: float, source: dict[str, Any], hit: Hit) -> Report:
    status = (_word(source.get("status")) or "").lower() or None
    failed = status in FAILED
    return Report(
        at,
        _word(source.get("run_id")),
        _word(source.get("model_name")),
        _word(source.get("model_version")),
        _word(source.get("experiment_id")),
        source.get("epoch"),
        source.get("step"),
        status,
        _numbers(_mapping(source.get("metrics"))),
        _message(source) if failed else None,
        hit if failed else None,
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: Any) -> str | None:
    """Return a name, the beginning of a long one; None for what is none."""
    is_name = isinstance(value, str | int | float) and not isinstance(value, bool)
    return (str(value).strip()[:MOST_CHARACTERS].strip() or None) if is_name else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _duration(value: Any, end: float) -> float | None:
    """Return a duration in milliseconds; None for one that cannot be: negative, or longer than since 1970."""
    number = _number(value)
    return number if number is not None and 0 <= number <= end * 1e3 else None


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    found = ((name, _number(value)) for name, value in values.items() if name not in _NO_METRICS)
    return {name: number for name, number in found if number is not None and len(name) <= MOST_CHARACTERS}
