"""The ingestion routes and every answer they give."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import orjson
from fastapi import APIRouter, Response

from gateway.access import Application, Receive, Scope, Send
from gateway.errors import LimitReached, SpoolFull, SpoolUnavailable, Stopping
from gateway.pipeline.block import Block, Receipt
from gateway.pipeline.intake import Intake
from gateway.pipeline.turns import TURNS
from gateway.room import Room, Share
from gateway.settings import Http
from gateway.sources.http.body import ENCODINGS, BodyError, decompress, split, too_large
from gateway.sources.http.gathering import Gathering, alone
from gateway.sources.http.limits import RateLimit
from gateway.telemetry import Telemetry

MAX_ERRORS = 100
MAX_EVENTS = 200_000  # in a body: each costs memory beyond its bytes
RETRY_AFTER_SECS = 1
FREE_BYTES = 64 * 1024  # of a body: the part that waits for nobody
BODIES_BYTES = 256 * 1024 * 1024  # of all bodies together that are larger, or compressed
KINDS = {"/v1/events": None, "/v1/labels": "label", "/": None}  # of the events that a path takes
LOGSTASH = "/"


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
        self._gathering = Gathering(self.name, intake)

    def before(self, application: Application) -> Application:
        """Return an application that answers what is posted here, and leaves all else to the one given.

        A framework's way from a request to a function costs more than an event does.
        """

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in KINDS:
                await self._respond(scope, receive, send)
            else:
                await application(scope, receive, send)

        return answer

    def router(self) -> APIRouter:
        """Return the routes as the API's description shows them; `before` answers."""
        router = APIRouter(tags=["ingestion"])
        body = {
            "requestBody": {
                "content": {kind: {} for kind in ("application/json", "application/x-ndjson")},
                "description": "One event, an array of events, or one event a line.",
            }
        }

        async def answered_before() -> Response:
            raise NotImplementedError  # never called: what is posted to these paths does not come so far

        for path, name, text in (
            ("/v1/events", "events", "Take events; the answer names each one that was refused."),
            ("/v1/labels", "labels", "Take labels: the truth about earlier predictions."),
            (LOGSTASH, "logstash", "Take events as Logstash's http input does: 200 also when some are refused."),
        ):
            router.post(path, name=name, description=text, openapi_extra=body)(answered_before)
        return router

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive)
        self._telemetry.answered(answer.status)
        status = 200 if scope["path"] == LOGSTASH and answer.status in (207, 400) else answer.status
        headers = [
            (b"content-length", b"%d" % len(answer.body)),
            (b"content-type", b"application/json"),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> _Answer:
        try:
            receipt = await self._take(scope, receive)
        except BodyError as error:
            return _problem(error.status, str(error))
        except _Gone:
            return _problem(400, "The connection ended within the body.")  # nobody reads this
        except TimeoutError:
            text = f"The body was not complete within {self._settings.body_timeout_secs:g} s (http.body_timeout_secs)."
            return _problem(408, text)
        except LimitReached as error:
            return _problem(429, str(error), retry_after=RETRY_AFTER_SECS)
        except (SpoolUnavailable, Stopping) as error:
            return _problem(503, str(error), retry_after=RETRY_AFTER_SECS)
        if not receipt.refusals:
            return _Answer(200, b'{"accepted":%d,"rejected":0,"errors":[]}' % receipt.accepted)
        return _Answer(207 if receipt.accepted else 400, orjson.dumps(_receipt_json(receipt)))

    async def _take(self, scope: Scope, receive: Receive) -> Receipt:
        if full := self._intake.full():
            raise SpoolFull(full)
        kind_of_body = _header(scope, b"content-type").partition(";")[0].strip().lower()
        if kind_of_body.startswith("multipart/"):
            raise BodyError(415, f"{kind_of_body} is not taken: send JSON or NDJSON.")
        encoding = _header(scope, b"content-encoding").strip().lower() or "identity"
        if encoding not in ENCODINGS:
            raise BodyError(415, f"Content-Encoding {encoding!r} is not one of {', '.join(ENCODINGS)}.")
        kind, tenant = KINDS[scope["path"]], scope.get("state", {}).get("tenant")
        client = scope["client"]
        peer = f"{client[0]}:{client[1]}" if client else "unknown"
        async with self._room.share() as share:
            try:
                body = await self._read(scope, receive, share)
            except asyncio.CancelledError:  # by the server, which ends and has waited long enough
                raise Stopping("The gateway is stopping: send again in a moment.") from None
            if wait := self._limit.take(tenant, len(body)):
                raise LimitReached(
                    f"More than {self._limit.bytes_per_sec} bytes a second (limits.bytes_per_sec): wait {wait:.1f} s."
                )
            if encoding != "identity":
                body = await self._unpack(body, encoding, share)
            if line := alone(body):
                return await self._gathering.accept(peer, line, tenant, kind)
            lines = await TURNS.take(split(body, MAX_EVENTS), peer)
            if not lines and b"[" not in body:
                raise BodyError(400, "The body is empty: send one JSON object, an array, or one object a line.")
            return await self._intake.accept(Block(self.name, peer, lines, tenant, kind=kind))

    async def _read(self, scope: Scope, receive: Receive, share: Share) -> bytes:
        limit = self._settings.max_body_bytes
        announced = _header(scope, b"content-length")
        if announced.isdigit() and int(announced) > limit:
            raise too_large(limit)
        body: bytes | bytearray = b""  # one piece is not copied; of many small ones none is kept
        more = True
        async with asyncio.timeout(self._settings.body_timeout_secs) as timeout:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                piece, more = message.get("body", b""), message.get("more_body", False)
                if body or more:
                    body = body if isinstance(body, bytearray) else bytearray(body)
                    body += piece
                else:
                    body = piece
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


class _Gone(Exception):
    """The sender is."""


class _Answer(NamedTuple):
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def _header(scope: Scope, name: bytes) -> str:
    """Return a header's value, of several the first; empty when it is not there."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return ""


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


def _problem(status: int, message: str, retry_after: int | None = None) -> _Answer:
    error = {"index": None, "path": "$", "rule": _RULES[status], "message": message, "value": ""}
    headers = []
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    return _Answer(status, orjson.dumps({"accepted": 0, "rejected": 0, "errors": [error]}), tuple(headers))


_RULES = {
    400: "body_unreadable",
    408: "body_timeout",
    413: "body_too_large",
    415: "body_encoding",
    429: "limit",
    503: "unavailable",
}
