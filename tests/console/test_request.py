"""A request's story: everything that any index has of it, in the order in which it happened."""

import random
from pathlib import Path
from typing import Any

import pytest

from gateway.console.pages import request
from gateway.console.view import view
from tests.console.stores import asking

pytestmark = pytest.mark.anyio
_INDICES = {"model_inference": "ml-metrics-2026.11.21", "label": "ml-labels-2026.11.21"}
ODD = "a/b \"c\" 'd' ü<script>&?#%2F..\\"


def story(wanted: str = ODD) -> dict[str, list[dict[str, Any]]]:
    """Return what the indices have of a request, and of another one."""
    day = "2026-11-21T"
    return {
        "ml-metrics-2026.11.21": [
            {"@timestamp": f"{day}10:00:00.250Z", "type": "model_inference", "model_name": "fraud",
             "model_version": "1.2", "prediction_class": 1, "prediction_confidence": 0.93, "confidence_level": "high",
             "inference_time_ms": 25, "latency_category": "fast", "request_id": wanted},
            {"@timestamp": f"{day}10:00:00Z", "type": "model_inference", "model_name": "m", "request_id": "other"},
        ],
        "ml-pipeline-2026.11.20": [
            {"@timestamp": "2026-11-20T23:59:59Z", "type": "log", "level": "ERROR", "service": "api",
             "message": "early", "request_id": wanted},
        ],
        "ml-pipeline-2026.11.21": [
            {"@timestamp": f"{day}10:00:00.2Z", "type": "log", "level": "INFO", "service": "api",
             "message": "<b>called</b>", "request_id": wanted},
        ],
        "ml-labels-2026.11.22": [
            {"@timestamp": "2026-11-22T10:00:00.250Z", "type": "label", "true_label": "0", "request_id": wanted},
        ],
        "ml-operations-2026.11.21": [
            {"@timestamp": f"{day}11:00:00Z", "type": "operation", "operation": "retrain", "status": "progress",
             "progress": 0.4, "request_id": wanted},
        ],
        "ml-sensors-2026.11.21": [
            {"@timestamp": f"{day}12:00:00Z", "type": "sensors", "temperature": 21.5, "request_id": wanted},
        ],
    }  # fmt: skip


async def test_a_story(tmp_path: Path) -> None:
    """Log line, prediction, operation and label stand in order, with the time between, told in words."""
    async with asking(tmp_path, story()) as ask:
        found = await request.page(ask, "").panels["story"](view([("id", ODD)], ["id"]))
    steps = found["steps"]
    assert found["total"] == len(steps) == 6
    assert [step["kind"] for step in steps] == [
        "log", "log", "prediction", "operation", "ml-sensors", "label",
    ]  # fmt: skip
    hour = 3_600_000.0
    assert [step["since_ms"] for step in steps] == [
        None, pytest.approx(10 * hour + 1200), pytest.approx(50), pytest.approx(hour - 250), pytest.approx(hour),
        pytest.approx(22 * hour + 250),
    ]  # fmt: skip
    assert found["secs"] == pytest.approx(34 * 3600 + 1.25)
    assert [" · ".join(part.text for part in step["parts"]) for step in steps] == [
        "api · ERROR · early",
        "api · INFO · <b>called</b>",
        "fraud 1.2 · 1 · 0.93 high · 25 ms fast",
        "retrain · progress · 40%",
        "temperature=21.5",
        "true label 0 · the prediction was wrong: 1",
    ]
    assert [step["state"] for step in steps] == ["bad", "", "good", "", "", "bad"]


@pytest.mark.parametrize(
    ("said", "truth", "right"),
    [(1, "1", True), ("true", True, True), (1, True, False), ("a", "b", False), (0.5, 0.5, True)],
)
def test_a_label_judges_as_the_gateway_does(said: object, truth: object, right: bool) -> None:
    """What counts as right is what `prediction_correct` says where the truth is known at once."""
    events: list[dict[str, Any]] = [
        {"type": "model_inference", "model_name": "m", "prediction_class": said},
        {"type": "model_inference", "model_name": "other", "prediction_class": "x"},
        {"type": "label", "model_name": "m", "true_label": truth},
        {"type": "label", "true_label": truth},  # of which of the two is not known
    ]
    hits = [
        {"_index": _INDICES[each["type"]], "_id": str(n), "_source": {"@timestamp": f"2026-11-21T10:00:0{n}Z", **each}}
        for n, each in enumerate(events)
    ]
    random.Random(1).shuffle(hits)
    steps = request.told(hits, "")
    assert [step["state"] for step in steps[2:]] == ["good" if right else "bad", ""]


async def test_no_story(tmp_path: Path) -> None:
    """An id that nothing has, and none at all, tell so."""
    async with asking(tmp_path, story()) as ask:
        panel = request.page(ask, "").panels["story"]
        assert (await panel(view([("id", "a/b")], ["id"])))["steps"] == []
        assert (await panel(view([], ["id"])))["steps"] == []
