"""The page of the models in a real browser."""

import csv
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.browser.conftest import Views
from tests.browser.view import DESKTOP, Size
from tests.gateway_process import Gateway

# Model, version, how many, milliseconds: the larger the number of the model the slower.
PARTS = [("first", "1", 30, 20), ("first", "2", 10, 40), ("second", "1", 25, 300), ("third", "1", 5, 1500)]


def events() -> list[dict[str, Any]]:
    """Return predictions of the last minutes; every fifth is wrong, every tenth an error."""
    now = datetime.now(UTC)
    return [
        {
            "timestamp": (now - timedelta(seconds=20 * n + 5)).isoformat(),
            "model_name": model, "model_version": version, "environment": "production",
            "prediction_class": "yes", "true_label": "no" if n % 5 == 4 else "yes",
            "inference_time_ms": ms, "prediction_confidence": 0.75, "cpu_usage": 50,
            **({"error_message": "request timed out"} if n % 10 == 9 else {}),
        }
        for model, version, many, ms in PARTS for n in range(many)
    ]  # fmt: skip


def test_from_all_models_to_one(running: Gateway, view: Views, size: Size) -> None:
    """The table is sorted by a click and comes as a file, a name in it narrows the page, errors tell their message."""
    sent = events()
    running.http.post("/v1/events", content=b"\n".join(json.dumps(each).encode() for each in sent))
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == len(sent))
    seen = view(running.url, size)
    seen.open("/models")
    page = seen.page
    assert seen.overflow() is None
    assert seen.layout_shift() < 0.05

    table = page.locator("section", has=page.get_by_role("heading", name="Performance"))
    rows = table.locator("tbody tr")
    if size == DESKTOP:  # on a phone rows are paragraphs, without heads
        latency = table.get_by_role("button", name="Average latency")
        latency.click()
        expect(rows.first).to_contain_text("third")
        latency.click()
        expect(rows.first).to_contain_text("20 ms")

    with page.expect_download() as downloading:
        table.get_by_role("link", name="Download as CSV").click()
    with Path(downloading.value.path()).open(encoding="utf-8", newline="") as file:
        told = {(row["model"], row["version"]): int(row["predictions"]) for row in csv.DictReader(file)}
    assert told == {(model, version): many for model, version, many, _ in PARTS}

    rows.filter(has_text="second").get_by_role("link", name="second").click()
    seen.filled()
    of_it = [each for each in sent if each["model_name"] == "second"]
    figures = page.locator(".figure")
    expect(figures.filter(has_text="Predictions").locator("dd").first).to_have_text(str(len(of_it)))
    expect(figures.filter(has_text="P95 latency").locator("dd").first).to_have_text("300 ms")
    expect(rows).to_have_count(1)
    assert page.get_by_role("combobox", name="Model").input_value() == "second"
    pairs = Counter(each["true_label"] for each in of_it)
    cells = page.locator(".matrix tbody tr").filter(has=page.get_by_role("rowheader", name="yes")).locator("td")
    expect(cells).to_have_text([str(pairs["no"]), str(pairs["yes"]), "80.0 %"])
    errors = page.locator("section", has=page.get_by_role("heading", name="Errors by type"))
    errors.locator("summary").click()
    expect(errors.locator("details li").first).to_contain_text("request timed out")
    assert seen.overflow() is None
    assert page.locator("canvas").count() >= 7
    failed = sum("error_message" in each for each in of_it)
    errors.get_by_role("link", name="timeout").click()
    seen.filled()
    listed = page.locator("section", has=page.get_by_role("heading", name="Events"))
    expect(listed.locator("tbody tr").filter(has_text="request timed out")).to_have_count(failed)
    expect(listed.get_by_text(f"{failed} events")).to_be_visible()
    assert seen.overflow() is None
    page.go_back()
    seen.filled()

    page.get_by_role("combobox", name="Model").select_option("first")
    page.wait_for_url("**/models?range=15m&model=first")
    seen.filled()
    page.get_by_role("combobox", name="Version").select_option("2")
    page.wait_for_url("**/models?range=15m&model=first&version=2")
    seen.filled()
    expect(figures.filter(has_text="Predictions").locator("dd").first).to_have_text("10")
    assert seen.overflow() is None
