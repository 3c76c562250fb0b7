"""Figures over time as `static/charts.js` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.console.view import View
from gateway.store.aggregation import iso


def moments(view: View) -> list[str]:
    """Return the beginnings of the stretches of a view, as an aggregation over its interval has them."""
    return [iso(secs * 1_000_000) for secs in _seconds(view)]


def curves(kind: str, view: View, series: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return a chart over the time of a view; each of ``series`` has a value, or None, for each of `moments`."""
    labels = [secs * 1000 for secs in _seconds(view)]
    ends = {"from": labels[0], "to": round(view.until * 1000)}
    return {"type": kind, "time": True, "labels": labels, "series": [*series], **ends, **more}


def _seconds(view: View) -> range:
    step = view.step_secs
    return range(int(view.since // step * step), int(-(-view.until // 1)), step)
