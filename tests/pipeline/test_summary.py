"""What a record tells of its events in figures is what its documents tell."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pipeline.block import Block
from gateway.pipeline.configured import make_digest
from gateway.pipeline.digest import Digest
from gateway.settings import Settings
from gateway.settings.monitoring import Monitoring
from gateway.spool.record import Draft
from gateway.summary import Model, Summary, summary_of
from gateway.summary.figures import MAX_CLASSES
from schemas import BUILT_IN
from tests.pipeline.blocks import draft_of, new_block
from tests.pipeline.test_any_event import CORPUS, LINES, REGISTRY
from tests.pipeline.test_decoder import DIGESTS, ORDINARY, SPELLED, TAUGHT, TWICE, WITH_MORE, both, spelled


def of_documents(draft: Draft) -> Summary:
    """Return the figures of a draft's documents, as a sink makes them."""
    return summary_of(
        [
            (str(REGISTRY.split(group.index)[1]), bytes(group.data).split(b"\n")[1::2])
            for group in draft.documents
        ],
        "s",
    )  # fmt: skip


def figures(summary: Summary, *, of_one_day: bool) -> Any:
    """Return what both must be alike in: of several days events come in another order."""
    models: dict[Any, Any] = {}
    for key, model in summary.models.items():
        counted = (model.predictions, model.errors, model.outcomes, sorted(model.classes))
        histograms = {"confidence": model.confidence, "duration": model.duration_ms, **model.stages}
        values = {name: (each.counts, pytest.approx(each.sum)) for name, each in histograms.items() if each.counts}
        if any((*counted, values, model.usage)):
            models[key] = counted, values, model.usage if of_one_day else model.usage.keys()
    endpoints = {key: (each.counts, pytest.approx(each.sum)) for key, each in summary.endpoints.items()}
    return summary.indices, models, endpoints, summary.users


def check(block: Block, digests: tuple[Digest, ...]) -> None:
    """The figures of a block are those of its documents, whichever way each event went."""
    for digest in digests:
        draft, _ = draft_of(block, digest)
        counted, told = Summary.decode(draft.summary), of_documents(draft)
        of_one_day = len({group.index[-10:] for group in draft.documents}) <= 1
        assert figures(counted, of_one_day=of_one_day) == figures(told, of_one_day=of_one_day)
        refused = sum(model.refused for model in counted.models.values())
        assert refused == sum(_names_a_model(letter.data) for letter in draft.dead_letters if letter.reason == "schema")
        counted.minus(told)
        for model in counted.models.values():
            left = model.predictions, model.errors, model.outcomes, model.confidence.count, model.duration_ms.sum
            assert left == (0, {}, {}, 0, 0)


def _names_a_model(data: bytes) -> bool:
    event = json.loads(data.removeprefix(b"\xef\xbb\xbf"))
    return type(event.get("model_name")) is str


def test_the_corpus() -> None:
    """Each input of the corpus alone and all of them together."""
    for digests in DIGESTS:
        for fields in ({}, {"tenant": "blue"}, {"kind": "label"}):
            check(new_block(*CORPUS, **fields), digests)
            for line in CORPUS:
                check(new_block(line, **fields), digests)


def test_ordinary_events() -> None:
    """Events of every kind, with names that were learned and without."""
    events = [event for each in ORDINARY.values() for event in each] + WITH_MORE
    lines = [line for event in events for line in spelled(event)]
    taught = both()
    check(new_block(*TAUGHT), taught)
    check(new_block(*lines, *lines), taught)


def any_event(lines: list[bytes], which: int) -> None:
    check(new_block(*lines), DIGESTS[which])


ARGUMENTS: dict[str, Any] = {
    "lines": st.lists(SPELLED | TWICE | LINES, min_size=1, max_size=8),
    "which": st.integers(0, 1),
}
test_any_event: Callable[[], None] = settings(max_examples=60, deadline=None)(given(**ARGUMENTS)(any_event))


