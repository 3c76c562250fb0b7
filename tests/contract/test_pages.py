"""Both stores fill the pages Training and Data quality alike."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from gateway.console.asking import Asking
from gateway.console.layout import Page
from gateway.console.pages import quality, training
from tests.console.panels import Panels
from tests.console.test_quality import some
from tests.console.test_training import event, report
from tests.contract.stores import Subject

pytestmark = [pytest.mark.anyio, pytest.mark.elasticsearch]

RUNS = [
    event(10, "mlflow_run_start", "a", model_name="churn"),
    event(20, "scaling_start", "a"),
    event(30.5, "scaling_error", "a", error="no such table"),
    event(40, "mlflow_run_end", "a"),
    event(50, "mlflow_run_start"),
    event(60, "model_evaluation_success", rmse=0.4, duration_ms=1250),
    event(70, "mlflow_run_end"),
    *(
        report(100 + epoch, run_id="b", model_name="fraud", epoch=epoch, metrics={"loss": 1 / epoch})
        for epoch in (1, 2)
    ),
    report(200, run_id=17, status="failed", error_message="diverged"),
    {**event(210, "scaling_start"), "details": {"run_id": 17}},
]


@pytest.mark.parametrize(
    ("page", "events", "chosen"),
    [
        (training.page, RUNS, [{}, {"run": "a"}, {"run": "17"}, {"model": "fraud"}, {"metric": "loss"}]),
        (quality.page, some(200), [{}, {"dataset": "payments"}, {"column": "amount", "check": "range"}]),
    ],
)
async def test_panels_of_both_stores_are_the_same(
    embedded_subject: Subject,
    elasticsearch_subject: Subject,
    page: Callable[[Asking, str], Page],
    events: list[dict[str, Any]],
    chosen: list[dict[str, str]],
) -> None:
    """Whichever store is asked, the page says the same."""
    both = []
    for subject in (embedded_subject, elasticsearch_subject):
        found = page(Asking(lambda store=subject.store: store), subject.prefix)  # type: ignore[misc]
        panels = Panels(found, subject.put, subject.prefix)
        async with panels.http:
            await panels.send(*events)
            shown = {
                (panel, *asked.items()): await panels.get(panel, **asked) for asked in chosen for panel in found.panels
            }
        both.append({key: _comparable(text.replace(subject.prefix, "")) for key, text in shown.items()})
    assert both[0] == both[1]
    assert all("<" in text for text in both[0].values())


def _comparable(text: str) -> str:
    """Leave out ids, and the last digits of floats: they differ with the order in which they are added up."""
    text = re.sub(r'id="error-[^"]*"|_id&#34;: &#34;[^&]*&', "", text)
    return re.sub(r"\d+\.\d{6,}", lambda number: f"{float(number[0]):.6f}", text)
