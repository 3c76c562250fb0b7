"""The pages Training and Data quality in a real browser."""

import time
from typing import Any

from playwright.sync_api import expect

from tests.browser.conftest import Views, send
from tests.browser.view import Size
from tests.gateway_process import Gateway


def runs() -> list[dict[str, Any]]:
    """Return three pipeline runs of the last minutes, of which the second fails; and a training job of five epochs."""
    began = time.time() - 600
    events: list[dict[str, Any]] = []
    for number in range(3):
        steps = ["mlflow_run_start", "scaling_start", "scaling_success", "model_evaluation_start"]
        steps += ["model_evaluation_error"] if number == 1 else ["model_evaluation_success", "mlflow_run_end"]
        for place, name in enumerate(steps):
            details: dict[str, Any] = {"run_id": f"run-{number}"}
            if name == "model_evaluation_success":
                details |= {"rmse": 0.5 - number / 10, "r2": 0.9}
            if name == "model_evaluation_error":
                details["error"] = "no such column: amount"
            events.append({"timestamp": began + 100 * number + 10 * place, "event_type": name, "details": details})
    for epoch in range(1, 6):
        metrics = {"loss": 1 / epoch, "val_loss": 1.1 / epoch}
        event = {"type": "model_training", "model_name": "churn", "run_id": "job", "epoch": epoch, "metrics": metrics}
        events.append({"timestamp": began + 400 + epoch, **event})
    return events


def test_from_all_runs_to_what_went_wrong_in_one(running: Gateway, view: Views, size: Size) -> None:
    """A lane leads to its run, step by step; an error opens to the whole event; the metric stays in the address."""
    send(running, *runs())
    seen = view(running.url, size)
    seen.open("/training")
    page = seen.page
    assert seen.overflow() is None
    assert seen.layout_shift() < 0.05
    figures = page.locator(".figure")
    expect(figures.filter(has_text="Runs").locator("dd").first).to_have_text("4")
    expect(figures.filter(has_text="Failed").locator("dd").first).to_have_text("1")
    lanes = page.locator(".lanes li:not(.axis)")
    expect(lanes).to_have_count(3)
    assert lanes.locator("rect.error").count() == 1
    assert page.locator("canvas").count() == 2

    page.get_by_role("combobox", name="Metric").select_option("loss")
    page.wait_for_url("**/training?metric=loss")
    seen.filled()
    page.locator("main details summary").click()
    expect(page.locator("details pre")).to_contain_text('"event_category": "model_evaluation_error"')

    lanes.get_by_role("link", name="run-1").click()
    page.wait_for_url("**/training?range=15m&run=run-1&metric=loss")
    seen.filled()
    expect(lanes.locator(".name")).to_have_text(["scaling", "model_evaluation"])
    expect(lanes.nth(1)).to_contain_text("failed after 10.0 s")
    assert page.get_by_role("combobox", name="Run", exact=True).input_value() == "run-1"
    assert seen.overflow() is None


def test_from_scores_to_a_column(running: Gateway, view: Views, size: Size) -> None:
    """A click on a column's score narrows the page to it."""
    now = time.time()
    checks = [
        {"dataset_name": name, "column": column, "check_name": "range", "score": score, "passed": score > 0.5,
         "drift_score": 0.1, "timestamp": now - place}
        for place, (name, column, score) in enumerate(
            [("payments", "amount", 0.9), ("payments", "country", 0.25), ("customers", "age", 1.0)]
        )
    ]  # fmt: skip
    send(running, *checks)
    seen = view(running.url, size)
    seen.open("/quality")
    page = seen.page
    assert seen.overflow() is None
    assert seen.layout_shift() < 0.05
    tiles = page.locator(".heat li")
    expect(tiles).to_have_count(3)
    expect(tiles.first).to_contain_text("0.900")
    assert page.locator("canvas").count() == 2
    tiles.get_by_role("link", name="country").click()
    page.wait_for_url("**/quality?range=15m&dataset=payments&column=country")
    seen.filled()
    expect(tiles).to_have_count(1)
    expect(tiles).to_contain_text("1 failed")
    assert seen.overflow() is None
