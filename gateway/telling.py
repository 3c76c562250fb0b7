"""A stored event in a few words, for whoever looks at many: on a page, in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

State = Literal["", "good", "warn", "bad", "soft"]
MAX_WORDS = 6
MAX_CHARACTERS = 300
_WHO = ("model_name", "service", "dataset_name", "logger", "actor", "pipeline", "name", "operation")
_LEVELS: Mapping[str, State] = {
    **dict.fromkeys(("critical", "fatal", "error"), "bad"),
    **dict.fromkeys(("warning", "warn"), "warn"),
    **dict.fromkeys(("debug", "trace"), "soft"),
}
_CONFIDENCE: Mapping[str, State] = {"high": "good", "medium": "warn", "low": "bad"}
_LATENCY: Mapping[str, State] = {"slow": "warn", "very_slow": "bad"}
# Said by their values alone, and with their names; what is said above them comes first.
_PLAIN = ("event_category", "check_name", "column", "operation", "action", "node_type", "resource", "outcome", "status")
_NAMED = ("epoch", "step", "score", "drift_score", "progress", "true_label", "severity")


class Word(NamedTuple):
    """A part of what is said, and what to make of it."""

    text: str
    state: State = ""


def who(document: Mapping[str, Any]) -> str:
    """Return the model, service or whatever else it is about; empty when it does not say."""
    return next((_text(document[name]) for name in _WHO if _is_plain(document.get(name))), "")


def level_state(level: object) -> State:
    """Return what to make of the level of a log line."""
    return _LEVELS.get(str(level).lower(), "")


def words(document: Mapping[str, Any]) -> list[Word]:
    """Return what matters of an event of any kind, most important first."""
    found: list[Word] = []
    get = document.get
    if _is_plain(get("level")):
        found.append(Word(_text(document["level"]), level_state(document["level"])))
    if _is_plain(get("message")):
        found.append(Word(_text(document["message"])))
    if _is_plain(get("error_message")) or get("error_type"):
        found.append(Word(_text(get("error_message") or get("error_type")), "bad"))
    if _is_plain(get("prediction_class")):
        correct = get("prediction_correct")
        found.append(Word(_text(document["prediction_class"])))
        if correct is not None:
            found.append(Word("correct", "good") if correct else Word("wrong", "bad"))
    if _is_plain(get("prediction_confidence")):
        level = _text(get("confidence_level") or "")
        text = f"confidence {_text(document['prediction_confidence'])} {level}".rstrip()
        found.append(Word(text, _CONFIDENCE.get(level, "")))
    if _is_plain(get("inference_time_ms")):
        category = _text(get("latency_category") or "")
        text = f"{_text(document['inference_time_ms'])} ms {category.replace('_', ' ')}".rstrip()
        found.append(Word(text, _LATENCY.get(category, "")))
    about = who(document)
    for name in _PLAIN:
        if _is_plain(get(name)) and _text(document[name]) != about:
            text = _text(document[name])
            found.append(Word(text, "bad" if "error" in text or "fail" in text else ""))
    if get("passed") is not None:
        found.append(Word("passed", "good") if document["passed"] else Word("failed", "bad"))
    found += [Word(f"{name.replace('_', ' ')} {_text(document[name])}") for name in _NAMED if _is_plain(get(name))]
    return found[:MAX_WORDS] or [Word(_text(get("type") or ""))]


def _is_plain(value: object) -> bool:
    return value is not None and value != "" and not isinstance(value, dict | list)


def _text(value: object) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"
