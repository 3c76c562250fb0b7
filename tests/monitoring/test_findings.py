"""What an operator is told: models that do worse, whoever fell silent; and nothing where there is nothing."""

import random
from typing import Any

import pytest

from gateway.monitoring.findings import comparison, silent
from gateway.monitoring.standing import standings
from tests.monitoring.telling import NOW, Disk, prediction, told

HOUR = 3600
RANDOM = random.Random(11)


def good(model: str = "m") -> dict[str, Any]:
    """Return a prediction of a model in good health: 90 % right, 1 % failed, 40 ms."""
    return prediction(
        model, prediction_class="a", true_label="a" if RANDOM.random() < 0.9 else "b",
        prediction_confidence=min(1.0, RANDOM.gauss(0.85, 0.1)), inference_time_ms=RANDOM.expovariate(1 / 40),
        error=RANDOM.random() < 0.01, error_type="timeout",
    )  # fmt: skip


def less_right() -> dict[str, Any]:
    return {**good(), "true_label": RANDOM.choice("ab")}


def less_sure() -> dict[str, Any]:
    return {**good(), "prediction_confidence": RANDOM.uniform(0.4, 0.9)}


def failing() -> dict[str, Any]:
    return {**good(), "error": RANDOM.random() < 0.1}


def slow() -> dict[str, Any]:
    return {**good(), "inference_time_ms": RANDOM.expovariate(1 / 100)}


def hour_and_window(now: Any, before: Any = good, each: int = 20) -> Disk:
    """Return figures of an hour and of the window behind it."""
    disk = Disk()
    for minute in range(75):
        disk.clock.now = NOW + minute * 60
        disk.take(told(disk.clock.now, *((before if minute < 60 else now)() for _ in range(each))))
    return disk


@pytest.mark.parametrize(
    ("now", "what", "before", "after"),
    [
        (less_right, "accuracy", 0.9, 0.5),
        (less_sure, "confidence", 0.85, 0.65),
        (failing, "errors", 0.01, 0.1),
        (slow, "duration", 120, 350),
    ],
)
def test_a_model_that_gets_worse(now: Any, what: str, before: float, after: float) -> None:
    """It is told what, from what to what, in one sentence; and nothing else."""
    [found] = comparison(hour_and_window(now).figures.kept()).worse
    assert (found.model, found.version, found.what) == ("m", "1", what)
    assert found.before == pytest.approx(before, rel=0.3)
    assert found.now == pytest.approx(after, rel=0.3)
    assert found.text.startswith("m 1: ") and found.text.endswith(".")


@pytest.mark.parametrize("each", [1, 3, 20])
def test_chance_is_not_told(each: int) -> None:
    """A model that goes on as before is not said to get worse, with few events or many."""
    assert [
        found for _ in range(10) for found in comparison(hour_and_window(good, each=each).figures.kept()).worse
    ] == []


def test_getting_better_is_no_trouble() -> None:
    """Nor is a model that was not there before."""
    assert comparison(hour_and_window(good, less_right).figures.kept()).worse == []
    assert comparison(hour_and_window(less_right, lambda: good("n")).figures.kept()).worse == []


def test_whoever_falls_silent() -> None:
    """After five minutes, or five times the usual gap; not who was there for a moment, nor while events wait."""
    disk = Disk()
    for minute in range(70):
        disk.clock.now = NOW + minute * 60
        events = [prediction("often")] if minute < 60 else []
        events += [prediction("every six")] if minute % 6 == 0 and minute < 62 else []
        events += [prediction("for a moment")] if minute < 5 else []
        disk.take(told(disk.clock.now, prediction("goes on"), *events))
    now = NOW + 70 * 60
    [found] = silent(disk.figures.kept(), now)
    assert (found.what, found.name, found.version, found.gap_secs) == ("model", "often", "1", 60)
    assert found.last == NOW + 59 * 60
    assert "often 1 for 10 minutes" in found.text
    assert silent(disk.figures.kept(), now, since=now - 200) == []  # a gateway that has just been started
    assert silent(disk.figures.kept(), NOW + 64 * 60) == []
    disk.clock.now = NOW + 100 * 60
    names = {(each.what, each.name) for each in silent(disk.figures.kept(), disk.clock.now)}
    assert names == {("model", "often"), ("model", "every six"), ("model", "goes on"), ("index", "ml-metrics")} - {
        # Of its ten minutes some are kept no more: nothing is said.
        ("model", "every six")
    }


def test_how_models_stand() -> None:
    """Those with predictions in the window, the busiest first; what is not known is None."""
    disk = hour_and_window(good)
    disk.take(told(disk.clock.now, prediction("new"), prediction("new")))
    disk.take(told(disk.clock.now - 2 * HOUR, prediction("gone")))
    first, second = standings(disk.figures.kept())
    assert (first.model, first.version) == ("m", "1")
    assert first.quality is not None and first.quality.accuracy == pytest.approx(0.9, abs=0.1)
    assert first.confidence == pytest.approx(0.85, abs=0.1)
    assert (second.model, second.quality, second.confidence) == ("new", None, None)


def test_the_first_minutes_are_compared_by_halves() -> None:
    """Who has just begun is told soon, and of which minutes; before there are enough of them nothing is."""
    disk = Disk()
    for minute in range(10):
        disk.clock.now = NOW + minute * 60
        disk.take(told(disk.clock.now, *((good if minute < 5 else less_right)() for _ in range(100))))
        found = comparison(disk.figures.kept())
        if minute < 2:
            assert (found.models, found.worse) == (0, [])
    assert (found.before, found.minutes, found.models) == (5, 5, 1)
    assert [each.what for each in found.worse] == ["accuracy"]
