"""`/health`, `/ready`, `/status`, `/metrics`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import APIRouter, Response

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def router(
    status: Callable[[], dict[str, Any]], metrics: Callable[[], Awaitable[bytes]], unready: Callable[[], str | None]
) -> APIRouter:
    """Return the routes. ``unready`` gives why the gateway cannot take events now, or None."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/health")
    async def health() -> Response:
        """Say that the process is alive."""
        return _json(200, {"status": "alive"})

    @routes.get("/ready")
    async def ready() -> Response:
        """Say whether events are taken; no sink is needed for that."""
        reason = unready()
        return (
            _json(200, {"status": "ready"}) if reason is None else _json(503, {"status": "not ready", "reason": reason})
        )

    @routes.get("/status")
    async def status_page() -> Response:
        """Return sources, spool, sinks and books, all of one moment."""
        return _json(200, status())

    @routes.get("/metrics")
    async def metrics_page() -> Response:
        """Return the metrics for Prometheus."""
        return Response(await metrics(), media_type=PROMETHEUS)

    return routes


def _json(status: int, content: Any) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
