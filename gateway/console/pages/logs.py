"""Log lines: how many of which level, how long requests take, which errors there are, and the lines themselves.

A line failed when its level is ERROR, CRITICAL or FATAL, in capitals or not, or when it has an `error` that is not
false; all others succeeded.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from gateway.console.asking import Asking
from gateway.console.layout import Context, Page
from gateway.console.stretches import Stretches, second
from gateway.console.view import View
from gateway.store.aggregation import Aggregation, Question
from gateway.store.query import Hits, Query
from gateway.summary.gathering import UNIT_MS
from gateway.telling import SEVERITIES, severity

INDEX = "ml-pipeline-*"
FIELDS = {"level": "level", "service": "service", "endpoint": "endpoint"}
LINES = 50
ENDPOINTS = 30
_PERCENTILES = {"p50:duration": "P50", "p95:duration": "P95"}
LEVELS = 12
ERRORS = 20
NEWEST = 200
"""Error lines that are looked through for when a message was last seen, before messages are asked for singly."""
WORDS = 12
"""Of a message, when it is searched for."""
COLORS = {"TRACE": 7, "DEBUG": "soft", "INFO": 0, "NOTICE": 6, "WARN": "warn", "WARNING": "warn", "ERROR": "bad",
          "CRITICAL": 4, "FATAL": 3}  # fmt: skip
"""Of levels, the most severe last."""
_RANKS = {level: rank for rank, level in enumerate(COLORS)}
Bucket = dict[str, Any]


def page(asking: Asking, prefix: str, duration_unit: str = "s") -> Page:
    """Return the page; ``prefix`` is that of all indices, ``duration_unit`` what a line's `duration` is in."""
    panels = _Panels(asking, prefix + INDEX, UNIT_MS[duration_unit])
    return Page(
        "logs",
        "/logs",
        "Logs",
        filters=(*FIELDS, "q", "cursor"),
        panels={
            "figures": panels.figures,
            "levels": panels.levels,
            "durations": panels.durations,
            "endpoints": panels.endpoints,
            "errors": panels.errors,
            "lines": panels.lines,
        },
        scripts=("logs.js",),
        styles=("logs.css",),
        facts={"tail": lambda view: tail(prefix + INDEX, view), "severities": dict(SEVERITIES)},
    )


def tail(index: str, view: View) -> str:
    """Return the address of the lines that come in, for what is looked at."""
    asked = [("index", index)]
    asked += [("where", f"{field}:{view.filters[name]}") for name, field in FIELDS.items() if view.filters[name]]
    if view.filters["q"]:
        asked.append(("q", view.filters["q"]))
    return f"/v1/tail?{urlencode(asked)}"


