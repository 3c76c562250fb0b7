"""A result as tables of Markdown and as a picture."""

from __future__ import annotations

from typing import Any

from benchmarks.figures import Figures, of_summary
from benchmarks.plot import Bar, bars
from benchmarks.targets import TARGETS

Result = dict[str, Any]
COLUMNS = {"cpu": "CPU-s / million", "rate": "events/s", "peak": "peak MiB"}
SHARES = ("sender share", "sink share")


def measured_on(result: Result) -> str:
    """Return one line on when and on what it was measured."""
    on = result["machine"]
    changes = " with uncommitted changes" if on["uncommitted_changes"] else ""
    return (
        f"{result['date']}, commit {on['commit'][:10] or 'unknown'}{changes}. {on['cores']} cores of {on['cpu']}, "
        f"{on['memory_gib']} GiB, Linux {on['kernel']}, {on['file_system']}, Python {on['python']}, "
        f"load average {on['load_average'][0]} at the start, "
        f"{result.get('load_average_at_end', 'not noted')} at the end. "
        f"{result['events']:,} events a run, "
        f"{result['repeat']} repetitions: medians (lowest–highest)."
    )


def targets(result: Result) -> list[str]:
    """Return the table of must, aim and figure, and below it why what is missed is missed."""
    rows = ["| what | must | aim | figure | |", "|---|---:|---:|---:|---|"]
    missed = []
    for row in result["targets"]:
        sign = "≥" if row["least"] else "≤"
        kept = row["must_kept"] if row["must"] is not None else row["aim_kept"]
        mark = "not measured" if row["figure"] is None else "✓" if kept else "✗"
        must = "–" if row["must"] is None else f"{sign} {row['must']:,g}"
        aim = f"{sign} {row['aim']:,g}{' ✓' if row['aim_kept'] else ''}"
        figure = "–" if row["figure"] is None else f"{number(row['figure'])} {row['unit']}"
        rows.append(f"| {row['what']} | {must} | {aim} | {figure} | {mark} |")
        if mark == "✗":
            missed.append(row["what"])
    if missed:
        reasons = {target.what: target.reason for target in TARGETS}
        rows += ["", "Missed:", ""]
        rows += [f"- {what}: {reasons.get(what) or 'the reason is not found yet (`make profile`)'}." for what in missed]
    return rows


def tables(result: Result) -> str:
    """Return all that `make bench` prints."""
    figures = of_summary(result["figures"])
    failed = [f"**{group} failed, what follows it is missing**: {why}\n" for group, why in result["failed"].items()]
    return "\n".join([measured_on(result), "", *failed, *targets(result), "", *loads(figures), "", *others(figures)])


def loads(figures: Figures) -> list[str]:
    """Return the table of all runs, in the order in which they were first made."""
    names = [name[:-5] for name in figures.values if name.endswith(" rate") and f"{name[:-5]} peak" in figures.values]
    rows = ["| events sent as | " + " | ".join([*COLUMNS.values(), "sender’s, sink’s share of a core"]) + " |"]
    rows.append("|---|" + "---:|" * (len(COLUMNS) + 1))
    for name in names:
        cells = [spread(figures, f"{name} {column}") for column in COLUMNS]
        shares = [f"{100 * (figures.median(f'{name} {share}') or 0):.0f} %" for share in SHARES]
        rows.append(f"| {name} | " + " | ".join([*cells, ", ".join(shares)]) + " |")
    return rows


def others(figures: Figures) -> list[str]:
    """Return the table of all other figures."""
    of_runs = {
        f"{name[:-5]} {column}"
        for name in figures.values
        if name.endswith(" rate") and f"{name[:-5]} peak" in figures.values
        for column in (*COLUMNS, *SHARES)
    }
    rows = ["| figure | |", "|---|---:|"]
    rows += [
        f"| {name.removesuffix(' cpu').removesuffix(' rate')} | {spread(figures, name)} {unit(name)} |"
        for name in figures.values
        if name not in of_runs
    ]
    return rows


def spread(figures: Figures, name: str) -> str:
    """Return a figure's median with lowest and highest."""
    if (median := figures.median(name)) is None:
        return "–"
    values = figures.values[name]
    if len(values) == 1:
        return number(median)
    return f"{number(median)} ({number(min(values))}–{number(max(values))})"


def unit(name: str) -> str:
    """Return the unit of a figure by its name."""
    if name.startswith("latency"):
        return "ms"
    if name.startswith("ready"):
        return "s"
    if name.startswith("idle"):
        return "MiB"
    if name.endswith(" cpu"):
        return "CPU-s / million"
    return "/s" if name.endswith(" rate") else ""


def number(value: float) -> str:
    """Return a number in three or more digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def picture(result: Result) -> str:
    """Return an SVG of CPU-s a million for each way to send, with what it must be and aims at."""
    figures = of_summary(result["figures"])
    shown = [name for name in figures.values if name.endswith(" cpu") and f"{name[:-4]} peak" in figures.values]
    rows = [
        Bar(name.removesuffix(" cpu"), figures.median(name) or 0, min(figures.values[name]), max(figures.values[name]))
        for name in shown
        if not name.startswith(("single", "workers"))
    ]
    (cpu, *_) = TARGETS
    marks = {"aim": cpu.aim, "must": cpu.must or 0}
    return bars("CPU seconds for a million events, validated, enriched, synced to disk", caption(result), rows, marks)


def caption(result: Result) -> str:
    """Return a short line on when and on what it was measured."""
    on = result["machine"]
    return (
        f"{result['date'][:10]}, commit {on['commit'][:10]}, {on['cores']} cores of {on['cpu']}, Python {on['python']}"
    )
