"""The peers' result as a table and as a picture: their figures also where they are better than ours."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.plot import Bar, bars
from benchmarks.report import caption, measured_on, number

FIGURES = {"cpu": "CPU-s / million", "rate": "events/s", "peak": "peak MiB", "idle": "idle MiB", "ready": "start in s"}


def table(result: dict[str, Any]) -> str:
    """Return all that `make bench-peers` prints."""
    systems = result["systems"]
    ours, *_ = systems.values()
    rows = [
        measured_on(result),
        "",
        "| one core, TCP, 4 connections | " + " | ".join(FIGURES.values()) + " | CPU against ours | documents |",
        "|---|" + "---:|" * (len(FIGURES) + 1) + "---|",
    ]
    for name, figures in systems.items():
        if "cpu" not in figures:
            rows.append(
                f"| {name} |" + " – |" * (len(FIGURES) + 1) + f" failed: {' '.join(figures['failed'][0].split())} |"
            )
            continue
        cells = [_spread(figures[figure]) for figure in FIGURES]
        against = statistics.median(figures["cpu"]) / statistics.median(ours["cpu"])
        said = figures["documents"][0]["said"]
        if lost := max(figures["lost"]):
            said += f"; lost {lost:,}"
        rows.append(f"| {name} | " + " | ".join(cells) + f" | {against:.2f} × | {said} |")
    rows += ["", "Versions: " + "; ".join(f"{name}: {said}" for name, said in result["versions"].items())]
    if result["not_installed"]:
        rows.append(f"Not installed, so not measured: {', '.join(result['not_installed'])}.")
    return "\n".join(rows)


def picture(result: dict[str, Any]) -> str:
    """Return an SVG of everybody's CPU-s a million."""
    rows = [
        Bar(name, statistics.median(each["cpu"]), min(each["cpu"]), max(each["cpu"]), ours=number_ == 0)
        for number_, (name, each) in enumerate(result["systems"].items())
        if "cpu" in each
    ]
    title = "CPU seconds for a million events over TCP: parsed, enriched, into daily indices by bulk"
    return bars(title, caption(result), rows, {})


def _spread(values: list[float]) -> str:
    median = number(statistics.median(values))
    return median if len(values) == 1 else f"{median} ({number(min(values))}–{number(max(values))})"
