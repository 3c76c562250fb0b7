"""A stored event in a few words, for whoever looks at many: on a page, in a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import orjson

Fields = Mapping[str, Any]
State = Literal["", "good", "warn", "bad", "soft"]
Said = tuple[Any, State]
_DAY = re.compile(r"-\d{4}\.\d\d\.\d\d$")
_NOT_SHOWN = {"@timestamp", "timestamp", "received_at", "type", "tenant", "event_id", "request_id", "@version"}
_CONFIDENCES: Mapping[str, State] = {"high": "good", "medium": "warn", "low": "bad"}
_LATENCIES: Mapping[str, State] = {"fast": "good", "slow": "warn", "very_slow": "bad"}
SEVERITIES: Mapping[str, State] = {
    "debug": "soft", "warn": "warn", "warning": "warn", "error": "bad", "critical": "bad", "fatal": "bad",
}  # fmt: skip
_WORST_FIRST: Sequence[State] = ("bad", "warn", "good")
_MAX_TEXT = 2000  # more of one value nobody reads


class Part(NamedTuple):
    """A part of what is said, and what to make of it."""

    text: str
    state: State


class Told(NamedTuple):
    """Of an event: what kind it is, who it is about, and what matters, most important first."""

    kind: str
    who: str
    parts: list[Part]


def worst(parts: Sequence[Part]) -> State:
    """Return what to make of all of it."""
    states = {part.state for part in parts}
    return next((state for state in _WORST_FIRST if state in states), "")


def severity(level: Any) -> State:
    """Return what to make of a log line of this level, or of an alert."""
    return SEVERITIES.get(_text(level).lower(), "")


def tell(hit: Mapping[str, Any], prefix: str) -> Told:
    """Tell of ``{"_index", "_source"}``; ``prefix`` is that of all indices."""
    base, fields = _DAY.sub("", hit["_index"]).removeprefix(prefix), hit["_source"]
    kind, who, what = _KINDS.get(base, (base, _first("model_name", "service", "name", "id"), _others))
    if base == "ml-training" and "mlflow_event" in fields:
        kind, who, what = _MLFLOW
    about = who(fields)
    said = [Part(_text(text), state) for text, state in what(fields) if text not in (None, "")]
    return Told(kind, about, [part for part in said if part.text != about])


def _prediction(fields: Fields) -> list[Said]:
    label, truth, correct = (fields.get(name) for name in ("prediction_class", "true_label", "prediction_correct"))
    level, latency = fields.get("confidence_level"), fields.get("latency_category")
    confidence, took = _number(fields.get("prediction_confidence")), _number(fields.get("inference_time_ms"))
    sign, state = _sign(correct)
    is_wrong = correct is False and truth is not None
    return [
        _error(fields),
        (None if label is None else sign + _text(label) + (f", label {_text(truth)}" if is_wrong else ""), state),
        (None if confidence is None else f"{confidence:.2f} {_text(level)}", _CONFIDENCES.get(_text(level), "")),
        (None if took is None else f"{_short_number(took)} ms {_text(latency)}", _LATENCIES.get(_text(latency), "")),
        *_soft(fields, "environment", "region", "request_id"),
    ]


def _error(fields: Fields) -> Said:
    if fields.get("error") is not True:
        return None, ""
    told = [_text(fields.get(name)) for name in ("error_type", "error_message")]
    return ": ".join(filter(None, told)) or "error", "bad"


def _training(fields: Fields) -> list[Said]:
    took = _number(fields.get("duration_ms"))
    return [
        *((f"{name} {_text(fields[name])}", "") for name in ("epoch", "step") if fields.get(name) is not None),
        (_pairs(fields.get("metrics")), ""),
        (fields.get("status"), "bad" if _is_bad(fields.get("status")) else ""),
        (None if took is None else f"{_short_number(took)} ms", ""),
        *_soft(fields, "run_id", "experiment_id", "dataset_version"),
    ]


def _mlflow(fields: Fields) -> list[Said]:
    event = fields.get("event_category")
    state: State = "bad" if _text(event).endswith("_error") else "good" if _text(event).endswith("_success") else ""
    sent = fields["mlflow_event"]
    return [(event, state), (_pairs(sent.get("details") if isinstance(sent, dict) else None), "")]


def _quality(fields: Fields) -> list[Said]:
    sign, state = _sign(fields.get("passed"))
    check, column = fields.get("check_name"), fields.get("column")
    numbers = {"score": "score", "drift_score": "drift", "missing_count": "missing", "row_count": "rows"}
    return [
        (f"{sign}{_text(check)}{f' of {_text(column)}' if column is not None else ''}", state),
        *((f"{shown} {_text(fields[name])}", "") for name, shown in numbers.items() if fields.get(name) is not None),
    ]


def _log(fields: Fields) -> list[Said]:
    level, state = fields.get("level"), severity(fields.get("level"))
    took = _number(fields.get("duration"))
    return [
        (level, state),
        (fields.get("message"), state),
        (fields.get("error") if isinstance(fields.get("error"), str) else None, "bad"),
        (None if took is None else f"duration {_short_number(took)}", ""),
        *_soft(fields, "endpoint", "logger", "request_id"),
    ]


def _label(fields: Fields) -> list[Said]:
    return [(f"true label {_text(fields.get('true_label'))}", ""), *_soft(fields, "request_id", "labelled_at")]


def _operation(fields: Fields) -> list[Said]:
    progress, took = _number(fields.get("progress")), _number(fields.get("duration_ms"))
    status = fields.get("status")
    return [
        (status, "bad" if _is_bad(status) else "good" if status == "complete" else ""),
        (None if progress is None else f"{progress:.0%}", ""),
        (None if took is None else f"{_short_number(took)} ms", ""),
        *_soft(fields, "operation_id", "user_id"),
    ]


def _audit(fields: Fields) -> list[Said]:
    outcome = fields.get("outcome")
    return [(fields.get("action"), ""), (fields.get("resource"), ""), (outcome, "bad" if _is_bad(outcome) else "")]


def _lineage(fields: Fields) -> list[Said]:
    inputs = fields.get("inputs")
    sources = ", ".join(map(_text, inputs)) if isinstance(inputs, list) else _text(inputs)
    return [
        (fields.get("node_type"), ""),
        (fields.get("operation"), ""),
        (f"from {sources}" if sources else None, ""),
        *_soft(fields, "node_id"),
    ]


def _alert(fields: Fields) -> list[Said]:
    value, bound = fields.get("value"), fields.get("threshold")
    measured = None if value is None else f"{_text(fields.get('metric'))} {_text(value)}".strip()
    return [
        (fields.get("severity"), severity(fields.get("severity"))),
        (fields.get("status"), "good" if fields.get("status") == "resolved" else "bad"),
        (measured if bound is None or measured is None else f"{measured} against {_text(bound)}", ""),
        (fields.get("message"), ""),
        *_soft(fields, "model_name"),
    ]


def _others(fields: Fields) -> list[Said]:
    found = {name: value for name, value in fields.items() if name not in _NOT_SHOWN}
    return [(_pairs(found), ""), *_soft(fields, "request_id")]


def _first(*names: str) -> Callable[[Fields], str]:
    return lambda fields: next((_text(fields[name]) for name in names if fields.get(name) is not None), "-")


def _model(fields: Fields) -> str:
    version = fields.get("model_version")
    return _text(fields.get("model_name", "-")) + ("" if version is None else f" {_text(version)}")


_Kind = tuple[str, Callable[[Fields], str], Callable[[Fields], list[Said]]]
_MLFLOW: _Kind = ("mlflow", _first("pipeline"), _mlflow)
_KINDS: dict[str, _Kind] = {
    "ml-metrics": ("prediction", _model, _prediction),
    "ml-training": ("training", _model, _training),
    "data-quality": ("quality", _first("dataset_name"), _quality),
    "ml-pipeline": ("log", _first("service", "logger", "host"), _log),
    "ml-labels": ("label", _first("model_name", "request_id"), _label),
    "ml-operations": ("operation", _first("operation", "operation_id"), _operation),
    "ml-audit": ("audit", _first("actor"), _audit),
    "ml-lineage": ("lineage", _first("name", "node_id"), _lineage),
    "ml-alerts": ("alert", _first("name", "alert_id"), _alert),
}


def _soft(fields: Fields, *names: str) -> list[Said]:
    return [(fields.get(name), "soft") for name in names]


def _pairs(found: Any) -> str | None:
    if not isinstance(found, dict):
        return None if found is None else _text(found)
    return " ".join(f"{name}={_text(value)}" for name, value in found.items() if value is not None)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return (value if isinstance(value, str) else orjson.dumps(value).decode())[:_MAX_TEXT]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _short_number(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _sign(verdict: Any) -> tuple[str, State]:
    return ("✓ ", "good") if verdict is True else ("✗ ", "bad") if verdict is False else ("", "")


def _is_bad(status: Any) -> bool:
    return _text(status).lower() in ("error", "failed", "failure", "denied", "refused")
