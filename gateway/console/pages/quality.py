"""Data quality: scores, drift and failed checks by dataset, column and check."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gateway.console.asking import Asking
from gateway.console.layout import Context, Page
from gateway.console.view import View
from gateway.store.aggregation import Aggregation, Question

FIELDS = {"dataset": "dataset_name", "column": "column", "check": "check_name"}
MOST_KEYS = 1000
MOST_LINES = 8
"""Datasets in a chart."""
LATEST = 1000
"""Checks looked through for the last one of each column."""
FAILURES = 100
LEVELS = (0.99, 0.95, 0.9, 0.8, 0.7, 0.5)
"""Where the shades of a score begin, from the best on."""


@dataclass
class Tally:
    """Checks counted: by what they say of themselves, and their scores."""

    passed: int = 0
    failed: int = 0
    unjudged: int = 0
    """Those that have no passed field."""
    scored: int = 0
    total: float = 0.0
    """All scores added up."""
    lowest: float | None = None
    last: str | None = None
    """The time of the last check, where it is among the latest; ISO 8601."""

    @property
    def checks(self) -> int:
        """How many there were."""
        return self.passed + self.failed + self.unjudged

    @property
    def score(self) -> float | None:
        """The average of the scores."""
        return self.total / self.scored if self.scored else None

    @property
    def pass_rate(self) -> float | None:
        """The share of those that passed among those that say."""
        judged = self.passed + self.failed
        return self.passed / judged if judged else None

    @property
    def level(self) -> int | None:
        """The shade of the score: 0 is the best."""
        return None if self.score is None else sum(self.score < bound for bound in LEVELS)

    def add(self, passed: bool | None, bucket: dict[str, Any]) -> None:
        """Add a bucket of checks of which all passed, all failed, or none (None) says."""
        self.passed += bucket["count"] if passed is True else 0
        self.failed += bucket["count"] if passed is False else 0
        self.unjudged += bucket["count"] if passed is None else 0
        self.scored += bucket["count:score"]
        self.total += bucket["sum:score"] or 0.0
        lowest = [each for each in (self.lowest, bucket["min:score"]) if each is not None]
        self.lowest = min(lowest, default=None)


@dataclass
class Dataset:
    """A dataset, None where checks name none, and its columns; None: checks of no single column."""

    name: str | None
    columns: dict[str | None, Tally] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many checks failed."""
        return sum(each.failed for each in self.columns.values())

    @property
    def by_name(self) -> list[tuple[str | None, Tally]]:
        """The columns in order of their names, at last what is of no column."""
        return sorted(self.columns.items(), key=lambda each: (each[0] is None, each[0] or ""))


