"""What the page asks the store about predictions; what several panels need is one question, asked once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from gateway.console.asking import Asking
from gateway.console.stretches import second
from gateway.console.view import View
from gateway.store.aggregation import MAX_KEYS, Aggregation, Question
from gateway.store.query import Query

FIELDS = {"model": "model_name", "version": "model_version", "environment": "environment", "region": "region"}
"""The field of each filter of the page."""
LATENCY, CONFIDENCE, ACCURACY = "inference_time_ms", "prediction_confidence", "prediction_accuracy"
FAILED = ("error", "true")
LATEST_FAILED = 100
LARGEST = 6
"""So many models have a line of their own."""
_LATENCIES = tuple(f"{function}:{LATENCY}" for function in ("avg", "p50", "p95", "p99"))
_QUALITY = (f"avg:{CONFIDENCE}", f"avg:{ACCURACY}", f"count:{ACCURACY}")
_LOAD = ("avg:cpu_usage", "avg:gpu_usage", "avg:memory_usage_mb")

Bucket = dict[str, Any]


@dataclass(frozen=True)
class Predictions:
    """Asks about the predictions of a view. All raise `QueryError` or `StoreUnavailable`."""

    asking: Asking
    index: str
    """Pattern of their indices."""

    def query(self, view: View, *more: tuple[str, str]) -> Query:
        """Return which predictions: those of the view, of which also each field of ``more`` has its value."""
        query = view.query(self.index, FIELDS)
        return replace(query, where=(*query.where, *more))

    async def together(self, view: View) -> Bucket:
        """Return count, latencies, confidence and accuracy of all of them, and how many tell each."""
        metrics = (*_LATENCIES, f"count:{LATENCY}", *_QUALITY, f"count:{CONFIDENCE}")
        return (await self._ask(Question(self.query(view), metrics=metrics))).buckets[0]

    async def count(self, view: View, *more: tuple[str, str]) -> int:
        """Return how many there are, as `query` takes them."""
        return (await self._ask(Question(self.query(view, *more)))).total

    async def over_time(self, view: View) -> list[Bucket]:
        """Return count and averages of each stretch of time that has any."""
        metrics = (*_LATENCIES, *_QUALITY, *_LOAD)
        return (await self._ask(Question(self.query(view), interval=view.interval, metrics=metrics))).buckets

    async def first(self, view: View) -> float:
        """Return when the first of them happened, in seconds since 1970, some hundredths of the time since then early.

        That is the beginning of the view where it has some in its first stretches, or none at all.
        """
        begin, within = view.since, view
        while True:
            found = await self._ask(Question(self.query(within), interval=within.interval))
            if not found.buckets:
                return view.since
            begin = max(begin, second(found.buckets[0]["key"]))
            if begin <= view.since + view.step_secs:
                return view.since
            if within.step_secs <= max(1, (view.until - begin) / 50):
                return begin
            within = replace(view, since=begin, until=begin + within.step_secs)

    async def over_time_by_model(self, view: View) -> Aggregation:
        """Return the counts of the largest models in each stretch of time."""
        return await self.by(view, "model_name", interval=view.interval, limit=LARGEST)

    async def by(self, view: View, *fields: str, where: tuple[tuple[str, str], ...] = (), **more: Any) -> Aggregation:
        """Return a bucket for each value of a field, or combination of several; ``more`` is for `Question`."""
        return await self._ask(Question(self.query(view, *where), fields, **{"limit": MAX_KEYS, **more}))

    async def choices(self, view: View) -> dict[str, list[str]]:
        """Return the values that each filter can have: of the others those of the chosen model."""
        everything, of_model = replace(view, filters={}), replace(view, filters={"model": view.filters["model"]})
        found = await asyncio.gather(
            *(self.by(everything if name == "model" else of_model, field) for name, field in FIELDS.items())
        )
        return {
            name: sorted(str(each["key"]) for each in values.buckets if each["key"] != "")
            for name, values in zip(FIELDS, found, strict=True)
        }

    async def latest_failed(self, view: View) -> list[dict[str, Any]]:
        """Return the errors that came last, newest first."""
        query = replace(self.query(view, FAILED), limit=LATEST_FAILED)
        return [each["_source"] for each in (await self.asking.search(query)).hits]

    async def _ask(self, question: Question) -> Aggregation:
        return await self.asking.aggregate(question)
