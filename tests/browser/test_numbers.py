"""What the pages say is what was sent, from either store: all of it counted here from the events."""

import json
import random
from datetime import UTC, datetime, timedelta
from itertools import chain
from statistics import fmean
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Views
from tests.browser.view import WAIT_MS, View
from tests.contract.stores import ASKED_LATE
from tests.gateway_process import Gateway

Event = dict[str, Any]
REFUSED = [*[b'{"model_name":"m","prediction_confidence":1.7}'] * 3, b"{broken", b"{broken", b'{"nothing":1}']
GROUPS, TWICE = 3, 7


@pytest.fixture(params=["embedded", pytest.param("elasticsearch", marks=ASKED_LATE)])
def stored(request: pytest.FixtureRequest) -> Gateway:
    """A gateway with one of the stores as its only sink."""
    env = {}
    if request.param == "elasticsearch":
        es = request.getfixturevalue("es")  # before the gateway, so that it goes after it
        env = {"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix}
    running: Gateway = request.getfixturevalue("gateway")(env=env)
    running.wait_until(lambda now: now["sinks"].get(request.param, {}).get("state") == "ok")
    return running


def events() -> dict[str, list[Event]]:
    """Return events of the last ten minutes by what they are, many without some of the fields."""
    chance = random.Random(11)
    now = datetime.now(UTC)

    def at() -> Event:
        return {"timestamp": (now - timedelta(seconds=chance.uniform(20, 600))).isoformat()}

    def sometimes(share: float, **fields: Any) -> Event:
        return fields if chance.random() < share else {}

    predictions = [
        {**at(), "event_id": f"p-{n}", "model_name": chance.choice(["fraud", "churn"]),
         "model_version": chance.choice(["1", "2"]), "environment": "production", "region": "eu",
         "prediction_class": chance.choice(["yes", "no"]), "cpu_usage": 40, "gpu_usage": 70, "memory_usage_mb": 900,
         **sometimes(0.8, prediction_confidence=chance.random()),
         **sometimes(0.7, true_label=chance.choice(["yes", "no"])),
         **sometimes(0.9, inference_time_ms=chance.lognormvariate(4, 1)), **sometimes(0.2, error_message="timed out")}
        for n in range(150)
    ]  # fmt: skip
    lines = [
        {**at(), "message": f"line {n % 4}", "level": chance.choice(["INFO", "WARNING", "ERROR", "CRITICAL"]),
         "service": "api", "endpoint": "/predict", "duration": chance.random(), **sometimes(0.1, error="out of luck")}
        for n in range(80)
    ]  # fmt: skip
    checks = [
        {**at(), "dataset_name": chance.choice(["payments", "customers"]), "column": chance.choice(["age", "amount"]),
         "check_name": "range", "score": chance.random(), "drift_score": chance.random(),
         **sometimes(0.8, passed=chance.random() < 0.6)}
        for _ in range(50)
    ]  # fmt: skip
    reports = [
        {**at(), "type": "model_training", "model_name": "fraud", "run_id": f"run-{run}", "epoch": epoch,
         "metrics": {"loss": 1 / epoch}}
        for run in range(3) for epoch in range(1, 5)
    ]  # fmt: skip
    steps = [
        {**at(), "event_type": f"{step}_success", "source": "mlflow_pipeline",
         "details": {"run_id": f"pipeline-{run}", "duration_ms": 900, "rmse": 0.4}}
        for run in range(2) for step in ("data_loading", "model_training")
    ]  # fmt: skip
    steps.append({**at(), "event_type": "scaling_error", "details": {"run_id": "pipeline-2", "error": "no room"}})
    return {"predictions": predictions, "lines": lines, "checks": checks, "reports": reports, "steps": steps}


def figure(seen: View, name: str) -> Locator:
    """Return the value of a figure of this name."""
    term = seen.page.locator("dt", has_text=name).filter(visible=True)
    return seen.page.locator(".figure", has=term).first.locator("dd").first


def share(value: float) -> str:
    """Return a share as it is written: 93.4 %."""
    return f"{100 * value:.1f} %"


def of(sent: list[Event], name: str) -> list[Any]:
    """Return the values of a field, where it is there."""
    return [each[name] for each in sent if name in each]


def test_numbers(stored: Gateway, view: Views) -> None:
    """Each page is filled, and its numbers are those of the events, of which some came twice and some were refused."""
    sent = events()
    good = [json.dumps(each).encode() for each in chain(*sent.values())]
    answer = stored.http.post("/v1/events", content=b"\n".join([*good, *good[:TWICE], *REFUSED])).json()
    assert (answer["accepted"], answer["rejected"]) == (len(good) + TWICE, len(REFUSED))
    # Elasticsearch finds what it has indexed a second later.
    stored.wait_until(lambda _: stored.http.get("/v1/search?limit=1").json()["total"] == len(good))
    seen = view(stored.url)
    page = seen.page

    def all_filled(path: str, *, but: int = 0) -> None:
        seen.open(path)
        assert page.locator("[data-panel]").count()
        expect(page.locator("main [role=alert], main .nothing")).to_have_count(but, timeout=WAIT_MS)

    predictions = sent["predictions"]
    labelled = [each["prediction_class"] == each["true_label"] for each in predictions if "true_label" in each]
    all_filled("/models", but=1)  # the confusion matrix is of one model
    expect(figure(seen, "Predictions")).to_have_text(str(len(predictions)))
    expect(figure(seen, "Labelled")).to_have_text(str(len(labelled)))
    expect(figure(seen, "Average latency")).to_have_text(f"{fmean(of(predictions, 'inference_time_ms')):.0f} ms")
    expect(figure(seen, "Errors")).to_have_text(share(len(of(predictions, "error_message")) / len(predictions)))
    expect(page.locator(".under.large")).to_have_text(share(fmean(labelled)))
    expect(page.locator(".gauge strong")).to_have_text(f"{fmean(of(predictions, 'prediction_confidence')):.3f}")
    all_filled("/models?model=fraud")
    fraud = sum(each["model_name"] == "fraud" for each in predictions)
    expect(figure(seen, "Predictions")).to_have_text(str(fraud))

    lines = sent["lines"]
    faulty = [each for each in lines if each["level"] in ("ERROR", "CRITICAL") or "error" in each]
    all_filled("/logs")
    expect(figure(seen, "Lines")).to_have_text(str(len(lines)))
    expect(figure(seen, "Errors")).to_have_text(str(len(faulty)))

    all_filled("/events")
    expect(page.locator("main")).to_contain_text(f"{len(good)} events")
    all_filled("/events?kind=ml-metrics&model=fraud&error=true")
    failed = [each for each in predictions if each["model_name"] == "fraud" and "error_message" in each]
    expect(page.locator("main tbody tr")).to_have_count(len(failed))

    all_filled("/quality")
    expect(figure(seen, "Checks")).to_have_text(str(len(sent["checks"])))
    expect(figure(seen, "Failed")).to_have_text(str(of(sent["checks"], "passed").count(False)))

    all_filled("/training")
    runs = {each["run_id"] for each in sent["reports"]} | {each["details"]["run_id"] for each in sent["steps"]}
    expect(figure(seen, "Runs")).to_have_text(str(len(runs)))
    expect(figure(seen, "Failed")).to_have_text("1")
    expect(figure(seen, "Pipeline events")).to_have_text(str(len(sent["steps"])))
    expect(figure(seen, "Training reports")).to_have_text(str(len(sent["reports"])))

    all_filled("/dead-letters")
    groups = page.locator("section", has=page.get_by_role("heading", name="Refused events")).locator("tbody tr")
    expect(groups).to_have_count(GROUPS)
    assert sorted(groups.locator("strong").all_inner_texts()) == ["1", "2", "3"]

    all_filled("/system")
    indices = page.locator("section", has=page.get_by_role("heading", name="Indices"))
    expect(indices).to_contain_text(f"{len(good)} documents")

    all_filled("/")  # the rates of the last minutes come after some seconds
    came = len(good) + TWICE + len(REFUSED)
    expect(page.locator(".books")).to_have_text(
        f"{came} in · {len(good) + TWICE} stored · {len(REFUSED)} refused · 0 missing"
    )
    kinds = page.locator("section", has=page.get_by_role("heading", name="Kinds of events")).locator("tbody tr")
    counts = [len(predictions), len(lines), len(sent["checks"]), len(sent["reports"]) + len(sent["steps"])]
    told = kinds.locator("td:last-child")
    expect(told).to_have_text([str(each) for each in sorted(counts, reverse=True)])
    stored.http.post("/v1/events", content=b'{"message":"one more"}')
    expect(page.locator(".books [data-live=received]")).to_have_text(str(came + 1), timeout=4000)
    expect(page.locator(".books [data-live=stored]")).to_have_text(str(len(good) + TWICE + 1))
    opened = page.locator("nav a").evaluate_all("all => all.map(each => each.getAttribute('href'))")
    assert sorted(opened) == ["/", "/dead-letters", "/events", "/logs", "/models", "/quality", "/system", "/training"]
