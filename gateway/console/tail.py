"""`/v1/tail`: documents as they come in, as server-sent events."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from gateway.access import Receive, Scope, Send
from gateway.console.filters import Filters, Index, Where, Words, disconnected, given, json_answer
from gateway.errors import LimitReached, Stopping
from gateway.monitoring.matching import fitting
from gateway.monitoring.tail import Listener, Tail
from gateway.store.query import QueryError

HEARTBEAT_SECS = 10.0
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # or nginx would keep them back
]


def router(tail: Tail) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["search"])

    @routes.get(
        "/v1/tail",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def follow(
        request: Request,
        index: Index = "*",
        where: Where = None,
        q: Words = None,
        last_event_id: Annotated[str | None, Header(description="The id of the event to go on behind.")] = None,
    ) -> Response:
        """Follow what comes in: `document` and `passed` events, until one of both sides ends it."""
        chosen = Filters(index, None, None, where or [], q, given(request))
        try:
            chosen.refuse_others(without=("from", "to"))
            fits = fitting(chosen.query())
            return _Stream(tail.listen(fits, last_event_id or None))
        except QueryError as error:
            return json_answer(400, {"error": str(error)})
        except ValueError:
            return json_answer(400, {"error": "Last-Event-ID must be the id of an event of /v1/tail, or be left out."})
        except LimitReached as error:
            return json_answer(429, {"error": str(error)})
        except Stopping as error:
            return json_answer(503, {"error": str(error)})

    return routes


class _Stream(Response):
    """Sends what a listener is given, each piece when the one before was taken."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        super().__init__()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        listener = self._listener
        leaving = asyncio.create_task(disconnected(receive))
        leaving.add_done_callback(lambda _: listener.end())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            data: bytes | None = b""
            while data is not None:
                # Also when there is nothing, and at once: who comes back later knows from where on.
                data = data or f": \nid: {listener.id}\n\n".encode()
                await send({"type": "http.response.body", "body": data, "more_body": True})
                data = await listener.take(HEARTBEAT_SECS)
            await send({"type": "http.response.body", "body": b""})
        finally:
            listener.close()
            leaving.cancel()
            await asyncio.wait([leaving])  # what it read from may be read by others now
