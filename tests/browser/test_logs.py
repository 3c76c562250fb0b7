"""Log lines and a request's story in a real browser."""

import json
from datetime import UTC, datetime, timedelta

from playwright.sync_api import expect

from tests.browser.conftest import Views, send
from tests.browser.view import Size
from tests.gateway_process import Gateway

ODD = 'a/b "c" ü<b id=injected>&?#%2F\\'
MARKUP = "<b id=injected>bold</b>"


def test_from_a_line_to_its_request(running: Gateway, view: Views, size: Size) -> None:
    """An error leads to its lines, a line to all of it and to its request; a request leads back."""
    now = datetime.now(UTC) - timedelta(minutes=5)
    when = [(now + timedelta(seconds=n)).isoformat() for n in range(3)]
    send(
        running,
        {"timestamp": when[0], "model_name": "fraud", "prediction_class": 1, "request_id": ODD},
        *({"timestamp": when[1], "level": "ERROR", "service": "api", "message": f"{MARKUP} failed", "endpoint": "/e",
           "duration": 0.2, "request_id": ODD, "attempt": n} for n in range(3)),
        *({"timestamp": when[1], "level": "INFO", "service": "api", "message": f"line {n}"} for n in range(60)),
        {"timestamp": when[2], "type": "label", "true_label": 0, "request_id": ODD},
    )  # fmt: skip
    seen = view(running.url, size)
    page = seen.page
    seen.open("/logs?range=15m")
    figures = page.locator(".figure dd:first-of-type").all_inner_texts()
    assert figures == ["63", "3", "95.24 %", "200 ms"]
    page.get_by_role("link", name="Older lines").click()
    seen.filled()
    expect(page.locator("[data-panel*=lines] details")).to_have_count(13)
    page.get_by_role("link", name="Newest").click()
    seen.filled()
    page.locator("[data-panel*=errors]").get_by_role("link", name="failed").click()
    seen.filled()
    assert "range=15m" in page.url
    lines = page.locator("[data-panel*=lines] details")
    expect(lines).to_have_count(3)
    lines.first.locator("time").click()
    assert json.loads(lines.first.locator("pre").inner_text())["message"] == f"{MARKUP} failed"
    assert seen.overflow() is None
    lines.first.get_by_role("link").click()
    seen.filled()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Request {ODD}")
    assert page.locator(".line .tag").all_inner_texts() == ["prediction", *["log"] * 3, "label"]
    expect(page.locator(".line").last).to_contain_text("+ 1.0 s label true label 0 · the prediction was wrong: 1")
    assert seen.overflow() is None
    seen.open("/requests/no/such")
    expect(page.locator("main")).to_contain_text("Nothing that is stored has the request id no/such.")
    page.get_by_role("link", name="Logs").last.click()
    seen.filled()
    page.get_by_label("Request id").fill(ODD)
    page.keyboard.press("Enter")
    expect(page.locator(".line")).to_have_count(5)
    assert page.locator("#injected").count() == 0


def test_new_lines_are_followed(running: Gateway, view: Views, size: Size) -> None:
    """Lines that fit the filters come in at the top, wait while it is paused, and the newest 200 are kept."""
    seen = view(running.url, size)
    page = seen.page
    seen.open("/logs?level=ERROR")
    page.get_by_role("button", name="Follow new lines").click()
    state, lines = page.locator("#tail-state"), page.locator("#tail-lines details")
    expect(state).to_have_text("0 lines came.")
    for n in range(2):
        send(
            running,
            {"level": "INFO", "message": "not this"},
            {"level": "ERROR", "message": f"{MARKUP} {n}", "n": 2**60},
        )
    expect(lines).to_have_count(2)
    expect(lines.first).to_contain_text(f"ERROR {MARKUP} 1")
    lines.first.locator("time").click()
    expect(lines.first.locator("pre")).to_contain_text(f'"n":{2**60}')  # no digit is lost
    page.get_by_role("button", name="Pause").click()
    send(running, *({"level": "ERROR", "message": f"many {n}"} for n in range(210)))
    expect(state).to_have_text("212 lines came; paused, the newest 200 wait; the newest 200 are kept.")
    expect(lines).to_have_count(2)
    page.get_by_role("button", name="Go on").click()
    expect(lines).to_have_count(200)
    expect(lines.first).to_contain_text("many 209")
    assert seen.overflow() is None
    page.get_by_role("button", name="Stop").click()
    send(running, {"level": "ERROR", "message": "later"})
    page.wait_for_timeout(300)
    expect(lines.first).to_contain_text("many 209")
    assert page.locator("#injected").count() == 0
