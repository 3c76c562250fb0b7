"""What holds for every page of the console: those that its navigation names, whichever they are."""

import json
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Route, expect

from tests.browser.conftest import Views
from tests.browser.view import PHONE, Size, View
from tests.gateway_process import Gateway

MARKUP = "<b id=injected>bold</b>"
EVENTS = [
    {"model_name": MARKUP, "model_version": MARKUP, "environment": MARKUP, "region": MARKUP, "error_message": MARKUP,
     "request_id": MARKUP, "prediction_confidence": 0.9, "inference_time_ms": 5, "prediction_class": MARKUP,
     "true_label": MARKUP},
    {"message": MARKUP, "level": MARKUP, "service": MARKUP, "logger": MARKUP, "endpoint": MARKUP, "error": MARKUP},
    {"dataset_name": MARKUP, "check_name": MARKUP, "column": MARKUP, "score": 0.1, "passed": False},
    {"event_type": MARKUP, "details": {"error": MARKUP}, "source": "mlflow_pipeline"},
    {"type": "model_training", "model_name": MARKUP, "run_id": MARKUP, "metrics": {MARKUP: 0.1}, "status": MARKUP},
    {"type": "operation", "operation": MARKUP, "operation_id": MARKUP},
    {"type": "audit", "actor": MARKUP, "action": MARKUP},
]  # fmt: skip
REFUSED = {"model_name": MARKUP, "prediction_confidence": MARKUP}


def pages(seen: View) -> list[str]:
    """Return the paths of the pages that the navigation leads to."""
    seen.open()
    found: list[str] = seen.page.locator("nav a").evaluate_all("all => all.map(each => each.getAttribute('href'))")
    assert found[0] == "/" and len(found) > 1
    return found


def send_markup(running: Gateway) -> None:
    lines = [json.dumps(event).encode() for event in [*EVENTS, REFUSED]]
    assert running.http.post("/v1/events", content=b"\n".join(lines)).json()["accepted"] == len(EVENTS)
    running.wait_until(
        lambda now: now["books"]["sinks"]["embedded"]["waiting"] == 0 and now["books"]["dead_letters"] == 1
    )


def test_pages_without_events(running: Gateway, view: Views, size: Size) -> None:
    """Nothing is wider than the window and nothing moves while the page fills itself."""
    seen = view(running.url, size)
    for path in pages(seen):
        seen.open(path)
        assert seen.overflow() is None, path
        assert seen.layout_shift() < 0.05, path
        assert seen.first_paint_ms() < 1000, path


def test_pages_with_events(running: Gateway, view: Views, size: Size) -> None:
    """The same with events, whose text stays text, on every page that the navigation leads to by a click."""
    send_markup(running)
    seen = view(running.url, size, scheme="dark" if size == PHONE else "light")
    for place, path in enumerate(pages(seen)):
        seen.page.locator("nav a").nth(place).click()
        seen.filled()
        assert seen.page.url == running.url + path
        assert seen.page.locator("nav a[aria-current]").count() == 1
        assert seen.overflow() is None, path
        assert seen.layout_shift() < 0.05, path
        assert seen.page.locator("#injected").count() == 0, path


def test_pages_by_keyboard(running: Gateway, view: Views, size: Size) -> None:
    """Tab goes through all that can be used, beginning with the way past the navigation, and is seen everywhere."""
    seen = view(running.url, size)
    for path in pages(seen):
        seen.open(path)
        assert (seen.tab() or {})["text"] == "Skip to the content"
        reached: list[str] = []
        while (focused := seen.tab()) is not None and len(reached) < 500:
            reached.append(focused["text"])
        links = seen.page.locator("header a, nav a, footer a").all_inner_texts()
        assert set(links) <= set(reached), path
        assert len(reached) < 500


def test_a_time_range_that_is_typed(running: Gateway, view: Views, size: Size) -> None:
    """From and to are of the reader's zone, stand in the address in UTC, and keep the filters."""
    seen = view(running.url, size, zone="Asia/Kathmandu")  # 5 h 45 min ahead, all the year
    seen.open("/logs?q=word")
    page = seen.page
    page.get_by_text("From … to").click()
    page.get_by_label("From", exact=True).fill("2026-11-20T10:00")
    page.get_by_label("To", exact=True).fill("2026-11-21T09:30")
    assert seen.overflow() is None
    page.get_by_role("button", name="Show", exact=True).click()
    seen.filled()
    there = parse_qs(urlsplit(page.url).query)
    assert there == {"q": ["word"], "from": ["2026-11-20T04:15:00.000Z"], "to": ["2026-11-21T03:45:00.000Z"]}
    assert page.get_by_label("From", exact=True).input_value() == "2026-11-20T10:00"
    assert page.get_by_label("To", exact=True).input_value() == "2026-11-21T09:30"
    page.get_by_label("Words").fill("other")
    page.keyboard.press("Enter")
    seen.filled()
    assert parse_qs(urlsplit(page.url).query) == there | {"q": ["other"]}
    page.get_by_role("link", name="6h").click()
    seen.filled()
    assert parse_qs(urlsplit(page.url).query) == {"q": ["other"], "range": ["6h"]}


def test_what_is_live_comes_back(running: Gateway, view: Views) -> None:
    """After an answer that ends a stream for good it is asked for again; a page gone back to has one stream, too."""
    seen = view(running.url, expected=[503])
    asked = []

    def refuse_first(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(status=503, body="The gateway is stopping.")
        else:
            route.continue_()

    seen.page.clock.install()
    seen.page.route("**/console/live", refuse_first)
    seen.page.goto(running.url)
    expect(seen.page.locator("#health")).to_have_text("The gateway does not answer")
    seen.page.clock.fast_forward(11_000)
    expect(seen.page.locator("#health")).to_have_text("All is well")
    for times in range(1, 4):
        seen.page.evaluate(
            "for (const name of ['pagehide', 'pageshow'])"
            " dispatchEvent(new PageTransitionEvent(name, {persisted: true}))"
        )
        seen.page.wait_for_timeout(200)
        assert len(asked) == 2 + times


def test_what_was_changed_is_shown_though_an_older_answer_comes_late(running: Gateway, view: Views) -> None:
    """An answer from before a change, that is slow to come, does not take its place."""
    seen = view(running.url)
    held: list[Route] = []
    seen.page.route("**/console/overview/kinds*", lambda route: held.append(route))
    with seen.page.expect_request("**/console/overview/kinds*"):
        seen.page.goto(running.url)
    with seen.page.expect_request("**/console/overview/kinds*"):
        seen.page.evaluate("document.dispatchEvent(new Event('stale'))")
    seen.page.wait_for_timeout(200)
    for route, text in zip(reversed(held), ("after", "before"), strict=True):
        route.fulfill(content_type="text/html", headers={"server-timing": "panel;dur=1"}, body=f"<p>{text}</p>")
        seen.page.wait_for_timeout(200)
    expect(seen.page.locator("[data-panel*=kinds]")).to_have_text("after")
