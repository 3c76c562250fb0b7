"""An event as one line of a terminal: when, what kind, who, and what matters about it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import orjson
from rich.text import Text

from gateway.cli.ask import plain

Fields = dict[str, Any]
_DAY = re.compile(r"-\d{4}\.\d\d\.\d\d$")
_NOT_SHOWN = {"@timestamp", "timestamp", "received_at", "type", "tenant", "event_id", "@version"}
_LEVELS = {"high": "green", "medium": "yellow", "low": "red"}
_LATENCIES = {"fast": "green", "slow": "yellow", "very_slow": "red"}
_SEVERITIES = {
    "debug": "dim", "warn": "yellow", "warning": "yellow", "error": "red", "critical": "bold red", "fatal": "bold red",
}  # fmt: skip
_WIDE = 100
_NARROW = 70
_MAX_TEXT = 2000  # more of one value nobody reads


def line(hit: dict[str, Any], prefix: str, width: int | None) -> Text:
    """Return the line of ``{"_index", "_id", "_source"}``, no longer than ``width`` cells; None: whole."""
    fields: Fields = hit["_source"]
    base = _DAY.sub("", hit["_index"]).removeprefix(prefix)
    kind, style, who, what = _KINDS.get(base, (base, "", _first("model_name", "service", "name", "id"), _others))
    if base == "ml-training" and "mlflow_event" in fields:
        kind, style, who, what = _MLFLOW
    cells = math.inf if width is None else width
    is_wide = cells >= _WIDE
    shown = Text(end="")
    shown.append(_time(fields, exact=is_wide) + " ", "dim")
    shown.append(f"{_short(plain(kind), 10):10} ", style)
    about = plain(who(fields))
    shown.append(f"{about:24} " if is_wide else f"{_short(about, 20 if cells >= _NARROW else 14)} ", "bold")
    parts = [(plain(_text(text)), style) for text, style in what(fields) if text not in (None, "")]
    for number, (text, style) in enumerate(each for each in parts if each[0] != about):
        shown.append(("  " if number else "") + text, style)
    if width is not None:
        shown.truncate(width, overflow="ellipsis")
    shown.rstrip()
    return shown


Part = tuple[Any, str]


def _prediction(fields: Fields) -> list[Part]:
    label, truth, correct = (fields.get(name) for name in ("prediction_class", "true_label", "prediction_correct"))
    level, latency = fields.get("confidence_level"), fields.get("latency_category")
    confidence, took = _number(fields.get("prediction_confidence")), _number(fields.get("inference_time_ms"))
    sign, style = _sign(correct)
    is_wrong = correct is False and truth is not None
    return [
        _error(fields),
        (None if label is None else sign + _text(label) + (f", it is {_text(truth)}" if is_wrong else ""), style),
        (None if confidence is None else f"{confidence:.2f} {_text(level)}", _LEVELS.get(_text(level), "")),
        (None if took is None else f"{_short_number(took)} ms {_text(latency)}", _LATENCIES.get(_text(latency), "")),
        *_dim(fields, "environment", "region", "request_id"),
    ]


def _error(fields: Fields) -> Part:
    if fields.get("error") is not True:
        return None, ""
    told = [_text(fields.get(name)) for name in ("error_type", "error_message")]
    return ": ".join(filter(None, told)) or "error", "red"


def _training(fields: Fields) -> list[Part]:
    took = _number(fields.get("duration_ms"))
    return [
        *((f"{name} {_text(fields[name])}", "") for name in ("epoch", "step") if fields.get(name) is not None),
        (_pairs(fields.get("metrics")), "cyan"),
        (fields.get("status"), "red" if _is_bad(fields.get("status")) else ""),
        (None if took is None else f"{_short_number(took)} ms", ""),
        *_dim(fields, "run_id", "experiment_id", "dataset_version"),
    ]


def _mlflow(fields: Fields) -> list[Part]:
    event = fields.get("event_category")
    style = "red" if _text(event).endswith("_error") else "green" if _text(event).endswith("_success") else ""
    sent = fields["mlflow_event"]
    return [(event, style), (_pairs(sent.get("details") if isinstance(sent, dict) else None), "")]


def _quality(fields: Fields) -> list[Part]:
    sign, style = _sign(fields.get("passed"))
    check, column = fields.get("check_name"), fields.get("column")
    numbers = {"score": "score", "drift_score": "drift", "missing_count": "missing", "row_count": "rows"}
    return [
        (f"{sign}{_text(check)}{f' of {_text(column)}' if column is not None else ''}", style),
        *((f"{shown} {_text(fields[name])}", "") for name, shown in numbers.items() if fields.get(name) is not None),
    ]


def _log(fields: Fields) -> list[Part]:
    level = _text(fields.get("level"))
    took = _number(fields.get("duration"))
    return [
        (level, _SEVERITIES.get(level.lower(), "")),
        (fields.get("message"), _SEVERITIES.get(level.lower(), "")),
        (fields.get("error") if isinstance(fields.get("error"), str) else None, "red"),
        (None if took is None else f"duration {_short_number(took)}", ""),
        *_dim(fields, "endpoint", "logger", "request_id"),
    ]


def _label(fields: Fields) -> list[Part]:
    return [(f"is {_text(fields.get('true_label'))}", ""), *_dim(fields, "request_id", "labelled_at")]


def _operation(fields: Fields) -> list[Part]:
    progress, took = _number(fields.get("progress")), _number(fields.get("duration_ms"))
    status = fields.get("status")
    return [
        (status, "red" if _is_bad(status) else "green" if status == "complete" else ""),
        (None if progress is None else f"{progress:.0%}", ""),
        (None if took is None else f"{_short_number(took)} ms", ""),
        *_dim(fields, "operation_id", "user_id"),
    ]


def _audit(fields: Fields) -> list[Part]:
    outcome = fields.get("outcome")
    return [(fields.get("action"), ""), (fields.get("resource"), ""), (outcome, "red" if _is_bad(outcome) else "")]


def _lineage(fields: Fields) -> list[Part]:
    inputs = fields.get("inputs")
    sources = ", ".join(map(_text, inputs)) if isinstance(inputs, list) else _text(inputs)
    return [
        (fields.get("node_type"), ""),
        (fields.get("operation"), ""),
        (f"from {sources}" if sources else None, ""),
        *_dim(fields, "node_id"),
    ]


def _alert(fields: Fields) -> list[Part]:
    severity = _text(fields.get("severity"))
    value, bound = fields.get("value"), fields.get("threshold")
    measured = None if value is None else f"{_text(fields.get('metric'))} {_text(value)}".strip()
    return [
        (severity, _SEVERITIES.get(severity.lower(), "")),
        (fields.get("status"), "green" if fields.get("status") == "resolved" else "red"),
        (measured if bound is None or measured is None else f"{measured} against {_text(bound)}", ""),
        (fields.get("message"), ""),
        *_dim(fields, "model_name"),
    ]


def _others(fields: Fields) -> list[Part]:
    return [(_pairs({name: value for name, value in fields.items() if name not in _NOT_SHOWN}), "")]


def _first(*names: str) -> Callable[[Fields], str]:
    return lambda fields: next((_text(fields[name]) for name in names if fields.get(name) is not None), "-")


def _model(fields: Fields) -> str:
    version = fields.get("model_version")
    return _text(fields.get("model_name", "-")) + ("" if version is None else f" {_text(version)}")


_Kind = tuple[str, str, Callable[[Fields], str], Callable[[Fields], list[Part]]]
_MLFLOW: _Kind = ("mlflow", "magenta", _first("pipeline"), _mlflow)
_KINDS: dict[str, _Kind] = {
    "ml-metrics": ("prediction", "cyan", _model, _prediction),
    "ml-training": ("training", "magenta", _model, _training),
    "data-quality": ("quality", "yellow", _first("dataset_name"), _quality),
    "ml-pipeline": ("log", "blue", _first("service", "logger", "host"), _log),
    "ml-labels": ("label", "green", _first("model_name", "request_id"), _label),
    "ml-operations": ("operation", "blue", _first("operation", "operation_id"), _operation),
    "ml-audit": ("audit", "blue", _first("actor"), _audit),
    "ml-lineage": ("lineage", "magenta", _first("name", "node_id"), _lineage),
    "ml-alerts": ("alert", "red", _first("name", "alert_id"), _alert),
}


def _dim(fields: Fields, *names: str) -> list[Part]:
    return [(fields.get(name), "dim") for name in names]


def _time(fields: Fields, *, exact: bool) -> str:
    """Return the time of an event, with its day where that is not the day on which it came."""
    when, came = _text(fields.get("@timestamp")), _text(fields.get("received_at"))
    clock = f"{when[11:23].rstrip('Z'):12}" if exact else when[11:19]
    return plain(clock if when[:10] == came[:10] else f"{when[:10]} {clock}")


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


def _short(text: str, cells: int) -> str:
    return text if len(text) <= cells else f"{text[: cells - 1]}…"


def _sign(verdict: Any) -> tuple[str, str]:
    return ("✓ ", "green") if verdict is True else ("✗ ", "red") if verdict is False else ("", "")


def _is_bad(status: Any) -> bool:
    return _text(status).lower() in ("error", "failed", "failure", "denied", "refused")
