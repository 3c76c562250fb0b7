"""A request's story: all that any index has of it, in the order of time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from gateway.console.asking import Asking
from gateway.console.layout import Context, Page
from gateway.console.view import View
from gateway.console.words import milliseconds, number, severity, share
from gateway.store.query import Query

DOCUMENTS = 200
"""The most that a story has, the newest."""
Fields = Mapping[str, Any]


def page(asking: Asking) -> Page:
    """Return the page: `/requests?id=...`."""

    async def story(view: View) -> Context:
        wanted = view.filters["id"]
        if not wanted:
            return {"steps": [], "total": 0, "secs": 0.0}
        found = await asking.search(Query(where=(("request_id", wanted),), limit=DOCUMENTS))
        steps = told(found.hits)
        return {"steps": steps, "total": found.total, "secs": sum(step["since_ms"] or 0 for step in steps) / 1000}

    return Page(
        "request",
        "/requests",
        "A request's story",
        filters=("id",),
        panels={"story": story},
        has_range=False,
        in_navigation=False,
        styles=("logs.css",),
    )


def router() -> APIRouter:
    """Return the route of `/requests/ID`, which leads to the page: an id may be anything, also two dots."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/requests/{wanted:path}")
    def named(wanted: str) -> RedirectResponse:
        return RedirectResponse(f"/requests?{urlencode({'id': wanted})}")

    return routes


def told(hits: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps of a story, given its documents.

    Each has ``kind`` and ``text`` for people, ``state`` (good, warn, bad or nothing), ``since_ms``, the time
    since the step before (None for the first), and the document as ``hit``.
    """
    ordered = sorted(hits, key=lambda hit: (_moment(hit), str(hit["_source"].get("received_at"))))
    predictions = [hit["_source"] for hit in ordered if hit["_source"].get("type") == "model_inference"]
    steps: list[dict[str, Any]] = []
    for place, hit in enumerate(ordered):
        fields = hit["_source"]
        kind, tell = _KINDS.get(str(fields.get("type")), (str(fields.get("type") or hit["_index"]), _anything))
        text, state = tell(fields) if tell is not _label else _label(fields, predictions)
        since = (_moment(hit) - _moment(ordered[place - 1])).total_seconds() * 1000 if place else None
        steps.append({"kind": kind, "text": text, "state": state, "since_ms": since, "hit": hit})
    return steps


def _moment(hit: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(hit["_source"]["@timestamp"])


def _prediction(fields: Fields) -> tuple[str, str]:
    has = _Has(fields)
    parts = [f"{has.text('model_name')} {has.text('model_version')}".strip()]
    if has.text("prediction_class"):
        parts.append(f"said {has.text('prediction_class')}")
    if (confidence := has.number("prediction_confidence")) is not None:
        parts.append(f"confidence {number(confidence)}{has.within('confidence_level')}")
    if (took := has.number("inference_time_ms")) is not None:
        parts.append(f"took {milliseconds(took)}{has.within('latency_category')}")
    correct = fields.get("prediction_correct")
    if correct is not None:
        parts.append(f"{'right' if correct is True else 'wrong'}: the truth is {has.text('true_label')}")
    parts += [has.text(name) for name in ("environment", "region") if has.text(name)]
    failed = fields.get("error") is True
    if failed or fields.get("error_message"):
        parts.append(f"failed{has.within('error_type')}: {has.text('error_message')}".removesuffix(": "))
    return ", ".join(filter(None, parts)), "bad" if failed else "warn" if correct is False else ""


def _log(fields: Fields) -> tuple[str, str]:
    has = _Has(fields)
    who = " ".join(filter(None, (has.text("level"), has.text("service"), has.text("endpoint"))))
    error = has.text("error") if fields.get("error") not in (None, False) else ""
    text = ": ".join(filter(None, (who, has.text("message"))))
    return f"{text} ({error})" if error and error not in text else text, severity(fields.get("level"))


def _label(fields: Fields, predictions: Sequence[Fields] = ()) -> tuple[str, str]:
    """Tell the truth, and whether what was predicted was right, where only one class was."""
    has = _Has(fields)
    model = fields.get("model_name")
    about = [each for each in predictions if model is None or each.get("model_name") == model]
    said = {_spelt(each["prediction_class"]) for each in about if each.get("prediction_class") is not None}
    text = f"the truth is {has.text('true_label')}"
    if len(said) != 1:
        return text, ""
    right = said == {has.text("true_label")}
    return f"{text}: the model was {'right' if right else f'wrong, it said {said.pop()}'}", "good" if right else "warn"


def _operation(fields: Fields) -> tuple[str, str]:
    has = _Has(fields)
    parts = [has.text("operation") or has.text("operation_id"), has.text("status")]
    if (progress := has.number("progress")) is not None:
        parts.append(f"{share(progress, 0)} done")
    if (took := has.number("duration_ms")) is not None:
        parts.append(f"took {milliseconds(took)}")
    return ", ".join(filter(None, parts)), "bad" if fields.get("status") == "error" else ""


def _anything(fields: Fields) -> tuple[str, str]:
    """Tell what stands at the top of a document whose kind has no words of its own."""
    dull = ("@timestamp", "timestamp", "received_at", "type", "request_id", "event_id")
    found = [f"{name} {_spelt(value)}" for name, value in fields.items()
             if name not in dull and isinstance(value, str | int | float)]  # fmt: skip
    return ", ".join(found[:6]), ""


_KINDS: dict[str, tuple[str, Callable[[Fields], tuple[str, str]]]] = {
    "model_inference": ("prediction", _prediction),
    "log": ("log line", _log),
    "label": ("label", _label),
    "operation": ("operation", _operation),
    "model_training": ("training", _anything),
    "data_quality": ("data quality", _anything),
}


class _Has:
    """A document's fields: what is there, as text or number."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        """Return the field as text, empty when it is absent."""
        value = self._fields.get(name)
        return "" if value is None else _spelt(value)

    def within(self, name: str) -> str:
        """Return the field's text in brackets, behind what it is about."""
        return f" ({text})" if (text := self.text(name)) else ""

    def number(self, name: str) -> float | None:
        """Return the field where it is a number, also one that was sent as text."""
        try:
            return float(self._fields[name])
        except (KeyError, TypeError, ValueError):
            return None


def _spelt(value: Any) -> str:
    """Spell a value as JSON without quotes, as predictions and labels are compared."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