def test_figures_are_those_counted_one_by_one() -> None:
    """Of 5,000 predictions in one block, and of requests, as somebody counts who only knows the events."""
    draw = Random(7)
    predictions: list[dict[str, Any]] = []
    for number in range(5000):
        event: dict[str, Any] = {
            "model_name": draw.choice(["fraud", "churn"]),
            "model_version": draw.choice(["1", "2", None]),
            "prediction_class": draw.choice(["yes", "no", True, 1, None]),
            "true_label": draw.choice(["yes", "no", "1", None]),
            "prediction_confidence": draw.choice([None, round(draw.random(), 3), 0.85]),
            "inference_time_ms": draw.choice([round(draw.random() * 100, 1), 25, 5]),
            "user_id": f"u{draw.randrange(300)}",
            "cpu_usage": number % 100,
        }
        if number % 50 == 0:
            event["error_message"] = "it timed out"
        if number % 60 == 0:
            event["feature_processing_ms"] = 2
        predictions.append({name: value for name, value in event.items() if value is not None or number % 2})
    logs = [{"message": "m", "service": "api", "endpoint": "/p", "duration": 0.003}] * 10
    for digest in both():
        summary = Summary.decode(draft_of(new_block(*predictions, *logs), digest)[0].summary)
        assert summary.indices == {"ml-metrics": 5000, "ml-pipeline": 10}
        assert summary.endpoints["api", "/p"].sum == pytest.approx(30)
        assert len(summary.users) == 300
        for key, model in summary.models.items():
            mine = [event for event in predictions if (event["model_name"], event.get("model_version") or "") == key]
            check_model(model, mine)
        assert {each[0] for each in summary.models} == {"fraud", "churn"}


def check_model(model: Model, events: list[dict[str, Any]]) -> None:
    def spelled(value: Any) -> str | None:
        return value if value is None or isinstance(value, str) else json.dumps(value)

    cells = Counter((spelled(each.get("prediction_class")), spelled(each.get("true_label"))) for each in events)
    del cells[None, None]
    counted = {(one, other): count for one, row in model.outcomes.items() for other, count in row.items()}
    assert counted == cells
    assert model.predictions == len(events)
    assert model.errors == {"timeout": sum("error_message" in each for each in events)}
    assert model.stages["feature_processing"].count == sum("feature_processing_ms" in each for each in events)
    confidences = [value for each in events if (value := each.get("prediction_confidence")) is not None]
    assert model.confidence.sum == pytest.approx(sum(confidences))
    assert sum(model.confidence.counts[:10]) == sum(value <= 0.85 for value in confidences)
    durations = [each["inference_time_ms"] for each in events]
    assert model.duration_ms.sum == pytest.approx(sum(durations))
    assert model.duration_ms.counts[2] == sum(2.5 < value <= 5 for value in durations)
    assert model.usage == {"cpu_usage": events[-1]["cpu_usage"]}


def test_more_classes_than_are_told_apart() -> None:
    """A block of a regression's answers has bounded figures, from which each of its documents can be taken away."""
    lines = [{"model_name": "m", "prediction_class": number / 7, "event_id": str(number)} for number in range(3000)]
    draft, _ = draft_of(new_block(*lines))
    summary = Summary.decode(draft.summary)
    assert len(summary.models["m", ""].classes) == MAX_CLASSES
    assert len(draft.summary) < 3000
    summary.minus(of_documents(draft))
    assert (summary.indices, summary.models["m", ""].outcomes) == ({}, {})


@pytest.mark.parametrize(("unit", "milliseconds"), [("s", 1500), ("ms", 1.5)])
def test_the_unit_of_durations_in_logs(unit: Literal["s", "ms"], milliseconds: float) -> None:
    """The setting `monitoring.log_duration_unit` says what a request's duration means."""
    digest = make_digest(Settings(monitoring=Monitoring(log_duration_unit=unit)), BUILT_IN)
    draft, _ = draft_of(new_block({"message": "m", "endpoint": "/predict", "duration": 1.5}), digest)
    assert Summary.decode(draft.summary).endpoints["", "/predict"].sum == milliseconds


def test_what_is_not_taken_is_in_no_figure_but_that_of_refusals() -> None:
    """A refused event counts for the model that it names, and for nothing else."""
    draft, _ = draft_of(new_block({"model_name": "m", "model_version": "2", "prediction_confidence": 7}, b"{"))
    assert Summary.decode(draft.summary) == Summary(models={("m", "2"): Model(refused=1)})
