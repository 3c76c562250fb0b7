"""The page that lists events, from both stores: which it shows is worked out from those that were sent."""

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.console.asking import Asking
from gateway.console.pages import events as page
from tests.console.panels import SINCE, Panels
from tests.contract.stores import Subject

pytestmark = pytest.mark.anyio

ERRORS = ("request timed out", "CUDA out of memory")
EVIL = "<b>bold</b>"


def sent() -> list[dict[str, Any]]:
    """Return 120 predictions, one a second, every tenth of which failed, and an event of most other kinds."""
    predictions = [
        {"model_name": f"m{n % 3}", "model_version": str(n % 2), "prediction_class": f"c{n}", "request_id": f"r/{n}",
         "timestamp": SINCE + n, **({"error_message": ERRORS[n // 10 % 2]} if n % 10 == 9 else {})}
        for n in range(120)
    ]  # fmt: skip
    others = [
        {"type": "label", "request_id": "r/1", "true_label": "c1"},
        {"type": "operation", "operation": "deploy", "status": "complete"},
        {"type": "audit", "actor": EVIL, "action": "model.promote"},
        {"type": "lineage", "node_id": "n", "name": "features"},
        {"message": "a line of Greta", "level": "ERROR", "service": "api"},
    ]
    return predictions + [{"timestamp": SINCE + 1000 + n, **each} for n, each in enumerate(others)]


async def test_events_of_any_kind(subject_of: Subject) -> None:
    """Each filter leaves the events that fit it, newest first, a page after the other, each with its request."""
    of_it = page.page(Asking(lambda: subject_of.store), subject_of.prefix, ["ml-metrics", "ml-audit"])
    panels = Panels(of_it, subject_of.put, subject_of.prefix)
    events = sent()
    async with panels.http:
        await panels.send(*events)
        kinds = [row[1] for row in await panels.rows("events")]
        assert kinds == ["log", "lineage", "audit", "operation", "label", *["prediction"] * 45]
        for kind, who in {"ml-audit": EVIL, "ml-operations": "deploy", "ml-lineage": "features"}.items():
            assert [row[2] for row in await panels.rows("events", kind=kind)] == [who]
        assert [row[1] for row in await panels.rows("events", q="greta LINE")] == ["log"]

        asked = {"kind": "ml-metrics", "model": "m1"}
        found: list[list[str]] = []
        html = await panels.get("events", **asked)
        assert "40 events" in html
        for error in ERRORS:
            failed = [each for each in events if each.get("error_message") == error and each["model_name"] == "m1"]
            rows = await panels.rows("events", **asked, error="true", error_type=error_type(error))
            assert [row[4] for row in rows] == [each["request_id"] for each in reversed(failed)]
            assert all(error in row[3] for row in rows)
        options = re.findall(r'<option value="(.*?)"', html.partition('data-values="model"')[2])
        assert options == ["m0", "m1", "m2"]

        asked = {"kind": "ml-metrics"}
        while True:
            html = await panels.get("events", **asked)
            found += await panels.rows("events", **asked)
            older = re.search(r'href="([^"]*)" rel="next"', html)
            if older is None:
                break
            there = dict(parse_qsl(urlsplit(unescape(older[1])).query))
            asked = {name: there[name] for name in ("kind", "cursor")}
        assert [row[4] for row in found] == [f"r/{n}" for n in reversed(range(120))]
        assert 'href="/requests?id=r/0"' in html
        assert "No event fits these filters" in await panels.get("events", kind="ml-alerts")
        assert "&lt;b&gt;" in await panels.get("events", kind="ml-audit")


def error_type(message: str) -> str:
    return "timeout" if "timed out" in message else "out_of_memory"
