"""`/v1/search`: documents of the store, newest first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import orjson
from fastapi import APIRouter, Request, Response
from fastapi import Query as Parameter

from gateway.errors import GatewayError
from gateway.store.query import Query, QueryError, Store

PARAMETERS = {"index", "from", "to", "where", "q", "limit", "cursor"}


def router(store: Callable[[], Store | None]) -> APIRouter:
    """Return the route. ``store`` gives what is searched, None while it is being opened."""
    routes = APIRouter(tags=["search"])

    @routes.get("/v1/search")
    async def search(
        request: Request,
        index: Annotated[str, Parameter(description="Index names or patterns, several by comma.")] = "*",
        since: Annotated[str | None, Parameter(alias="from", description="Earliest time, ISO 8601 or epoch.")] = None,
        until: Annotated[str | None, Parameter(alias="to", description="Latest time, ISO 8601 or epoch.")] = None,
        where: Annotated[list[str] | None, Parameter(description="FIELD:VALUE; repeat for several.")] = None,
        q: Annotated[str | None, Parameter(description="Words that all occur in the document.")] = None,
        limit: Annotated[str, Parameter(description="Hits on a page.")] = "50",
        cursor: Annotated[str | None, Parameter(description="The cursor of the page before.")] = None,
    ) -> Response:
        """Find documents, newest first; `cursor` leads to the next page."""
        try:
            if unknown := sorted(set(request.query_params) - PARAMETERS):
                raise QueryError(f"{unknown[0]!r} is not a parameter: there are {', '.join(sorted(PARAMETERS))}.")
            if not limit.isascii() or not limit.isdigit() or len(limit) > 9:
                raise QueryError(f"limit must be a number of hits, not {limit[:20]!r}.")
            opened = store()
            if opened is None:
                return _answer(503, {"error": "The store is being opened: ask again in a moment."})
            filters = tuple(_filter(each) for each in where or ())
            query = Query(index, since, until, filters, q or None, int(limit), cursor)
            hits = await opened.search(query)
        except QueryError as error:
            return _answer(400, {"error": str(error)})
        except GatewayError as error:
            return _answer(503, {"error": str(error)})
        return _answer(200, {"total": hits.total, "hits": hits.hits, "cursor": hits.cursor})

    return routes


def _filter(text: str) -> tuple[str, str]:
    field, colon, value = text.partition(":")
    if not field or not colon:
        raise QueryError(f"where must be FIELD:VALUE, not {text!r}.")
    return field, value


def _answer(status: int, content: object) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
