"""The timeline: a lane for each run, or of one run for each step, drawn from the beginning of the run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.console.pages.training.events import Event
from gateway.console.pages.training.runs import Run, Step
from gateway.console.words import milliseconds
from gateway.mlflow import STEPS

MOST_LANES = 40
WIDTH = 1000.0
"""Of a lane, in the units of its drawing."""
_LEAST = 4.0
_LONGER = 1.5
"""A run that goes on is cut off at so many times the longest that ended, so that it does not squeeze the others."""
OUTCOMES = {"success": "done", "error": "failed", "end": "ended", "running": "running", "lost": "no end told"}


@dataclass(frozen=True)
class Bar:
    """A step in a lane, or a mark where it has no length."""

    x: float
    width: float
    color: int
    """The place of its step in `STEPS`; past its end all others."""
    outcome: str
    """As of a `Step`; word: no step."""
    text: str


@dataclass
class Lane:
    """A run or a step."""

    name: str
    note: str
    state: str
    """running, finished or failed."""
    run: Run
    bars: list[Bar] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All that the drawing shows."""
        return "; ".join(bar.text for bar in self.bars) or "no steps told"


@dataclass
class Timeline:
    """Lanes on one scale."""

    lanes: list[Lane]
    secs: float
    """What the width of all lanes stands for."""
    steps: list[tuple[str, int]]
    """The steps that are there, and their colours."""
    others: int = 0
    """Runs that are not shown."""


def by_run(runs: Sequence[Run], now: float) -> Timeline:
    """Return the timeline of pipeline runs, given newest first."""
    told = [run for run in runs if run.events]
    shown = told[:MOST_LANES]
    ended = max((run.told_until - run.told_since for run in shown if run.state != "running"), default=0.0)
    longest = max((_until(run, now) - run.told_since for run in shown), default=0.0)
    secs = max(min(longest, ended * _LONGER) if ended else longest, 0.001)
    lanes = []
    for run in shown:
        failed = dict.fromkeys(step.name for step in run.steps if step.outcome == "error")
        note = f"failed in {', '.join(failed)}" if failed and run.state == "failed" else ""
        lane = Lane(run.key, note, run.state, run)
        lane.bars = [_bar(run, step, now, secs) for step in run.steps] + [_mark(run, word, secs) for word in run.words]
        lanes.append(lane)
    return Timeline(lanes, secs, _steps(shown), len(told) - len(shown))


def by_step(run: Run, now: float) -> Timeline:
    """Return the timeline of one run, a lane for each of its steps in the order in which they began."""
    secs = max(_until(run, now) - run.told_since, 0.001)
    lanes: dict[str, Lane] = {}
    for step in run.steps:
        state = {"error": "failed", "running": "running"}.get(step.outcome, "finished")
        lane = lanes.setdefault(step.name, Lane(step.name, "", state, run))
        lane.bars.append(_bar(run, step, now, secs))
        lane.state, lane.note = state, lane.bars[-1].text.removeprefix(f"{step.name} ")
    for word in run.words:
        lane = lanes.setdefault(word.category, Lane(word.category, "", "finished", run))
        lane.bars.append(_mark(run, word, secs))
        lane.note = lane.bars[-1].text.removeprefix(f"{word.category} ")
    return Timeline(list(lanes.values()), secs, [])


def _until(run: Run, now: float) -> float:
    return now if any(step.outcome == "running" for step in run.steps) else run.told_until


def _x(secs: float, whole: float) -> float:
    return round(min(max(secs / whole, 0.0), 1.0) * (WIDTH - _LEAST), 1)


def _bar(run: Run, step: Step, now: float, secs: float) -> Bar:
    end = step.end if step.end is not None else now if step.outcome == "running" else run.told_until
    x = _x(step.begin - run.told_since, secs)
    width = max(_x(end - run.told_since, secs) - x, _LEAST)
    text = f"{step.name} {OUTCOMES[step.outcome]}"
    if step.outcome == "running":
        text += f" for {milliseconds((end - step.begin) * 1e3)}"
    elif step.duration_ms is not None:
        text += f" after {milliseconds(step.duration_ms)}"
    return Bar(x, width, _color(step.name), step.outcome, text)


def _mark(run: Run, word: Event, secs: float) -> Bar:
    since = word.at - run.told_since
    return Bar(_x(since, secs), _LEAST, len(STEPS), "word", f"{word.category} at {milliseconds(since * 1e3)}")


def _color(step: str) -> int:
    return STEPS.index(step) if step in STEPS else len(STEPS)


def _steps(runs: Sequence[Run]) -> list[tuple[str, int]]:
    names = {step.name for run in runs for step in run.steps}
    known = [(name, place) for place, name in enumerate(STEPS) if name in names]
    return [*known, ("other steps", len(STEPS))] if names.difference(STEPS) else known
