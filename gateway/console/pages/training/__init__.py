"""Training: runs of pipelines and training jobs, their steps, metrics and errors."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from heapq import nlargest

from gateway.console.asking import Asking
from gateway.console.layout import Context, Maker, Page
from gateway.console.pages.training import lanes, metrics, reading
from gateway.console.pages.training.runs import Run, Step
from gateway.console.view import View
from gateway.mlflow import RUN, STEPS

FILTERS = ("run", "model", "event", "metric")
MOST_CHOICES = 300
MOST_ROWS = 100


@dataclass
class Duration:
    """How long a step took, in milliseconds, in the runs that tell of its end."""

    name: str
    ended: int = 0
    failed: int = 0
    measured: int = 0
    total: float = 0.0
    longest: float = 0.0
    last: float | None = None
    _last_at: float = 0.0

    @property
    def average(self) -> float | None:
        """The average; None where nobody told any duration."""
        return self.total / self.measured if self.measured else None

    def add(self, step: Step) -> None:
        """Count a step that ended."""
        self.ended += 1
        self.failed += step.outcome == "error"
        if step.duration_ms is not None and step.end is not None:
            self.measured += 1
            self.total += step.duration_ms
            self.longest = max(self.longest, step.duration_ms)
            if step.end >= self._last_at:
                self.last, self._last_at = step.duration_ms, step.end


def page(asking: Asking, prefix: str = "") -> Page:
    """Return the page; ``prefix`` stands before the names of all indices."""

    async def figures(view: View) -> Context:
        found = await reading.runs(asking, prefix, view)
        everything = replace(view, filters=dict.fromkeys(FILTERS, ""))
        whole = found if not any(view.filters.values()) else await reading.runs(asking, prefix, everything)
        choices = {
            "run": [run.key for run in whole.runs][:MOST_CHOICES],
            "model": sorted({name for run in whole.runs for name in run.models}),
            "event": sorted({name for run in whole.runs for name in run.categories}),
        }
        return {
            "states": Counter(run.state for run in found.runs),
            "runs": len(found.runs),
            "events": sum(len(run.events) for run in found.runs),
            "reports": sum(len(run.reports) for run in found.runs),
            "choices": choices,
            "left": found.total - found.read,
            "read": found.read,
        }

    async def timeline(view: View) -> Context:
        found = (await reading.runs(asking, prefix, view)).runs
        alone = found[0] if len(found) == 1 and found[0].events and view.filters["run"] else None
        now = min(view.until, time.time())
        drawn = lanes.by_run(found, now) if alone is None else lanes.by_step(alone, now)
        return {"timeline": drawn, "run": alone, "WIDTH": lanes.WIDTH}

    async def over_runs(view: View) -> Context:
        found = (await reading.runs(asking, prefix, view)).runs
        names = metrics.names(found)
        chosen = view.filters["metric"] or next(iter(names), "")
        spec, older = metrics.over_runs(found, chosen) if chosen in names else (None, 0)
        return {"names": names, "chosen": chosen, "spec": spec, "older": older}

    async def over_epochs(view: View) -> Context:
        found = (await reading.runs(asking, prefix, view)).runs
        run = next((run for run in found if any(each.metrics for each in run.reports)), None)
        # In a thread: it may have told a hundred thousand values.
        unit, charts = ("", []) if run is None else await asyncio.to_thread(metrics.over_epochs, run)
        return {"run": run, "unit": unit, "charts": charts}

    async def runs(view: View) -> Context:
        made = await reading.runs(asking, prefix, view)
        names = metrics.names(made.runs)
        shown = [view.filters["metric"]] if view.filters["metric"] else names[:2]
        return {
            "runs": made.runs[:MOST_ROWS],
            "all": len(made.runs),
            "metrics": [name for name in shown if name in names],
            "left": made.total - made.read,
            "read": made.read,
        }

    async def events(view: View) -> Context:
        counts: Counter[str] = Counter()
        for run in (await reading.runs(asking, prefix, view)).runs:
            counts += run.categories
        return {"counts": sorted(counts.items(), key=lambda each: (-each[1], each[0]))}

    async def durations(view: View) -> Context:
        return {"durations": _durations((await reading.runs(asking, prefix, view)).runs)}

    async def errors(view: View) -> Context:
        found = (await reading.runs(asking, prefix, view)).runs
        faults = [fault for run in found for fault in run.faults]
        newest = nlargest(MOST_ROWS, faults, key=lambda fault: fault.at)
        return {"faults": newest, "all": len(faults), "any": bool(found)}

    panels: dict[str, Maker] = {
        "figures": figures,
        "timeline": timeline,
        "metrics": over_runs,
        "epochs": over_epochs,
        "runs": runs,
        "events": events,
        "durations": durations,
        "errors": errors,
    }
    return Page("training", "/training", "Training", FILTERS, panels, styles=("training.css",))


def _durations(runs: Iterable[Run]) -> list[Duration]:
    """Return how long steps took: the known ones in their order, then others by name, at last whole runs."""
    found: dict[str, Duration] = {}
    for run in runs:
        for step in (*run.steps, *([run.whole] if run.whole else [])):
            if step.outcome in ("success", "error", "end"):
                found.setdefault(step.name, Duration(step.name)).add(step)
    order = {name: place for place, name in enumerate(STEPS)} | {RUN: len(STEPS) + 1}
    return sorted(found.values(), key=lambda each: (order.get(each.name, len(STEPS)), each.name))
