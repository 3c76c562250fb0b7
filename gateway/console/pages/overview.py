"""The first page: is anything missing, is any model getting worse, is any source silent?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.console.asking import Asking
from gateway.console.health import Status, stored, troubles, waiting
from gateway.console.layout import Context, Page
from gateway.console.view import View
from gateway.monitoring import findings
from gateway.monitoring.figures import HOUR, Figures
from gateway.monitoring.standing import standings
from gateway.store.query import Query
from gateway.telling import tell

LATEST = 12
MOST_FOUND = 4
MOST_KINDS = 8
BUNDLE_SECS = 5
HEARD_MINUTES = 5
ON_THE_WAY_SECS = 5  # what came in so lately may not be stored yet
LINE = '{"model_name":"fraud_detector","prediction_confidence":0.93,"inference_time_ms":25}'
_PATHS = {"ml-metrics": "/models", "ml-training": "/training", "ml-pipeline": "/logs", "data-quality": "/quality"}


def page(status: Callable[[], Status], figures: Figures, asking: Asking, prefix: str) -> Page:
    """Return the page; ``status`` gives what `/status` says."""

    async def answers(_: View) -> Context:
        now = status()
        found = await asyncio.to_thread(_judged, figures, now)  # minutes of many models take a while to add up
        return {"books": now["books"], "stored": stored(now), "missing": _missing(now), **found}

    async def rates(_: View) -> Context:
        lines = figures.rates()[1]
        begin = int(time.time()) - max(map(len, lines.values()), default=0)
        bundles = {
            name: [sum(line[at : at + BUNDLE_SECS]) for at in range(0, len(line) - ON_THE_WAY_SECS, BUNDLE_SECS)]
            for name, line in lines.items()
        }
        coming = any(map(any, lines.values()))  # in the seconds that are not told yet
        return {
            "spec": _rates(bundles, begin, BUNDLE_SECS),
            "line": LINE,
            "coming": coming,
            "waiting": waiting(status()),
        }

    async def hour(_: View) -> Context:
        counts = await asyncio.to_thread(figures.by_minute)
        now = int(time.time())
        minutes = range(now // 60 - 59, now // 60 + 1)
        # Of the present minute so much is over.
        shares = [1.0] * (len(minutes) - 1) + [max(now % 60, BUNDLE_SECS) / 60]
        lines = {
            name: [line.get(minute, 0) / share for minute, share in zip(minutes, shares, strict=True)]
            for name, line in counts.items()
        }
        return {"spec": _rates(lines, minutes[0] * 60, 60), "line": LINE, "coming": False, "waiting": waiting(status())}

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
    return Page("overview", "/", "Overview", panels=panels, has_range=False, styles=("overview.css",))


def _judged(figures: Figures, status: Status) -> Context:
    """Return the answers on models and on who is silent; reads all minutes that are kept."""
    models = [each for each in standings(figures) if each.window.predictions]
    worse = findings.worse(figures)
    begin = figures.window_begin()
    before = figures.between(begin - HOUR, begin)
    compared = sum((each.model, each.version) in before.models for each in models)
    minutes = round(figures.window_secs / 60)
    if worse:
        said = f"{len({(each.model, each.version) for each in worse})} of {len(models)} models"
        worse_answer = {"state": "bad", "said": f"{said}, in the last {minutes} minutes."}
    elif compared:
        worse_answer = {"state": "good", "said": "No model is getting worse."}
    elif models:
        worse_answer = {"state": "", "said": "Too early to tell."}
    else:
        worse_answer = {"state": "", "said": "No predictions lately."}
    now = time.time()
    silent = findings.silent(figures, now - status["spool"]["oldest_secs"], now - status["uptime_secs"])
    heard = figures.between(int(now) // 60 - HEARD_MINUTES)
    services = {service for service, _ in heard.endpoints if service}
    counts = {"model": len({name for name, _ in heard.models}), "service": len(services), "kind": len(heard.indices)}
    senders = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count]
    if silent:
        silent_answer = {"state": "bad", "said": f"{len(silent)} {'is' if len(silent) == 1 else 'are'} silent."}
    else:
        silent_answer = {"state": "good", "said": "None is silent."} if senders else {"state": "", "said": "None yet."}
    return {
        "worse": {**worse_answer, "found": worse[:MOST_FOUND], "omitted": max(0, len(worse) - MOST_FOUND)},
        "models": [] if worse else models[:MOST_FOUND],
        "window_minutes": minutes,
        "silent": {**silent_answer, "found": silent[:MOST_FOUND], "omitted": max(0, len(silent) - MOST_FOUND)},
        "heard": " and ".join(", ".join(senders).rsplit(", ", 1)),
        "heard_minutes": HEARD_MINUTES,
    }


def _missing(status: Status) -> Context:
    found = troubles(status)
    behind = waiting(status)
    if found:
        return {"state": "bad", "said": "Something needs a look.", "more": found}
    if not status["books"]["received"]:
        return {"state": "", "said": "Nothing came in yet.", "more": []}
    more = [f"{behind:,} wait on disk to be stored."] if behind else []
    return {"state": "good", "said": "Nothing is missing.", "more": more}


def _rates(lines: Mapping[str, Sequence[float]], begin: int, secs: int) -> Context:
    """Return the chart of events per second: of each index those of stretches of ``secs``, the first at ``begin``."""
    names = sorted((name for name, line in lines.items() if any(line)), key=lambda name: -sum(lines[name]))
    series = [
        {"name": name, "values": [round(count / secs, 3) for count in lines[name]]} for name in names[:MOST_KINDS]
    ]
    points = max(map(len, lines.values()), default=0)
    labels = [(begin + at * secs) * 1000 for at in range(points)]
    return {"type": "stack", "time": True, "labels": labels, "series": series, "unit": "/s"}


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
