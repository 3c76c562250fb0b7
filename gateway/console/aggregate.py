"""`/v1/aggregate`: counts and figures of the store, by a field, by time, or both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Query as Parameter

from gateway.console.filters import Filters, answer, filters, opened, whole
from gateway.store.aggregation import Question
from gateway.store.store import Store

_BY = "A bucket for each value of this field, or with FIELD/WIDTH for its numbers in steps; repeat for combinations."
_METRIC = "count, count:FIELD, avg:FIELD, sum:, min:, max:, or a percentile such as p95:FIELD; repeat for several."


def router(store: Callable[[], Store | None]) -> APIRouter:
    """Return the route. ``store`` gives what is asked, None while it is being opened."""
    routes = APIRouter(tags=["search"])

    @routes.get("/v1/aggregate")
    async def aggregate(
        request: Request,
        chosen: Annotated[Filters, Depends(filters)],
        by: Annotated[list[str] | None, Parameter(description=_BY)] = None,
        interval: Annotated[str | None, Parameter(description="A bucket for each 30s, 5m, 1h, 1d, ….")] = None,
        metric: Annotated[list[str] | None, Parameter(description=_METRIC)] = None,
        limit: Annotated[str, Parameter(description="The most values of `by`.")] = "100",
    ) -> Response:
        """Count documents and measure their numbers; without `by` and `interval` all in one bucket.

        A bucket is `{"key", "count", METRIC…}`, and with `by` and `interval` together `{"key": TIME, "by": VALUE, …}`.
        Of several fields `by` each VALUE is a list. `missing` are documents without the field `by`, or any of them;
        `other` counts the values beyond `limit`.
        """

        async def found() -> dict[str, Any]:
            chosen.refuse_others("by", "interval", "metric", "limit", repeated=("by", "metric"))
            question = Question(
                chosen.query(), tuple(by or ()), interval, tuple(metric or ()), whole("limit", limit, "buckets")
            )
            answered = await opened(store()).aggregate(question)
            return {
                "total": answered.total,
                "missing": answered.missing,
                "other": answered.other,
                "buckets": answered.buckets,
            }

        return await answer(request, found)

    return routes
