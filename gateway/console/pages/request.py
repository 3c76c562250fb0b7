"""A request's story: all that any index has of it, in the order of time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from gateway.console.asking import Asking
from gateway.console.layout import Context, Page
from gateway.console.view import View
from gateway.store.query import Query
from gateway.telling import Part, tell, worst

DOCUMENTS = 200
"""The most that a story has, the newest."""
Hit = Mapping[str, Any]


def page(asking: Asking, prefix: str) -> Page:
    """Return the page, `/requests?id=...`; ``prefix`` is that of all indices."""

    async def story(view: View) -> Context:
        wanted = view.filters["id"]
        if not wanted:
            return {"steps": [], "total": 0, "secs": 0.0}
        found = await asking.search(Query(where=(("request_id", wanted),), limit=DOCUMENTS))
        steps = told(found.hits, prefix)
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


def told(hits: Sequence[Hit], prefix: str) -> list[dict[str, Any]]:
    """Return the steps of a story, given its documents.

    Each has ``kind``, ``parts`` and ``state`` as `gateway.telling` has them, ``since_ms``, the time since the step
    before (None for the first), and the document as ``hit``.
    """
    ordered = sorted(hits, key=lambda hit: (_moment(hit), str(hit["_source"].get("received_at"))))
    predictions = [hit["_source"] for hit in ordered if hit["_source"].get("type") == "model_inference"]
    steps: list[dict[str, Any]] = []
    for place, hit in enumerate(ordered):
        fields = hit["_source"]
        kind, who, parts = tell(hit, prefix)
        parts = [part for part in (Part(who, ""), *parts) if part.text not in ("-", fields.get("request_id"))]
        if kind == "label":
            parts += _verdict(fields, predictions)
        since = (_moment(hit) - _moment(ordered[place - 1])).total_seconds() * 1000 if place else None
        steps.append({"kind": kind, "parts": parts, "state": worst(parts), "since_ms": since, "hit": hit})
    return steps


def _moment(hit: Hit) -> datetime:
    return datetime.fromisoformat(hit["_source"]["@timestamp"])


def _verdict(label: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Return whether what was predicted is correct, where only one class was."""
    model = label.get("model_name")
    about = [each for each in predictions if model is None or each.get("model_name") == model]
    said = {_spelt(each["prediction_class"]) for each in about if each.get("prediction_class") is not None}
    if len(said) != 1:
        return []
    if said == {_spelt(label.get("true_label"))}:
        return [Part("the prediction was correct", "good")]
    return [Part(f"the prediction was wrong: {said.pop()}", "bad")]


def _spelt(value: Any) -> str:
    """Spell a value as JSON without quotes, as predictions and labels are compared."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
