"""Runs, put together from the events of pipelines and the reports of training jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.console.pages.training.events import FAILED, FINISHED, Event, Hit, Report
from gateway.console.words import iso
from gateway.mlflow import RUN


@dataclass
class Step:
    """A step of a run, or the whole run as its pipeline tells it."""

    name: str
    begin: float
    """The same as ``end`` where neither the beginning nor the duration is known."""
    end: float | None
    """None where no end was told."""
    outcome: str
    """success, error, end; running; or lost: it is over, and nobody told how it ended."""
    duration_ms: float | None = None


@dataclass(frozen=True)
class Fault:
    """Something that went wrong in a run."""

    at: float
    run: Run
    step: str
    message: str
    """Empty where nobody says."""
    hit: Hit | None
    """The document; None of an older one."""


@dataclass
class Run:
    """A run; times in seconds since 1970."""

    key: str
    """Its id; where it has none, who told of it and when that began."""
    named: bool
    """Whether it has an id."""
    events: list[Event] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    words: list[Event] = field(default_factory=list)
    """Events that are no step's beginning or end."""
    whole: Step | None = None
    state: str = "running"
    """running, finished or failed."""
    begin: float = 0.0
    end: float = 0.0
    """When the last that is known of it happened."""
    told_since: float = 0.0
    """The same of its pipeline's events alone."""
    told_until: float = 0.0
    model: str | None = None
    version: str | None = None
    series: str = ""
    """Its model, else its experiment, else who told of it."""
    models: frozenset[str] = frozenset()
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The last value of each metric, after its time."""
    faults: list[Fault] = field(default_factory=list)
    categories: Counter[str] = field(default_factory=Counter)

    @property
    def title(self) -> str:
        """What it is called beside its time."""
        return self.key if self.named else f"{(self.events or self.reports)[0].who} (no run id)"

    def finish(self) -> None:
        """Work out all the rest from events and reports, which are in order of time."""
        self._pair()
        self.state = self._state()
        for step in self.steps:
            if step.outcome == "running" and self.state != "running":
                step.outcome = "lost"
        told: list[Event | Report] = sorted([*self.events, *self.reports], key=lambda each: each.at)
        self.begin = min([told[0].at, *(step.begin for step in self.steps)])
        self.end = told[-1].at
        if self.events:
            self.told_since = min([self.events[0].at, *(step.begin for step in self.steps)])
            self.told_until = self.events[-1].at
        names = [each.model for each in told if each.model]
        self.models = frozenset(names)
        self.model = names[-1] if names else None
        self.version = next((each.version for each in reversed(self.reports) if each.version), None)
        experiments = (each.experiment for each in reversed(told) if each.experiment)
        self.series = self.model or next(experiments, None) or (self.events[0].source if self.events else "no name")
        for each in told:
            self.metrics |= {name: (each.at, value) for name, value in each.metrics.items()}
            if each.error is not None:
                name = each.step if isinstance(each, Event) else "training"
                self.faults.append(Fault(each.at, self, name, each.error, each.hit))
        self.categories = Counter(each.category for each in self.events)

    def _pair(self) -> None:
        """Find each step's beginning and end."""
        begun: dict[str, Step] = {}
        for event in self.events:
            if event.outcome is None:
                self.words.append(event)
                continue
            step = begun.pop(event.step, None)
            if event.outcome == "start":
                if step is not None:
                    step.end, step.outcome = event.at, "lost"
                step = begun[event.step] = Step(event.step, event.at, None, "running")
                self._add(step)
            elif step is not None:
                step.end, step.outcome = event.at, event.outcome
                step.duration_ms = event.duration_ms if event.duration_ms is not None else (event.at - step.begin) * 1e3
            elif event.step == RUN and self.whole is not None:  # mlflow_run_end after mlflow_run_success
                continue
            else:
                self._add(
                    Step(
                        event.step,
                        event.at - (event.duration_ms or 0) / 1e3,
                        event.at,
                        event.outcome,
                        event.duration_ms,
                    )
                )

    def _add(self, step: Step) -> None:
        if step.name == RUN:
            self.whole = step
        else:
            self.steps.append(step)

    def _state(self) -> str:
        """A pipeline knows best; else what the last report with a status says."""
        if self.events:
            run = [each.outcome for each in self.events if each.step == RUN]
            last = {step.name: step.outcome for step in self.steps}
            judged = [outcome for outcome in run if outcome in ("success", "error")]
            if judged:
                return "finished" if judged[-1] == "success" else "failed"
            if "error" in last.values():
                return "failed"
            # Without mlflow_run_start it may also have no mlflow_run_end.
            over = "end" in run or ("start" not in run and "running" not in last.values())
            return "finished" if over else "running"
        status = next((each.status for each in reversed(self.reports) if each.status), None)
        return "failed" if status in FAILED else "finished" if status in FINISHED else "running"


def together(told: Iterable[Event | Report]) -> list[Run]:
    """Return the runs, the newest first.

    What names no run belongs to one by its order: events of a source to the one between mlflow_run_start and
    mlflow_run_end, else to one that begins anew where an event type comes again; reports of a model to one as long as
    epoch and step go on.
    """
    runs: dict[str, Run] = {}
    events, reports = [], []
    for each in told:
        if isinstance(each, Event):
            events.append(each)
        else:
            reports.append(each)
    events.sort(key=lambda event: event.order)
    reports.sort(key=lambda report: report.order)
    for event, key in _events_by_run(events):
        runs.setdefault(key, Run(key, event.run is not None)).events.append(event)
    for report, key in _reports_by_run(reports):
        runs.setdefault(key, Run(key, report.run is not None)).reports.append(report)
    for run in runs.values():
        run.finish()
    return sorted(runs.values(), key=lambda run: run.begin, reverse=True)


def _events_by_run(events: list[Event]) -> Iterator[tuple[Event, str]]:
    """Return each event with the name of its run."""
    names = _Names()
    current: dict[str, tuple[str, bool, set[str]]] = {}
    """By source: the run, whether its beginning was told, what it told so far."""
    for event in events:
        if event.run is not None:
            yield event, event.run
            continue
        starts = event.step == RUN and event.outcome == "start"
        run = current.get(event.source)
        if run is None or starts or (not run[1] and event.category in run[2]):
            run = current[event.source] = names.new(event.who, event.at), starts, set()
        run[2].add(event.category)
        if event.step == RUN and event.outcome == "end":
            del current[event.source]
        yield event, run[0]


def _reports_by_run(reports: list[Report]) -> Iterator[tuple[Report, str]]:
    names = _Names()
    current: dict[tuple[str | None, ...], tuple[str, Report]] = {}
    for report in reports:
        if report.run is not None:
            yield report, report.run
            continue
        kind = (report.model, report.version, report.experiment)
        name, last = current.get(kind, (None, None))
        ended = last is None or last.status in FAILED | FINISHED or report.progress == (-1, -1)
        if name is None or ended or (last is not None and report.progress < last.progress):
            name = names.new(report.who, report.at)
        current[kind] = name, report
        yield report, name


class _Names:
    """Names for runs that have none, each once."""

    def __init__(self) -> None:
        self._given: Counter[str] = Counter()

    def new(self, who: str, at: float) -> str:
        name = f"{who} {iso(at)}"
        self._given[name] += 1
        return name if self._given[name] == 1 else f"{name} ({self._given[name]})"
