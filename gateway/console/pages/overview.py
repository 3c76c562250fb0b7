"""The first page: is anything missing, is any model getting worse, is any source silent?"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from gateway.console.asking import Asking
from gateway.console.health import HEARD_MINUTES, Health, Judged, Status, stored, troubles, waiting
from gateway.console.layout import Context, NotYet, Page
from gateway.console.pages import events
from gateway.console.view import View
from gateway.monitoring.figures import RATE_SECS
from gateway.store.query import Query

LATEST = 12
MOST_FOUND = 4
MOST_KINDS = 8
BUNDLE_SECS = 5
SETTLED_SECS = 30
ON_THE_WAY_SECS = 5  # what came in so lately may not be stored yet
LINE = '{"model_name":"fraud_detector","prediction_confidence":0.93,"inference_time_ms":25}'
_PATHS = {"ml-metrics": "/models", "ml-training": "/training", "ml-pipeline": "/logs", "data-quality": "/quality"}


def page(health: Health, asking: Asking, prefix: str) -> Page:
    """Return the page; ``prefix``: of all indices."""
    figures = health.figures

    async def answers(_: View) -> Context:
        judged = await health.judged()
        now = health.status()  # behind it, so that all counts are of one moment
        return {
            "books": now["books"],
            "stored": stored(now),
            "waiting": waiting(now),
            "missing": _missing(now),
            "worse": _worse(judged),
            "silent": _silent(judged),
        }

    def charted(spec: Context, within: str) -> Context:
        known = bool(figures.indices())
        return {"spec": spec, "within": within, "known": known, "line": LINE, "waiting": waiting(health.status())}

    async def rates(_: View) -> Context:
        # What came before this start is not known by the second.
        since = max(0, RATE_SECS - int(health.status()["uptime_secs"]) - 2)
        lines = {name: line[since:] for name, line in figures.rates()[1].items()}
        now = int(time.time())
        begin = now - max(map(len, lines.values()), default=0)
        bundles = {
            name: [sum(line[at : at + BUNDLE_SECS]) for at in range(0, len(line) - ON_THE_WAY_SECS, BUNDLE_SECS)]
            for name, line in lines.items()
        }
        spec = _rates(bundles, begin, BUNDLE_SECS) | {"from": (now - RATE_SECS) * 1000}
        if not spec["series"] and any(map(any, lines.values())):
            raise NotYet("The first events are being counted: this fills itself in some seconds.")
        return charted(spec, "in the last 5 minutes, or since the start")

    async def hour(_: View) -> Context:
        now = int(time.time())
        minutes = range(now // 60 - 59, now // 60 + 1)
        counts = await asyncio.to_thread(lambda begin: figures.kept().by_index(begin), minutes[0])
        shares = dict.fromkeys(minutes, 1.0) | {now // 60: max(now % 60, BUNDLE_SECS) / 60}
        if now % 60 < SETTLED_SECS and any(minute in line for line in counts.values() for minute in minutes[:-1]):
            minutes = minutes[:-1]  # the present one has just begun, and some of it is on the way
        lines = {name: [line.get(minute, 0) / shares[minute] for minute in minutes] for name, line in counts.items()}
        return charted(_rates(lines, minutes[0] * 60, 60), "in the last hour")

    async def kinds(view: View) -> Context:
        now = figures.rates()[0]
        counts = sorted(figures.indices().items(), key=lambda each: -each[1])
        return {
            "kinds": [
                {
                    "name": name,
                    "count": count,
                    "rate": now.get(name, 0.0),
                    "path": _PATHS.get(name) or view.address(events.PATH, kind=name),
                }
                for name, count in counts
            ]
        }

    async def flow(_: View) -> Context:
        now = health.status()
        return {**{name: now[name] for name in ("sources", "spool", "sinks", "books")}, "waiting": waiting(now)}

    async def latest(_: View) -> Context:
        hits = await asking.search(Query(limit=LATEST))
        return {"rows": [events.row(hit, prefix) for hit in hits.hits], "line": LINE}

    panels = {"answers": answers, "rates": rates, "hour": hour, "kinds": kinds, "flow": flow, "latest": latest}
    return Page("overview", "/", "Overview", panels=panels, has_range=False, styles=("overview.css",))


def _worse(judged: Judged) -> Context:
    """Return the answer on the models: those that do worse, else those with the lowest accuracy."""
    found = judged.comparison
    models = sorted(judged.models, key=lambda each: each.quality.accuracy if each.quality else 1.0)
    told: Context = {"found": found.worse[:MOST_FOUND], "minutes": found.minutes, "before": found.before}
    told["omitted"] = max(0, len(found.worse) - MOST_FOUND)
    told["models"] = [] if found.worse else models[:MOST_FOUND]
    told["more"] = 0 if found.worse else max(0, len(models) - MOST_FOUND)
    if found.worse:
        count = len({(each.model, each.version) for each in found.worse})
        return told | {"state": "bad", "said": f"{count} of {found.models} model versions."}
    if found.models:
        return told | {"state": "good", "said": "No model is getting worse."}
    return told | {"state": "", "said": "Too early to tell." if models else "No predictions lately."}


def _silent(judged: Judged) -> Context:
    heard = _counted({name: count for name, count in judged.heard.items() if count})
    told: Context = {"found": judged.silent[:MOST_FOUND], "omitted": max(0, len(judged.silent) - MOST_FOUND)}
    told |= {"heard": heard, "minutes": HEARD_MINUTES}
    if judged.silent:
        names = {"index": "kind"}
        counts = Counter(names.get(each.what, each.what) for each in judged.silent)
        verb = "is" if len(judged.silent) == 1 else "are"
        return told | {"state": "bad", "said": f"{_counted(counts)} {verb} silent."}
    return told | (
        {"state": "good", "said": "No source is silent."} if heard else {"state": "", "said": "No source yet."}
    )


def _counted(counts: Mapping[str, int]) -> str:
    """Write counts by name: 4 models, 1 service and 8 kinds."""
    told = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
    return " and ".join(", ".join(told).rsplit(", ", 1))


def _missing(status: Status) -> Context:
    found = troubles(status)
    if found:
        return {"state": "bad", "said": "Something needs attention.", "more": found}
    if not status["books"]["received"]:
        return {"state": "", "said": "Nothing came in yet.", "more": []}
    return {"state": "good", "said": "Nothing is missing.", "more": []}


def _rates(lines: Mapping[str, Sequence[float]], begin: int, secs: int) -> Context:
    """Return the chart of events per second: of each index those of stretches of ``secs``, the first at ``begin``."""
    names = sorted((name for name, line in lines.items() if any(line)), key=lambda name: -sum(lines[name]))
    series = [
        {"name": name, "values": [round(count / secs, 3) for count in lines[name]]} for name in names[:MOST_KINDS]
    ]
    points = max(map(len, lines.values()), default=0)
    labels = [(begin + at * secs) * 1000 for at in range(points)]
    return {"type": "stack", "time": True, "labels": labels, "series": series, "unit": "/s"}
