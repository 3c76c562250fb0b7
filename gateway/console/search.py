"""`/v1/search`: documents of the store, newest first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Query as Parameter

from gateway.console.filters import Filters, answer, filters, opened, whole
from gateway.store.store import Store


def router(store: Callable[[], Store | None]) -> APIRouter:
    """Return the route. ``store`` gives what is searched, None while it is being opened."""
    routes = APIRouter(tags=["search"])

    @routes.get("/v1/search")
    async def search(
        request: Request,
        chosen: Annotated[Filters, Depends(filters)],
        limit: Annotated[str, Parameter(description="Hits on a page.")] = "50",
        cursor: Annotated[str | None, Parameter(description="The cursor of the page before.")] = None,
    ) -> Response:
        """Find documents, newest first; `cursor` leads to the next page."""

        async def found() -> dict[str, Any]:
            chosen.refuse_others("limit", "cursor")
            query = chosen.query(limit=whole("limit", limit, "hits"), cursor=cursor)
            hits = await opened(store()).search(query)
            return {"total": hits.total, "hits": hits.hits, "cursor": hits.cursor}

        return await answer(request, found)

    return routes
