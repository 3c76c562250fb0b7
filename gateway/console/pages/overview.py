"""The first page: is anything missing, is any model getting worse, is any source silent?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.console.asking import Asking
from gateway.console.layout import Context, Page
from gateway.console.view import View
from gateway.monitoring import findings
from gateway.monitoring.figures import Figures
from gateway.store.query import Query
from gateway.telling import tell

Status = dict[str, Any]
LATEST = 12
MOST_FOUND = 4
MOST_KINDS = 8
BUNDLE_SECS = 5
ON_THE_WAY_SECS = 5  # what came in so lately may not be stored yet
LINE = '{"model_name":"fraud_detector","prediction_confidence":0.93,"inference_time_ms":25}'
_PATHS = {"ml-metrics": "/models", "ml-training": "/training", "ml-pipeline": "/logs", "data-quality": "/quality"}


def page(status: Callable[[], Status], figures: Figures, asking: Asking, prefix: str) -> Page:
    """Return the page; ``status`` gives what `/status` says."""

    async def answers(_: View) -> Context:
        now = status()
        known = bool(figures.all().indices)
        heard_until = time.time() - now["spool"]["oldest_secs"]
        return {
            "books": now["books"],
            "stored": stored(now),
            "missing": _missing(now),
            "worse": _found(findings.worse(figures), "No model is getting worse.", "{} getting worse", known),
            "silent": _found(
                findings.silent(figures, heard_until, time.time() - now["uptime_secs"]),
                "Nothing is silent.",
                "{} silent",
                known,
            ),
        }

    async def rates(_: View) -> Context:
        lines = figures.rates()[1]
        begin = int(time.time()) - max(map(len, lines.values()), default=0)
        bundles = {
            name: [sum(line[at : at + BUNDLE_SECS]) for at in range(0, len(line) - ON_THE_WAY_SECS, BUNDLE_SECS)]
            for name, line in lines.items()
        }
        return {"spec": _rates(bundles, begin, BUNDLE_SECS), "line": LINE}

    async def hour(_: View) -> Context:
        now = int(time.time()) // 60
        minutes = range(now - 60, now)  # the present one is not over
        lines = {name: [line.get(minute, 0) for minute in minutes] for name, line in figures.by_minute().items()}
        return {"spec": _rates(lines, minutes[0] * 60, 60), "line": LINE}

    async def kinds(_: View) -> Context:
        now = figures.rates()[0]
        counts = sorted(figures.all().indices.items(), key=lambda each: -each[1])
        return {
            "kinds": [
                {"name": name, "count": count, "rate": now.get(name, 0.0), "path": _PATHS.get(name)}
                for name, count in counts
            ]
        }

    async def flow(_: View) -> Context:
        now = status()
        return {**{name: now[name] for name in ("sources", "spool", "sinks", "books")}, "waiting": waiting(now)}

    async def latest(_: View) -> Context:
        hits = await asking.search(Query(limit=LATEST))
        return {"rows": [_row(hit, prefix) for hit in hits.hits], "line": LINE}

    panels = {"answers": answers, "rates": rates, "hour": hour, "kinds": kinds, "flow": flow, "latest": latest}
    return Page("overview", "/", "Overview", panels=panels, has_range=False)


def live(status: Callable[[], Status], figures: Figures) -> Callable[[], dict[str, Any]]:
    """Return what tells all pages how things stand now; rates are of the time since it was last asked."""
    before: tuple[float, dict[str, int], dict[str, int]] = time.monotonic(), {}, {}

    def now() -> dict[str, Any]:
        nonlocal before
        found = status()
        books = found["books"]
        at = time.monotonic()
        received = {name: each["received"] for name, each in found["sources"].items()}
        taken = {name: each["indexed"] + each["duplicates"] for name, each in books["sinks"].items()}
        secs = max(at - before[0], 0.1)
        told = {
            "troubles": troubles(found),
            "received": books["received"],
            "stored": stored(found),
            "refused": books["refused"],
            "missing": abs(books["difference"]),
            "sources": _rise(received, before[1], secs),
            "sinks": _rise(taken, before[2], secs),
            "kinds": figures.rates()[0],
        }
        before = at, received, taken
        return told

    return now


def stored(status: Status) -> int:
    """Return how many events are in every sink."""
    return min((each["indexed"] + each["duplicates"] for each in status["books"]["sinks"].values()), default=0)


def waiting(status: Status) -> int:
    """Return how many events the sink that is furthest behind has not taken."""
    return max((each["waiting"] for each in status["books"]["sinks"].values()), default=0)


def troubles(status: Status) -> list[str]:
    """Return what somebody should look at, a sentence each."""
    found = []
    books = status["books"]
    if books["difference"]:
        found.append(f"{abs(books['difference']):,} events are missing in the books.")
    for name, sink in status["sinks"].items():
        if sink["state"] != "ok":
            found.append(f"{name} is {sink['state']}: {sink['last_error'] or 'no reason given'}")
    found += [each for each in (status["spool"]["failure"], status["spool"]["full"]) if each]
    for name, sink in books["sinks"].items():
        found += [
            f"{sink[what]:,} events {text} ({name})."
            for what, text in (("damaged", "could not be read again from the spool"), ("skipped", "were skipped"))
            if sink[what]
        ]
    return found


def _rates(lines: Mapping[str, Sequence[int]], begin: int, secs: int) -> Context:
    """Return the chart of events per second: of each index those of stretches of ``secs``, the first at ``begin``."""
    names = sorted((name for name, line in lines.items() if any(line)), key=lambda name: -sum(lines[name]))
    series = [
        {"name": name, "values": [round(count / secs, 3) for count in lines[name]]} for name in names[:MOST_KINDS]
    ]
    points = max(map(len, lines.values()), default=0)
    labels = [(begin + at * secs) * 1000 for at in range(points)]
    return {"type": "stack", "time": True, "labels": labels, "series": series, "unit": "/s"}


def _missing(status: Status) -> Context:
    found = troubles(status)
    behind = waiting(status)
    if found:
        return {"state": "bad", "said": "Something needs a look.", "more": found}
    if not status["books"]["received"]:
        return {"state": "", "said": "Nothing came in yet.", "more": []}
    more = [f"{behind:,} wait on disk to be stored."] if behind else []
    return {"state": "good", "said": "Nothing is missing.", "more": more}


def _found(found: Sequence[Any], nothing: str, some: str, known: bool) -> Context:
    if not known:
        return {"state": "", "said": "Nothing is known yet.", "found": [], "omitted": 0}
    if not found:
        return {"state": "good", "said": nothing, "found": [], "omitted": 0}
    said = some.format(f"{len(found)} {'is' if len(found) == 1 else 'are'}")
    return {"state": "bad", "said": f"{said}.", "found": found[:MOST_FOUND], "omitted": max(0, len(found) - MOST_FOUND)}


def _rise(now: dict[str, int], before: dict[str, int], secs: float) -> dict[str, float]:
    return {name: max(0, count - before.get(name, count)) / secs for name, count in now.items()}


def _row(hit: dict[str, Any], prefix: str) -> Context:
    source = hit["_source"]
    base = hit["_index"].rpartition("-")[0]
    kind, who, parts = tell(base.removeprefix(prefix), source)
    return {
        "id": hit["_id"],
        "time": source.get("@timestamp", ""),
        "kind": kind,
        "who": who,
        "parts": parts,
        "document": source,
    }
