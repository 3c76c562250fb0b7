"""The console's figures against what they must be, and as tables."""

from __future__ import annotations

from typing import Any

from benchmarks.console.watching import RATE
from benchmarks.figures import Figures, of_summary
from benchmarks.report import measured_on, number, spread, targets
from benchmarks.targets import Target

Result = dict[str, Any]

TARGETS = (
    Target("first paint, slowest page", "ms", 300, 150, lambda figures: _most(figures, "first paint")),
    Target("a question to the store, slowest", "ms", 500, 250, lambda figures: _most(figures, "question")),
    Target(
        f"acknowledged at {RATE:,}/s, p99: later while browsers watch by",
        "ms",
        100,
        50,
        lambda figures: _later(figures, f"{RATE:,}/s {{}} p99 ms"),
    ),
    Target(
        "full speed while browsers watch, against alone",
        "×",
        0.85,
        0.95,
        lambda figures: figures.ratio("full speed watched rate", "full speed alone rate"),
        least=True,
    ),
    Target(
        "CPU per event while browsers watch, against alone",
        "×",
        None,
        1.15,
        lambda figures: figures.ratio("full speed watched cpu", "full speed alone cpu"),
    ),
)


def _most(figures: Figures, name: str) -> float | None:
    return max(figures.values[name]) if name in figures.values else None


def _later(figures: Figures, name: str) -> float | None:
    alone, watched = figures.median(name.format("alone")), figures.median(name.format("watched"))
    return None if alone is None or watched is None else watched - alone


def figures_of_pages(result: Result) -> Figures:
    """Return the figures that the targets are about; of a page's first paints the median counts."""
    figures = of_summary(result.get("figures", {}))
    for page in result.get("pages", ()):
        figures.add("first paint", sorted(page["first_paint_ms"])[len(page["first_paint_ms"]) // 2])
        figures.add("question", *(each["ms"] for panel in page["panels"] for each in panel["questions"]))
    return figures


def tables(result: Result) -> str:
    """Return all that is printed."""
    failed = [f"**Failed**: {why}\n" for why in result["failed"].values()]
    stored = (
        f"{result['stored']:,} events in the store, {result.get('of_last_day', 0):,} of them of the last day; "
        f"{result.get('watched', 0)} browsers on the same cores; nothing is pinned."
    )
    rows = [measured_on(result), "", stored, "", *failed, *targets(result)]
    if "pages" in result:
        rows += ["", *_pages(result["pages"]), "", *_panels(result["pages"])]
    if "figures" in result:
        rows += ["", *_watching(of_summary(result["figures"]))]
    return "\n".join(rows)


def _pages(pages: list[dict[str, Any]]) -> list[str]:
    rows = ["| page | first paint, ms | all panels filled, ms | panels | questions |", "|---|---:|---:|---:|---:|"]
    for page in pages:
        figures = Figures()
        figures.add("paint", *page["first_paint_ms"])
        figures.add("filled", *page["filled_ms"])
        questions = sum(len(panel["questions"]) for panel in page["panels"])
        cells = (page["name"], spread(figures, "paint"), spread(figures, "filled"), len(page["panels"]), questions)
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


def _panels(pages: list[dict[str, Any]]) -> list[str]:
    rows = ["| panel | server, ms | its questions, ms |", "|---|---:|---|"]
    for page in pages:
        for panel in page["panels"]:
            asked = "; ".join(f"{number(each['ms'])} {each['what']}" for each in panel["questions"])
            rows.append(f"| {panel['name']} | {number(panel['ms'])} | {asked.replace('|', '/')} |")
    return rows


def _watching(figures: Figures) -> list[str]:
    rows = ["| while events come | alone | watched |", "|---|---:|---:|"]
    for name in figures.values:
        if " alone" in name and "share" not in name:
            watched = spread(figures, name.replace(" alone", " watched"))
            rows.append(f"| {name.replace(' alone', '')} | {spread(figures, name)} | {watched} |")
    return rows
