"""Dead letters in a real browser: looked at, tried, sent again, dropped."""

import json
import re

from playwright.sync_api import Dialog, Route, expect

from tests.browser.chromium import ELSEWHERE
from tests.browser.conftest import Views
from tests.browser.view import Size
from tests.gateway_process import Gateway, GatewayFactory

WRONG = b'{"model_name":"m","note":"\\"prediction_confidence\\":","prediction_confidence":1.7,"x":"<b id=injected>"}'
OLD = b'{"model_name":"m","timestamp":"2001-01-01T00:00:00Z"}'


def refuse(running: Gateway, *lines: bytes) -> None:
    assert running.http.post("/v1/events", content=b"\n".join(lines)).json()["rejected"] == len(lines)


def test_letters_are_looked_at_and_dropped(running: Gateway, view: Views, size: Size) -> None:
    """A group leads to its letters, one of them shows the field where it was; dropped, it is gone from the list."""
    refuse(running, *[WRONG] * 3, *[OLD] * 2, b'{"model_name":"\xff"')
    seen = view(running.url, size)
    page = seen.page
    asked: list[str] = []

    def confirm(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept() if len(asked) > 1 else dialog.dismiss()

    page.on("dialog", confirm)
    seen.open("/dead-letters")
    groups = page.locator("[data-panel*=groups] tbody tr")
    assert groups.locator("strong").all_inner_texts() == ["3", "2", "1"]
    group = groups.first
    group.get_by_role("link", name="Does not match its schema").click()
    seen.filled()
    expect(groups).to_have_count(1)
    letters = page.locator("[data-panel*=newest] tbody tr")
    expect(letters).to_have_count(3)
    letters.first.get_by_role("link").click()
    seen.filled()
    expect(page.locator(".original")).to_have_text(WRONG.decode())
    expect(page.locator(".original mark")).to_have_text("1.7")
    assert seen.overflow() is None
    letter = page.locator("[data-panel*='dead_letters/letter']")
    answer = page.locator("#answer")
    letter.get_by_role("button", name="Dry run").click()
    expect(answer).to_contain_text("0 events would pass now, 1 would stay.")
    expect(answer).to_contain_text("1 event: $.prediction_confidence: Input should be less than or equal to 1")
    assert asked == []
    letter.get_by_role("button", name="Drop").click()
    assert len(asked) == 1 and re.fullmatch(r"Drop 1 event for good \(dead letter \d+\)\? They .*", asked[0])
    expect(letters).to_have_count(3)  # it was not meant
    letter.get_by_role("button", name="Drop").click()
    expect(answer).to_contain_text("1 dead letter was dropped.")
    expect(letters).to_have_count(2)
    expect(letter).to_contain_text("There is no dead letter of this number any more")
    assert page.locator("#injected").count() == 0
    assert seen.overflow() is None
    assert running.status()["books"]["dead_letters"] == 5


def test_what_is_mended_is_sent_again(gateway: GatewayFactory, view: Views) -> None:
    """Once the setting is changed a group passes, is stored, and what would be here is told."""
    running = gateway()
    refuse(running, *[OLD] * 2)
    running.stop()
    running = gateway(data_dir=running.data_dir, env={"GATEWAY_STORE__RETENTION_DAYS": "100000",
                                                      "GATEWAY_EVENTS__MAX_AGE_DAYS": "100000"})  # fmt: skip
    running.wait_until(lambda now: now["sinks"]["embedded"]["state"] == "ok")
    seen = view(running.url)
    page = seen.page
    page.on("dialog", lambda dialog: dialog.accept())
    seen.open("/dead-letters?reason=clock")
    page.get_by_role("button", name="Dry run").click()
    expect(page.locator("#answer")).to_contain_text("2 events would pass now, 0 would stay.")
    page.get_by_role("button", name="Replay").click()
    expect(page.locator("#answer")).to_contain_text("2 events were replayed, 0 stay.")
    expect(page.locator("[data-panel*=groups]")).to_contain_text("No dead letter is like that.")
    seen.open("/dead-letters")
    expect(page.locator("main")).to_contain_text("Nothing was refused.")
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 2)


def test_a_refusal_is_told(gateway: GatewayFactory, view: Views) -> None:
    """Without a key, while another one is at work, and without an answer the page says so in words."""
    running = gateway(env={"GATEWAY_HTTP__HOST": "0.0.0.0"})
    running.wait_until(lambda now: now["sinks"]["embedded"]["state"] == "ok")
    refuse(running, OLD)
    seen = view(running.url.replace("127.0.0.1", ELSEWHERE), expected={403, 429})
    page = seen.page
    page.on("dialog", lambda dialog: dialog.accept())
    seen.open("/dead-letters")
    answer = page.locator("#answer")
    page.get_by_role("button", name="Replay").click()
    expect(answer).to_contain_text("A key is needed. Beyond loopback only events are taken without a key")
    told = json.dumps({"error": "Dead letters are being replayed or dropped: ask again when that is done."})

    def busy(route: Route) -> None:
        route.fulfill(status=429, content_type="application/json", body=told)

    page.route("**/v1/dead-letters?*", busy)
    page.get_by_role("button", name="Drop").click()
    expect(answer).to_contain_text("Not now. Dead letters are being replayed or dropped")
    assert running.status()["books"]["dead_letters"] == 1
