"""The ingestion routes and every answer they give."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from gateway.errors import LimitReached, SpoolFull, SpoolUnavailable, Stopping
from gateway.pipeline.block import Block, Receipt
from gateway.pipeline.intake import Intake
from gateway.pipeline.turns import TURNS
from gateway.room import Room, Share
from gateway.settings import Http
from gateway.sources.http.body import ENCODINGS, BodyError, decompress, split, too_large
from gateway.sources.http.limits import RateLimit
from gateway.telemetry import Telemetry

MAX_ERRORS = 100
MAX_EVENTS = 200_000  # in a body: each costs memory beyond its bytes
RETRY_AFTER_SECS = 1
FREE_BYTES = 64 * 1024  # of a body: the part that waits for nobody
BODIES_BYTES = 256 * 1024 * 1024  # of all bodies together that are larger, or compressed


class Ingestion:
    """Takes request bodies to the intake. Keeps promises 1, 5 and 7."""

    name = "http"

    def __init__(self, settings: Http, limit: RateLimit, intake: Intake, telemetry: Telemetry, parts: int = 1) -> None:
        """``parts``: so many processes share the room for bodies."""
        self._settings = settings
        self._limit = limit
        self._intake = intake
        self._telemetry = telemetry
        self._room = Room(BODIES_BYTES // parts)

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(tags=["ingestion"])
        body = {
            "requestBody": {
                "content": {kind: {} for kind in ("application/json", "application/x-ndjson")},
                "description": "One event, an array of events, or one event a line.",
            }
        }

        @router.post("/v1/events", openapi_extra=body)
        async def events(request: Request) -> Response:
            """Take events; the answer names each one that was refused."""
            return await self._answer(request, None)

        @router.post("/v1/labels", openapi_extra=body)
        async def labels(request: Request) -> Response:
            """Take labels: the truth about earlier predictions."""
            return await self._answer(request, "label")

        @router.post("/", openapi_extra=body)
        async def logstash(request: Request) -> Response:
            """Take events as Logstash's http input does: 200 also when some are refused."""
            answer = await self._answer(request, None)
            if answer.status_code in (207, 400):
                answer.status_code = 200
            return answer

        return router

    async def _answer(self, request: Request, kind: str | None) -> Response:
        try:
            receipt = await self._take(request, kind)
        except BodyError as error:
            answer = _problem(error.status, str(error))
        except ClientDisconnect:
            answer = _problem(400, "The connection ended within the body.")  # nobody reads this
        except TimeoutError:
            text = f"The body was not complete within {self._settings.body_timeout_secs:g} s (http.body_timeout_secs)."
            answer = _problem(408, text)
        except LimitReached as error:
            answer = _problem(429, str(error), retry_after=RETRY_AFTER_SECS)
        except (SpoolUnavailable, Stopping) as error:
            answer = _problem(503, str(error), retry_after=RETRY_AFTER_SECS)
        else:
            answer = _json(_status(receipt), _receipt_json(receipt))
        self._telemetry.answered(answer.status_code)
        return answer

    async def _take(self, request: Request, kind: str | None) -> Receipt:
        if full := self._intake.full():
            raise SpoolFull(full)
        kind_of_body = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind_of_body.startswith("multipart/"):
            raise BodyError(415, f"{kind_of_body} is not taken: send JSON or NDJSON.")
        encoding = request.headers.get("content-encoding", "identity").strip().lower() or "identity"
        if encoding not in ENCODINGS:
            raise BodyError(415, f"Content-Encoding {encoding!r} is not one of {', '.join(ENCODINGS)}.")
        tenant: str | None = request.scope.get("state", {}).get("tenant")
        async with self._room.share() as share:
            try:
                body = await self._read(request, share)
            except asyncio.CancelledError:  # by the server, which ends and has waited long enough
                raise Stopping("The gateway is stopping: send again in a moment.") from None
            if wait := self._limit.take(tenant, len(body)):
                raise LimitReached(
                    f"More than {self._limit.bytes_per_sec} bytes a second (limits.bytes_per_sec): wait {wait:.1f} s."
                )
            if encoding != "identity":
                body = await self._unpack(body, encoding, share)
            peer = f"{request.client.host}:{request.client.port}" if request.client else "unknown"
            lines = await TURNS.take(split(body, MAX_EVENTS), peer)
            if not lines and b"[" not in body:
                raise BodyError(400, "The body is empty: send one JSON object, an array, or one object a line.")
            return await self._intake.accept(Block(self.name, peer, lines, tenant, kind=kind))

    async def _read(self, request: Request, share: Share) -> bytes:
        limit = self._settings.max_body_bytes
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            raise too_large(limit)
        body = bytearray()
        async with asyncio.timeout(self._settings.body_timeout_secs) as timeout:
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large(limit)
                if len(body) > FREE_BYTES and not share:
                    # The whole body's room at once, and the time in the queue is not the sender's.
                    timeout.reschedule(None)
                    await share.reach(int(announced) if announced.isdigit() else limit)
                    timeout.reschedule(asyncio.get_running_loop().time() + self._settings.body_timeout_secs)
        return bytes(body)

    async def _unpack(self, body: bytes, encoding: str, share: Share) -> bytes:
        limit = self._settings.max_body_bytes
        await share.reach(len(body) + limit)
        body = await asyncio.to_thread(decompress, body, encoding, limit)  # of a few bytes may come all of the limit
        share.shrink(len(body))
        return body


def _status(receipt: Receipt) -> int:
    if not receipt.refusals:
        return 200
    return 207 if receipt.accepted else 400


def _receipt_json(receipt: Receipt) -> dict[str, Any]:
    errors = []
    for each in receipt.refusals[:MAX_ERRORS]:
        path = each.path if each.item is None else f"$[{each.item}]{each.path[1:]}"
        error = {
            "index": each.line,
            "path": path,
            "rule": each.rule,
            "message": each.message,
            "value": each.value,
        }
        if each.hint is not None:
            error["hint"] = each.hint
        errors.append(error)
    answer = {"accepted": receipt.accepted, "rejected": len(receipt.refusals), "errors": errors}
    if len(receipt.refusals) > MAX_ERRORS:
        answer["errors_omitted"] = len(receipt.refusals) - MAX_ERRORS
    return answer


def _problem(status: int, message: str, retry_after: int | None = None) -> Response:
    error = {"index": None, "path": "$", "rule": _RULES[status], "message": message, "value": ""}
    answer = _json(status, {"accepted": 0, "rejected": 0, "errors": [error]})
    if retry_after is not None:
        answer.headers["retry-after"] = str(retry_after)
    if status in (408, 413):
        answer.headers["connection"] = "close"  # the rest of the body is not read
    return answer


_RULES = {
    400: "body_unreadable",
    408: "body_timeout",
    413: "body_too_large",
    415: "body_encoding",
    429: "limit",
    503: "unavailable",
}


def _json(status: int, content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
