"""The first page: is anything missing, is any model getting worse, is any source silent?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.console.asking import Asking
from gateway.console.layout import Context, Page
from gateway.console.view import View
from gateway.store.query import Query

Status = dict[str, Any]
LATEST = 12


def page(status: Callable[[], Status], asking: Asking) -> Page:
    """Return the page; ``status`` gives what `/status` says."""

    async def answers(_: View) -> Context:
        now = status()
        return {"status": now, "troubles": troubles(now), "stored": stored(now)}

    async def flow(_: View) -> Context:
        now = status()
        return {"status": now, "stored": stored(now)}

    async def latest(_: View) -> Context:
        hits = await asking.search(Query(limit=LATEST))
        return {"hits": hits.hits}

    return Page(
        "overview", "/", "Overview", panels={"answers": answers, "flow": flow, "latest": latest}, has_range=False
    )


def live(status: Callable[[], Status]) -> Callable[[], dict[str, Any]]:
    """Return what tells all pages how things stand now."""

    def now() -> dict[str, Any]:
        found = status()
        books = found["books"]
        return {
            "troubles": troubles(found),
            "received": books["received"],
            "stored": stored(found),
            "refused": books["refused"],
            "waiting": waiting(found),
            "missing": abs(books["difference"]),
        }

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
        if sink["damaged"]:
            found.append(f"{sink['damaged']:,} events could not be read from a damaged spool ({name}).")
    return found