def page(asking: Asking, prefix: str = "") -> Page:
    """Return the page; ``prefix`` stands before the names of all indices."""
    index = f"{prefix}data-quality-*"
    scores = ("count:score", "sum:score", "min:score")

    async def counted(view: View, *by: str) -> Aggregation:
        return await asking.aggregate(Question(view.query(index, FIELDS), by, None, scores, MOST_KEYS))

    async def figures(view: View) -> Context:
        whole, by_passed = await counted(view), await counted(view, "passed")
        by_column = await counted(view, "dataset_name", "column", "passed")
        datasets = await counted(view, "dataset_name")
        choices = {}
        for name, of in FIELDS.items():  # what one can change to: with the other filters, without its own
            found = await counted(replace(view, filters={**view.filters, name: ""}), of)
            choices[name] = sorted(str(each["key"]) for each in found.buckets)
        tally = Tally(unjudged=by_passed.missing)
        for bucket in by_passed.buckets:
            tally.add(bucket["key"], bucket)
        lowest = whole.buckets[0]["min:score"] if whole.buckets else None
        return {
            "tally": tally,
            "lowest": lowest,
            "where": next((each["key"] for each in by_column.buckets if each["min:score"] == lowest is not None), None),
            "datasets": len(datasets.buckets),
            "more": datasets.other > 0,
            "choices": choices,
        }

    async def by_dataset(view: View) -> Context:
        found = await counted(view, "dataset_name", "column", "passed")
        whole = await counted(view)
        latest = await asking.search(view.query(index, FIELDS, limit=LATEST))
        datasets = _datasets(found, whole)
        for hit in latest.hits:
            source = hit["_source"]
            columns = datasets.get(source.get("dataset_name"), Dataset(None)).columns
            tally = columns.get(source.get("column"))
            if tally is not None and tally.last is None:
                tally.last = source["@timestamp"]
        before = latest.hits[-1]["_source"]["@timestamp"] if latest.hits else None
        order = sorted(datasets.values(), key=lambda each: (-each.failed, each.name or ""))
        return {"datasets": order, "before": before, "other": found.other, "levels": LEVELS}

    async def failed(view: View) -> Context:
        query = view.query(index, FIELDS, limit=FAILURES)
        hits = await asking.search(replace(query, where=(*query.where, ("passed", "false"))))
        return {"hits": hits.hits, "total": hits.total, "missing": _missing, "any": (await counted(view)).total}

    async def checks(view: View) -> Context:
        found = await counted(view, "check_name", "passed")
        tallies: dict[str | None, Tally] = {}
        for bucket in found.buckets:
            name, passed = bucket["key"]
            tallies.setdefault(name, Tally()).add(passed, bucket)
        if rest := _rest(found, await counted(view), tallies.values()):
            tallies.setdefault(None, Tally()).add(None, rest)
        order = sorted(tallies.items(), key=lambda each: (-each[1].failed, -each[1].checks, each[0] or ""))
        return {"checks": order, "other": found.other}

    def over_time(metric: str, **more: Any) -> Callable[[View], Any]:
        async def panel(view: View) -> Context:
            question = Question(
                view.query(index, FIELDS),
                ("dataset_name",),
                view.interval,
                ("avg:score", "avg:drift_score"),
                MOST_LINES,
            )
            found = await asking.aggregate(question)
            spec = {**_lines(view, found, metric), **more}
            return {"spec": spec if spec["series"] else None, "found": found, "most": MOST_LINES}

        return panel

    panels = {
        "figures": figures,
        "scores": by_dataset,
        "checks": checks,
        "score": over_time("avg:score", min=0, max=1),
        "drift": over_time("avg:drift_score", min=0),
        "failed": failed,
    }
    return Page("quality", "/quality", "Data quality", tuple(FIELDS), panels, styles=("quality.css",))


def _datasets(found: Aggregation, whole: Aggregation) -> dict[str | None, Dataset]:
    """Put the checks together by dataset and column."""
    datasets: dict[str | None, Dataset] = {}
    for bucket in found.buckets:
        name, column, passed = bucket["key"]
        columns = datasets.setdefault(name, Dataset(name)).columns
        columns.setdefault(column, Tally()).add(passed, bucket)
    if rest := _rest(found, whole, [tally for each in datasets.values() for tally in each.columns.values()]):
        datasets.setdefault(None, Dataset(None)).columns.setdefault(None, Tally()).add(None, rest)
    return datasets


def _rest(found: Aggregation, whole: Aggregation, tallies: Collection[Tally]) -> dict[str, Any] | None:
    """Return the bucket of the checks that name nothing of what was asked, not even how they went: what is left of all.

    None where there are none, or where others are left out too.
    """
    if not found.missing or found.other:
        return None
    scored = whole.buckets[0]["count:score"] - sum(each.scored for each in tallies)
    total = round((whole.buckets[0]["sum:score"] or 0.0) - sum(each.total for each in tallies), 9)
    return {"count": found.missing, "count:score": scored, "sum:score": total, "min:score": None}


def _missing(source: dict[str, Any]) -> float | None:
    """Return the share of missing values of a check."""
    rows, missing = source.get("row_count"), source.get("missing_count")
    return missing / rows if isinstance(rows, int) and isinstance(missing, int) and rows > 0 else None


def _lines(view: View, found: Aggregation, metric: str) -> dict[str, Any]:
    """Return a chart of a metric over time, a line for each dataset that has it."""
    values: dict[str, dict[str, float]] = {}
    for bucket in found.buckets:
        if bucket[metric] is not None:
            values.setdefault(str(bucket["by"]), {})[bucket["key"]] = bucket[metric]
    times: Iterable[str] = sorted({time for each in values.values() for time in each})
    return {
        "type": "line",
        "joined": True,
        "time": True,
        "from": view.since * 1000,
        "to": view.until * 1000,
        "labels": [datetime.fromisoformat(time).timestamp() * 1000 for time in times],
        "series": [
            {"name": name, "values": [each.get(time) for time in times]} for name, each in sorted(values.items())
        ],
    }
