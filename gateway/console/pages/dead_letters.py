"""Dead letters: what was refused and why, with the field marked where it stood; sent again or dropped from here."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Any
from urllib.parse import urlencode

from gateway.console.dead_letters import Letters
from gateway.console.layout import Context, Page
from gateway.console.marking import marked
from gateway.console.view import View
from gateway.store.query import QueryError

FILTERS = ("reason", "source", "path", "rule", "tenant")
GROUPS = 100
LETTERS = 50
REASONS = {
    "json": "Not valid JSON",
    "schema": "Does not match its schema",
    "clock": "Timestamp out of range",
    "too_large": "Larger than the limit for one event",
    "cut": "Cut off: the connection ended within the event",
    "mapping": "Does not fit Elasticsearch's mapping",
    "sink": "Its index could not be written",
}


def page(letters: Letters) -> Page:
    """Return the page: groups, the letters of one, one letter."""

    async def groups(view: View) -> Context:
        found = await letters.find([*_chosen(view), ("limit", str(GROUPS))])
        rows = [
            {**each, "query": urlencode(_of_group(view, each)), "address": _address(view, each)}
            for each in found["groups"]
        ]
        choices = {name: sorted({each[name] for each in found["groups"]}) for name in ("path", "rule")}
        return {"found": found, "rows": rows, "reasons": REASONS, "chosen": bool(_chosen(view)), "choices": choices}

    async def newest(view: View) -> Context:
        before = [("before", view.filters["cursor"])] if view.filters["cursor"] else []
        found = await letters.find([*_chosen(view), ("each", "true"), ("limit", str(LETTERS)), *before])
        older = found["before"] and view.address("/dead-letters", cursor=str(found["before"]), letter=None)
        sources = sorted({each["source"] for each in found["letters"]})
        return {"letters": found["letters"], "older": older, "cursor": bool(before), "choices": {"source": sources}}

    async def letter(view: View) -> Context:
        wanted = view.filters["letter"]
        if not wanted.isascii() or not wanted.isdigit() or len(wanted) > 18:
            raise QueryError(f"{wanted[:20]!r} is not the id of a dead letter, which is a number.")
        found = await letters.show(int(wanted))
        if found is None:
            return {"letter": None, "line": None, "kept": 0, "reasons": REASONS}
        data = _bytes(found)
        line = await asyncio.to_thread(marked, data, found["path"])  # some megabytes take their time
        return {"letter": found, "line": line, "kept": len(data), "reasons": REASONS}

    return Page(
        "dead_letters",
        "/dead-letters",
        "Dead letters",
        filters=(*FILTERS, "cursor", "letter"),
        panels={"groups": groups, "newest": newest, "letter": letter},
        has_range=False,
        scripts=("dead_letters.js",),
        styles=("dead_letters.css",),
        facts={"reasons": REASONS},
    )


def _chosen(view: View) -> list[tuple[str, str]]:
    """Return what is looked at, as `/v1/dead-letters` takes it."""
    return [(name, view.filters[name]) for name in FILTERS if view.filters[name]]


def _of_group(view: View, group: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what chooses a group of what is looked at."""
    return list({**dict(_chosen(view)), **{name: group[name] for name in ("reason", "path", "rule")}}.items())


def _address(view: View, group: dict[str, Any]) -> str:
    return view.address("/dead-letters", **dict(_of_group(view, group)), cursor=None, letter=None)


def _bytes(letter: dict[str, Any]) -> bytes:
    if "data_base64" in letter:
        return b64decode(letter["data_base64"])
    return (letter["data"] or "").encode()
