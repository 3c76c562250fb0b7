"""What the runs gave, by name: every value, the median, the spread."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import asdict
from typing import Any

from benchmarks.run import Run


class Figures:
    """Values of figures, and the runs that they are from."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)
        self.runs: list[dict[str, Any]] = []

    def add(self, name: str, *values: float) -> None:
        """Add values of a figure."""
        self.values[name] += [round(each, 4) for each in values]

    def add_run(self, run: Run) -> None:
        """Add a run: its figures are ``NAME cpu`` (CPU-s a million), ``NAME rate`` (events/s), ``NAME peak`` (MiB)."""
        self.runs.append(asdict(run))
        self.add(f"{run.name} cpu", run.cpu_secs_per_million)
        self.add(f"{run.name} rate", run.events_per_sec)
        self.add(f"{run.name} peak", run.peak_mib)
        self.add(f"{run.name} sender share", run.sender_share)
        self.add(f"{run.name} sink share", run.sink_share)

    def median(self, name: str) -> float | None:
        """Return a figure's median; None where it was not measured."""
        return statistics.median(self.values[name]) if name in self.values else None

    def ratio(self, above: str, below: str) -> float | None:
        """Return the median of the ratios of two figures that were measured in turn, or None."""
        pairs = zip(self.values.get(above, ()), self.values.get(below, ()), strict=False)
        ratios = [a / b for a, b in pairs if b]
        return statistics.median(ratios) if ratios else None

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return median, lowest, highest and all values of each figure."""
        return {
            name: {"median": statistics.median(each), "low": min(each), "high": max(each), "values": each}
            for name, each in self.values.items()
        }


def of_summary(summary: dict[str, dict[str, Any]]) -> Figures:
    """Return what a summary is of."""
    figures = Figures()
    for name, each in summary.items():
        figures.add(name, *each["values"])
    return figures


def quantile(ordered: list[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
