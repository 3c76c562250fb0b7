"""`/v1/dead-letters`: refused events, looked at, sent again, dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol

import orjson
import structlog
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from gateway.console.filters import while_there
from gateway.errors import GatewayError, Incomplete, LimitReached
from gateway.store.query import QueryError

log = structlog.get_logger(__name__)
NDJSON = "application/x-ndjson"
STALLED_SECS = 60.0  # a caller that takes nothing for so long is given up
Parameters = Sequence[tuple[str, str]]
_FILTERS = {
    "id": "Of these ids alone; repeats.",
    "reason": "json, schema, clock, too_large, cut, mapping or sink.",
    "path": "The field, such as $.prediction_confidence.",
    "rule": "The rule that was broken.",
    "source": "Where the event came from, or the sink that refused it.",
    "index": "The index that a sink refused it for.",
    "tenant": "The tenant that sent it.",
    "from": "Earliest time of the refusal, ISO 8601 or epoch.",
    "to": "Latest time, not included.",
}


class Letters(Protocol):
    """What is done with dead letters; all but `show` raise `QueryError`, `LimitReached` or `GatewayError`."""

    async def find(self, parameters: Parameters) -> dict[str, Any]: ...
    async def show(self, letter_id: int) -> dict[str, Any] | None: ...
    def export(self, parameters: Parameters) -> AsyncIterator[bytes]: ...
    async def replay(self, parameters: Parameters) -> dict[str, Any]: ...
    async def drop(self, parameters: Parameters) -> dict[str, Any]: ...


def router(letters: Letters) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["dead letters"])

    @routes.get("/v1/dead-letters", openapi_extra=_parameters("each", "limit", "before"))
    async def groups(request: Request) -> Response:
        """Count dead letters by reason, path and rule; `each=true` gives single ones, newest first."""
        return await _answer(request, lambda: letters.find(_given(request)))

    @routes.get("/v1/dead-letters/export", response_class=Response, openapi_extra=_parameters())
    async def export(request: Request) -> Response:
        """Give dead letters with their bytes, oldest first, a line of JSON each."""
        try:
            lines = letters.export(_given(request))
        except QueryError as error:
            return _json(400, {"error": str(error)})
        return _Lines(lines, request)

    @routes.get("/v1/dead-letters/{letter_id}")
    async def show(letter_id: str, request: Request) -> Response:
        """Give one dead letter with its bytes."""
        if not letter_id.isascii() or not letter_id.isdigit() or len(letter_id) > 18:
            return _json(400, {"error": f"{letter_id[:20]!r} is not the id of a dead letter, which is a number."})
        return await _answer(request, lambda: letters.show(int(letter_id)))

    @routes.post("/v1/dead-letters/replay", openapi_extra=_parameters("dry_run"))
    async def replay(request: Request) -> Response:
        """Send dead letters again, those that pass now; `dry_run=true` only says which would."""
        return await _answer(request, lambda: letters.replay(_given(request)))

    @routes.delete("/v1/dead-letters", openapi_extra=_parameters("all"))
    async def drop(request: Request) -> Response:
        """Delete dead letters; without a filter only with `all=true`."""
        return await _answer(request, lambda: letters.drop(_given(request)))

    return routes


class _Lines(Response):
    """Lines that are made as fast as they are taken."""

    def __init__(self, lines: AsyncIterator[bytes], request: Request) -> None:
        super().__init__(media_type=NDJSON)
        self._lines, self._request = lines, request
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for chunk in self._lines:
                if await self._request.is_disconnected():
                    return
                async with asyncio.timeout(STALLED_SECS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except (TimeoutError, GatewayError, asyncio.CancelledError) as error:  # the last by the server, which ends
            log.warning("An export of dead letters broke off.", error=str(error) or type(error).__name__)
            return  # without an end: the server closes the connection
        await send({"type": "http.response.body", "body": b""})


async def _answer(request: Request, ask: Callable[[], Coroutine[Any, Any, dict[str, Any] | None]]) -> Response:
    try:
        found = await while_there(request, ask())
        return _json(404, {"error": "There is no dead letter of this id."}) if found is None else _json(200, found)
    except QueryError as error:
        return _json(400, {"error": str(error)})
    except Incomplete as error:
        status = 429 if isinstance(error.cause, LimitReached) else 503
        return _json(status, {"error": str(error), **error.done}, {"retry-after": "1"})
    except LimitReached as error:
        return _json(429, {"error": str(error)}, {"retry-after": "1"})
    except GatewayError as error:
        return _json(503, {"error": str(error)}, {"retry-after": "1"})


def _given(request: Request) -> Parameters:
    return request.query_params.multi_items()


def _parameters(*others: str) -> dict[str, Any]:
    described = {**_FILTERS, **dict.fromkeys(others, "")}
    return {
        "parameters": [
            {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
            for name, text in described.items()
        ]
    }


def _json(status: int, content: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")
