"""The performance table: a row for each model, version and environment; on the page and as a CSV file."""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from gateway.console.asking import Asking
from gateway.console.filters import while_there
from gateway.console.pages.models.accuracy import interval
from gateway.console.pages.models.predictions import ACCURACY, CONFIDENCE, FAILED, FIELDS, LATENCY, Predictions
from gateway.console.view import View, view
from gateway.errors import GatewayError
from gateway.settings import Settings
from gateway.store.query import QueryError

_KEYS = ("model_name", "model_version", "environment")
_METRICS = (f"avg:{LATENCY}", f"p95:{LATENCY}", f"avg:{CONFIDENCE}", f"avg:{ACCURACY}", f"count:{ACCURACY}")
HEAD = (
    "model", "version", "environment", "predictions", "average latency (ms)", "P95 latency (ms)", "average confidence",
    "accuracy", "accuracy at least (95 %)", "accuracy at most (95 %)", "labelled", "errors", "errors share",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet takes a cell that begins so for a formula, or drops the character and looks at the next."""


@dataclass(frozen=True)
class Row:
    """One model, version and environment; None where nothing was told."""

    model: str
    version: str | None
    environment: str | None
    count: int
    average_ms: float | None
    p95_ms: float | None
    confidence: float | None
    accuracy: float | None
    interval: tuple[float, float] | None
    labelled: int
    errors: int


async def rows(ask: Predictions, looked_at: View) -> tuple[list[Row], int]:
    """Return those rows, at most 1,000, with the most predictions, and how many predictions are in none of them.

    Raises `QueryError` and `StoreUnavailable`.
    """
    found, failed = await asyncio.gather(
        ask.by(looked_at, *_KEYS, metrics=_METRICS), ask.by(looked_at, *_KEYS, where=(FAILED,))
    )
    errors = {tuple(each["key"]): each["count"] for each in failed.buckets}
    made = []
    for each in found.buckets:
        model, version, environment = (None if name is None else str(name) for name in each["key"])
        average, p95, confidence, share, labelled = (each[metric] for metric in _METRICS)
        among = interval(share, labelled)
        failures = errors.get(tuple(each["key"]), 0)
        figures = (average, p95, confidence, share, among, labelled, failures)
        made.append(Row(model or "", version, environment, each["count"], *figures))
    return made, found.other + found.missing


def router(settings: Settings, asking: Asking) -> APIRouter:
    """Return the route of the file."""
    routes = APIRouter(include_in_schema=False)
    ask = Predictions(asking, f"{settings.events.index_prefix}ml-metrics-*")

    @routes.get("/console/models/table.csv")
    async def download(request: Request) -> Response:
        try:
            looked_at = view(request.query_params.multi_items(), tuple(FIELDS))
            made, _ = await while_there(request, rows(ask, looked_at))
        except QueryError as error:
            return Response(str(error), 400, media_type="text/plain")
        except GatewayError as error:
            return Response(str(error), 503, media_type="text/plain")
        name = f"models-{datetime.fromtimestamp(looked_at.until, UTC):%Y-%m-%d}.csv"
        headers = {
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
        }
        return Response(_csv(made), 200, headers, "text/csv; charset=utf-8")

    return routes


def _csv(made: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEAD)
    for row in made:
        among = row.interval or (None, None)
        names = (_harmless(row.model), _harmless(row.version), _harmless(row.environment))
        figures = (row.average_ms, row.p95_ms, row.confidence, row.accuracy, *among, row.labelled, row.errors)
        writer.writerow((*names, row.count, *figures, row.errors / row.count))
    return text.getvalue()


def _harmless(name: str | None) -> str:
    """Return what a spreadsheet shows as it is, and does not compute."""
    return "" if name is None else f"'{name}" if name.startswith(_FORMULA) else name
