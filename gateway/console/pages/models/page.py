"""The page and its panels: what each template is given."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from typing import Any

from gateway.console import words
from gateway.console.asking import Asking
from gateway.console.layout import Context, Page
from gateway.console.pages import events
from gateway.console.pages.models import accuracy as right
from gateway.console.pages.models import table
from gateway.console.pages.models.predictions import ACCURACY, CONFIDENCE, FAILED, FIELDS, LATENCY, Predictions
from gateway.console.stretches import Chart, Stretches, pace, second
from gateway.console.view import View
from gateway.settings import Settings, Thresholds

SLICES = 7
LEGEND = 30
"""Characters."""
MESSAGES = 5
"""So many examples of a type of error, those that came last."""
SHOWN_ROWS = 200
BARS = 20
"""Of the histogram of confidences."""
LEAST_SECS = 1.0
"""Of a rate: the first prediction may have come just now."""
PERCENTILES = ("P50", "P95", "P99")


def page(settings: Settings, asking: Asking) -> Page:
    """Return the page."""
    panels = _Panels(settings, Predictions(asking, f"{settings.events.index_prefix}ml-metrics-*"))
    makers = (
        panels.figures, panels.table, panels.latency, panels.predictions, panels.confidence, panels.sureness,
        panels.histogram, panels.buckets, panels.accuracy, panels.correctness, panels.matrix, panels.share,
        panels.errors, panels.load, panels.memory,
    )  # fmt: skip
    named = {each.__name__: each for each in makers}
    return Page("models", "/models", "Models", tuple(FIELDS), named, styles=("models.css",))


class _Panels:
    def __init__(self, settings: Settings, ask: Predictions) -> None:
        self._enrichment = settings.enrichment
        self._ask = ask

    def _thresholds(self, view: View) -> Thresholds:
        return self._enrichment.models.get(view.filters["model"], self._enrichment)

    async def figures(self, view: View) -> Context:
        ask = self._ask
        all_of_it, errors, models, choices, first = await asyncio.gather(
            ask.together(view), ask.count(view, FAILED), ask.by(view, "model_name"), ask.choices(view), ask.first(view)
        )
        # Before the first one there may have been nobody to send any: that is no time without predictions.
        count, secs = all_of_it["count"], max(view.until - first, LEAST_SECS)
        per_secs, unit = pace(count, secs)
        return {
            "count": count,
            "rate": count / secs * per_secs,
            "unit": unit,
            "secs": secs,
            "is_whole": first == view.since,
            "average": all_of_it[f"avg:{LATENCY}"],
            "percentiles": {name: all_of_it[f"{name.lower()}:{LATENCY}"] for name in PERCENTILES},
            "timed": all_of_it[f"count:{LATENCY}"],
            "errors": errors,
            "labelled": all_of_it[f"count:{ACCURACY}"],
            "models": len(models.buckets),
            "choices": choices,
        }

    async def table(self, view: View) -> Context:
        rows, left_out = await table.rows(self._ask, view)
        rest = sum(row.count for row in rows[SHOWN_ROWS:])
        return {"rows": rows[:SHOWN_ROWS], "all": len(rows), "left_out": rest + left_out, "more": left_out > 0}

    async def latency(self, view: View) -> Context:
        buckets, stretches = await self._ask.over_time(view), Stretches(view)
        names = {"average": f"avg:{LATENCY}"} | {name: f"{name.lower()}:{LATENCY}" for name in PERCENTILES}
        series = [{"name": name, "values": stretches.values(buckets, metric)} for name, metric in names.items()]
        return _charted(buckets, stretches.chart("line", series, "ms", min=0))

    async def predictions(self, view: View) -> Context:
        buckets, stretches = await self._ask.over_time(view), Stretches(view)
        per_secs, unit = pace(sum(each["count"] for each in buckets), view.until - view.since)
        all_of_it = {second(each["key"]): each["count"] for each in buckets}
        shown: dict[str, dict[int, int]] = {}
        if view.filters["model"]:
            shown[view.filters["model"]] = all_of_it
        else:
            found = await self._ask.over_time_by_model(view)
            counts: defaultdict[str, dict[int, int]] = defaultdict(dict)
            for each in found.buckets:
                counts[str(each["by"])][second(each["key"])] = each["count"]
            shown = dict(sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0])))
            if found.other:
                rest = {at: n - sum(each.get(at, 0) for each in shown.values()) for at, n in all_of_it.items()}
                shown["other models"] = {at: max(0, n) for at, n in rest.items()}
        series = [
            {"name": _short(name), "values": stretches.rates(each, per_secs)}
            | ({"color": "soft"} if at >= len(shown) - 1 and name == "other models" else {})
            for at, (name, each) in enumerate(shown.items())
        ]
        return _charted(buckets, stretches.chart("stack", series, unit))

    async def confidence(self, view: View) -> Context:
        all_of_it = await self._ask.together(view)
        average, bounds = all_of_it[f"avg:{CONFIDENCE}"], self._thresholds(view).confidence
        return {
            "count": all_of_it["count"],
            "average": average,
            "told": all_of_it[f"count:{CONFIDENCE}"],
            "bounds": bounds,
            "state": "" if average is None else _state(average, bounds.medium, bounds.high),
        }

    async def sureness(self, view: View) -> Context:
        buckets, stretches = await self._ask.over_time(view), Stretches(view)
        values = stretches.values(buckets, f"avg:{CONFIDENCE}")
        if all(value is None for value in values):
            return {"count": sum(each["count"] for each in buckets), "chart": None}
        bounds = self._thresholds(view).confidence
        series: list[dict[str, Any]] = [
            {"name": "average", "values": values},
            {"name": "high threshold", "values": [bounds.high] * len(values), "color": "good"},
            {"name": "medium threshold", "values": [bounds.medium] * len(values), "color": "warn"},
        ]
        return _charted(buckets, stretches.chart("line", series, min=_floor(values, [bounds.medium]), max=1))

    async def histogram(self, view: View) -> Context:
        found = await self._ask.by(view, f"{CONFIDENCE}/{1 / BARS:g}")
        bars = [0] * BARS
        for each in found.buckets:
            # 1 itself would have a bar of its own.
            bars[min(BARS - 1, max(0, round(each["key"] * BARS)))] += each["count"]
        bounds = self._thresholds(view).confidence
        chart = {
            "type": "bar",
            "labels": [f"{at / BARS:.2f} – {(at + 1) / BARS:.2f}" for at in range(BARS)],
            "series": [{"name": "predictions", "values": bars}],
            "colors": [_state((at + 0.5) / BARS, bounds.medium, bounds.high) for at in range(BARS)],
        }
        return {"count": found.total, "chart": chart if any(bars) else None}

    async def buckets(self, view: View) -> Context:
        found = await self._ask.by(view, "latency_category")
        counts = {str(each["key"]): each["count"] for each in found.buckets}
        bounds, told = self._thresholds(view).latency, words.milliseconds
        names = {
            "fast": (f"below {told(bounds.fast)}", "good"),
            "normal": (f"{told(bounds.fast)} to {told(bounds.normal)}", ""),
            "slow": (f"{told(bounds.normal)} to {told(bounds.slow)}", "warn"),
            "very_slow": (f"{told(bounds.slow)} and more", "bad"),
        }
        names |= {name: ("", "") for name in counts if name not in names}
        timed = sum(counts.values())
        rows = [
            {
                "name": name,
                "words": text,
                "state": state,
                "count": counts.get(name, 0),
                "share": counts.get(name, 0) / timed,
            }
            for name, (text, state) in names.items()
            if timed
        ]
        own = sorted(name for name, each in self._enrichment.models.items() if each.latency != self._enrichment.latency)
        return {
            "count": found.total,
            "rows": rows,
            "untimed": found.missing,
            "own": [] if view.filters["model"] else own,
        }

    async def accuracy(self, view: View) -> Context:
        all_of_it = await self._ask.together(view)
        labelled, share = all_of_it[f"count:{ACCURACY}"], all_of_it[f"avg:{ACCURACY}"]
        return {
            "count": all_of_it["count"],
            "labelled": labelled,
            "share": share,
            "interval": right.interval(share, labelled),
        }

    async def correctness(self, view: View) -> Context:
        buckets, stretches = await self._ask.over_time(view), Stretches(view)
        ends = [right.interval(each[f"avg:{ACCURACY}"], each[f"count:{ACCURACY}"]) or (None, None) for each in buckets]
        buckets = [{**each, "low": low, "high": high} for each, (low, high) in zip(buckets, ends, strict=True)]
        share, low, high = (
            stretches.settled(stretches.values(buckets, metric)) for metric in (f"avg:{ACCURACY}", "low", "high")
        )
        series: list[dict[str, Any]] = [
            {"name": "accuracy", "values": share},
            {"name": "95 % interval, lower end", "values": low, "color": "soft"},
            {"name": "upper end", "values": high, "color": "soft"},
        ]
        return _charted(buckets, stretches.chart("line", series, "%", min=_floor(low), max=1))

    async def matrix(self, view: View) -> Context:
        if not view.filters["model"]:
            models = await self._ask.by(view, "model_name")
            return {"chosen": False, "models": [str(each["key"]) for each in models.buckets[:SLICES]], "matrix": None}
        found = await self._ask.by(view, "prediction_class", "true_label")
        return {"chosen": True, "count": found.total, "matrix": right.matrix(found.buckets), "rarer": found.other}

    async def share(self, view: View) -> Context:
        field = "model_version" if view.filters["model"] else "model_name"
        found = await self._ask.by(view, field)
        parts: list[tuple[str, int, str | None]] = []
        parts += [(str(each["key"]), each["count"], None) for each in found.buckets[:SLICES]]
        rest = found.total - found.missing - sum(count for _, count, _ in parts)
        parts += [
            (name, count, "soft") for name, count in (("others", rest), ("without version", found.missing)) if count
        ]
        chart = {
            "type": "pie",
            "labels": [f"{_short(name)} · {words.share(count / found.total)}" for name, count, _ in parts],
            "series": [{"name": "predictions", "values": [count for _, count, _ in parts]}],
            "colors": [color or at for at, (_, _, color) in enumerate(parts)],
        }
        return {"chart": chart if found.total else None}

    async def errors(self, view: View) -> Context:
        types, latest, count = await asyncio.gather(
            self._ask.by(view, "error_type", where=(FAILED,)), self._ask.latest_failed(view), self._ask.count(view)
        )
        examples: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for each in latest:  # of each message the time at which it came last
            told = examples[str(each.get("error_type"))]
            if each.get("error_message") and len(told) < MESSAGES:
                told.setdefault(str(each["error_message"]), each["@timestamp"])
        kinds = [str(each["key"]) for each in types.buckets]
        rows = [
            (kind, each["count"], [*examples[kind].items()], _events(view, error="true", error_type=kind))
            for kind, each in zip(kinds, types.buckets, strict=True)
        ]
        return {"count": count, "total": types.total, "rows": rows}

    async def load(self, view: View) -> Context:
        buckets, stretches = await self._ask.over_time(view), Stretches(view)
        names = {"CPU": "avg:cpu_usage", "GPU": "avg:gpu_usage"}
        told = {name: stretches.values(buckets, each, 0.01) for name, each in names.items()}
        series = [
            {"name": name, "values": values}
            for name, values in told.items()
            if any(value is not None for value in values)
        ]
        return _charted(buckets, stretches.chart("line", series, "%", min=0))

    async def memory(self, view: View) -> Context:
        buckets, stretches = await self._ask.over_time(view), Stretches(view)
        series = [{"name": "memory", "values": stretches.values(buckets, "avg:memory_usage_mb"), "color": 3}]
        return _charted(buckets, stretches.chart("line", series, "MB", min=0))


def _charted(buckets: list[dict[str, Any]], chart: Chart) -> Context:
    """Return the chart, None for one without any value, and how many predictions there are."""
    told = bool(buckets) and any(value is not None for each in chart["series"] for value in each["values"])
    return {"count": sum(each["count"] for each in buckets), "chart": chart if told else None}


def _events(view: View, **chosen: str) -> str:
    """Return the address of the page that lists the predictions of what is looked at."""
    return view.address(events.PATH, kind="ml-metrics", **chosen)


def _short(name: str) -> str:
    """Return as much of a name as a legend has room for."""
    return name if len(name) <= LEGEND else f"{name[: LEGEND - 1]}…"


def _floor(*series: list[float | None]) -> float:
    """Return where the axis of shares begins: a tenth somewhat below the lowest, so that small changes are seen."""
    lowest = min((value for each in series for value in each if value is not None), default=0.0)
    return math.floor(lowest * 10 - 0.5) / 10 if lowest >= 0.5 else 0.0


def _state(value: float, medium: float, high: float) -> str:
    return "good" if value >= high else "warn" if value >= medium else "bad"
