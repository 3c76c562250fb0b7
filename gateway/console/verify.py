"""`/v1/verify`: what became of the events that `gateway verify` sent."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

Ask = Callable[[str, str | None], Awaitable[dict[str, Any]]]
_ID = re.compile(r"[0-9A-Za-z-]{8,64}")


def router(arrived: Ask, remove: Ask) -> APIRouter:
    """Return the routes. Both calls take the verification's id and the caller's tenant."""
    routes = APIRouter(tags=["verification"])

    @routes.get("/v1/verify/{verify_id}")
    async def look(verify_id: str, request: Request) -> Response:
        """Say which events of a verification each sink has stored."""
        return await _answer(arrived, verify_id, request)

    @routes.delete("/v1/verify/{verify_id}")
    async def clean_up(verify_id: str, request: Request) -> Response:
        """Delete what a verification stored."""
        return await _answer(remove, verify_id, request)

    return routes


async def _answer(ask: Ask, verify_id: str, request: Request) -> Response:
    if not _ID.fullmatch(verify_id):
        return _json(400, {"error": "The id of a verification has 8 to 64 letters, digits and hyphens."})
    return _json(200, await ask(verify_id, request.scope.get("state", {}).get("tenant")))


def _json(status: int, content: Any) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