class _Panels:
    def __init__(self, asking: Asking, index: str, milliseconds: float) -> None:
        self._asking = asking
        self._index = index
        self._milliseconds = milliseconds

    async def figures(self, view: View) -> Context:
        query = self._query(view)
        everything, levels, spared, services = await asyncio.gather(
            self._ask(query, metrics=("count:error", "p95:duration")),
            self._ask(query, by=("level",), metrics=("count:error",), limit=1000),
            self._ask(_without_error(query), by=("level",), limit=1000),
            self._ask(query, by=("service",)),
        )
        (whole,) = everything.buckets
        failing, spared_failing = (_failing(found.buckets) for found in (levels, spared))
        errors = sum(each["count"] for each in failing)
        errors += whole["count:error"] - sum(each["count:error"] for each in failing)
        errors -= spared.total - sum(each["count"] for each in spared_failing)
        errors = max(0, min(errors, everything.total))  # each answer is of a moment of its own
        return {
            "lines": everything.total,
            "errors": errors,
            "success": 1 - errors / everything.total if everything.total else None,
            "p95": self._duration(whole["p95:duration"]),
            "choices": {"level": _keys(levels), "service": _keys(services)},
        }

    async def levels(self, view: View) -> Context:
        query = self._query(view)
        levels, everything = await asyncio.gather(
            self._ask(query, by=("level",), interval=view.interval, limit=LEVELS), self._over_time(view)
        )
        counts: dict[str, Counter[int]] = defaultdict(Counter)
        rest = Counter({second(each["key"]): each["count"] for each in everything.buckets})
        for each in levels.buckets:
            counts[str(each["by"])][second(each["key"])] = each["count"]
            rest[second(each["key"])] -= each["count"]
        stretches = Stretches(view)
        series: list[dict[str, Any]] = [
            {
                "name": name[:40],
                "values": stretches.rates(counts[name], view.step_secs),
                "color": COLORS.get(name.upper(), 5),
            }
            for name in sorted(counts, key=lambda name: (_rank(name), name))
        ]
        if levels.missing or levels.other:
            name = "no level" if not levels.other else "others"
            series.append({"name": name, "values": stretches.rates(+rest, view.step_secs), "color": 7})
        return {"total": levels.total, "curve": stretches.chart("stack", series)}

    async def durations(self, view: View) -> Context:
        found = await self._over_time(view)
        stretches = Stretches(view)
        buckets = [
            {name: each[name] if name == "key" else self._duration(each[name]) for name in ("key", *_PERCENTILES)}
            for each in found.buckets
        ]
        series = [
            {"name": name, "values": stretches.values(buckets, metric), "color": color}
            for color, (metric, name) in enumerate(_PERCENTILES.items())
        ]
        measured = any(value is not None for each in buckets for name, value in each.items() if name != "key")
        return {"measured": measured, "curve": stretches.chart("line", series, "ms")}

    async def endpoints(self, view: View) -> Context:
        query = self._query(view)
        found, levels, spared = await asyncio.gather(
            self._ask(query, by=("endpoint",), metrics=("avg:duration", "p95:duration"), limit=ENDPOINTS),
            self._ask(query, by=("endpoint", "level"), metrics=("count:error",), limit=1000),
            self._ask(_without_error(query), by=("endpoint", "level"), limit=1000),
        )
        failed: dict[Any, int] = defaultdict(int)
        for each in levels.buckets:
            endpoint, level = each["key"]
            failed[endpoint] += each["count"] if severity(level) == "bad" else each["count:error"]
        for each in spared.buckets:
            endpoint, level = each["key"]
            failed[endpoint] -= each["count"] if severity(level) != "bad" else 0
        rows = [
            {
                "endpoint": each["key"],
                "count": each["count"],
                "average": self._duration(each["avg:duration"]),
                "p95": self._duration(each["p95:duration"]),
                # Where not all levels of all endpoints are in the answer, it is not known.
                "success": 1 - failed[each["key"]] / each["count"] if not levels.other + spared.other else None,
            }
            for each in found.buckets
        ]
        return {"rows": rows, "others": found.other, "choices": {"endpoint": _keys(found)}}

    async def errors(self, view: View) -> Context:
        query = self._query(view)
        levels = await self._ask(query, by=("level",), metrics=("count:error",), limit=1000)
        failing = _failing(levels.buckets)
        found = await asyncio.gather(*(self._messages(view, str(each["key"])) for each in failing))
        rows = sorted((row for rows, _ in found for row in rows), key=lambda row: (-row["count"], row["message"]))
        seen: dict[tuple[Any, ...], str] = {}
        for hit in (hit for _, newest in found for hit in newest.hits):
            seen.setdefault(_kind(hit["_source"]), hit["_source"]["@timestamp"])
        rows = rows[:ERRORS]
        await asyncio.gather(*(self._last(view, row, seen) for row in rows))
        return {"rows": rows, "total": sum(newest.total for _, newest in found)}

    async def _messages(self, view: View, level: str) -> tuple[list[Bucket], Hits]:
        """Return the most frequent messages of a level, and its newest lines."""
        found, newest = await asyncio.gather(
            self._ask(self._query(view, level=level), by=("message", "service"), interval=view.interval, limit=ERRORS),
            self._asking.search(self._query(view, level=level, limit=NEWEST)),
        )
        rows: dict[tuple[Any, ...], Bucket] = {}
        for each in found.buckets:  # in the order of time
            message, service = each["by"]
            if message is not None:
                row = rows.setdefault(
                    (message, service), {"level": level, "message": message, "service": service, "count": 0}
                )
                row |= {"count": row["count"] + each["count"], "since": each["key"]}
        return [*rows.values()], newest

    async def _last(self, view: View, row: Bucket, seen: dict[tuple[Any, ...], str]) -> None:
        """Say when a message was last seen, and how it is searched for."""
        words = str(row["message"]).split()[:WORDS]
        row["address"] = view.address(
            "/logs",
            level=row["level"],
            service=row["service"] or view.filters["service"],
            q=" ".join(words),
            cursor=None,
        )
        row["last"] = seen.get(_kind(row))
        if row["last"] is None:
            # Looked for from the stretch on in which there is one: less to read. No service cannot be asked for.
            where = {name: row[name] for name in ("level", "message", "service")}
            query = self._query(view, limit=1 if row["service"] else NEWEST, **where)
            later = replace(query, since=row["since"])
            found = await self._asking.search(max(query, later, key=lambda each: each.since_us or 0))
            alike = (hit["_source"]["@timestamp"] for hit in found.hits if _kind(hit["_source"]) == _kind(row))
            row["last"] = next(alike, None)

    async def lines(self, view: View) -> Context:
        cursor = view.filters["cursor"] or None
        found = await self._asking.search(self._query(view, limit=LINES, cursor=cursor))
        return {"hits": found.hits, "total": found.total, "older": found.cursor, "cursor": cursor}

    def _query(self, view: View, limit: int = LINES, cursor: str | None = None, **where: str | None) -> Query:
        """Return the query for what is looked at, with more fields and their values; None is no condition."""
        query = view.query(self._index, FIELDS, limit=limit, cursor=cursor)
        more = ((field, value) for field, value in where.items() if value is not None)
        return replace(query, where=tuple(dict.fromkeys((*query.where, *more))))

    def _over_time(self, view: View) -> Any:
        return self._ask(self._query(view), interval=view.interval, metrics=("p50:duration", "p95:duration"))

    async def _ask(self, query: Query, **what: Any) -> Aggregation:
        return await self._asking.aggregate(Question(query, **what))

    def _duration(self, value: float | None) -> float | None:
        return None if value is None else value * self._milliseconds


def _without_error(query: Query) -> Query:
    """Return the query for those lines whose `error` says that there was none."""
    return replace(query, where=(*query.where, ("error", "false")))


def _failing(levels: Iterable[Bucket]) -> list[Bucket]:
    """Return the buckets of levels that tell of a failure."""
    return [each for each in levels if severity(each["key"]) == "bad"]


def _kind(fields: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Return what makes two error lines the same."""
    return tuple(None if fields.get(name) is None else str(fields[name]) for name in ("level", "message", "service"))


def _keys(found: Aggregation) -> list[str]:
    """Return the values that a filter can have."""
    return [str(each["key"]) for each in found.buckets]


def _rank(level: str) -> int:
    return _RANKS.get(level.upper(), -1)
