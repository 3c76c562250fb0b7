"""Enrichment as a block goes through the pipeline."""

from __future__ import annotations

from typing import Any

import pytest

from enrichers import ENRICHERS, Enricher
from gateway.errors import SettingsError
from gateway.pipeline.enrich import Enrichers
from gateway.settings import Enrichment, Latency
from tests.pipeline.blocks import new_digest, store

ADDED = {"confidence_level", "latency_category", "prediction_correct", "prediction_accuracy", "error", "error_type"}


def added(event: dict[str, Any], **enrichment: Any) -> dict[str, Any]:
    (stored,) = store({"model_name": "fraud", **event}, digest=new_digest(enrichment=enrichment))
    return {name: value for name, value in stored.document.items() if name in ADDED}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({}, {}),
        ({"prediction_confidence": 0.85}, {"confidence_level": "high"}),
        ({"prediction_confidence": 0.8499}, {"confidence_level": "medium"}),
        ({"prediction_confidence": "0.70"}, {"confidence_level": "medium"}),
        ({"prediction_confidence": 0.6999}, {"confidence_level": "low"}),
        ({"prediction_confidence": 0}, {"confidence_level": "low"}),
        ({"inference_time_ms": 49.99}, {"latency_category": "fast"}),
        ({"inference_time_ms": 50}, {"latency_category": "normal"}),
        ({"inference_time_ms": 200}, {"latency_category": "slow"}),
        ({"inference_time_ms": "1000"}, {"latency_category": "very_slow"}),
        ({"prediction_class": 1, "true_label": "1"}, {"prediction_correct": True, "prediction_accuracy": 1.0}),
        ({"prediction_class": True, "true_label": "true"}, {"prediction_correct": True, "prediction_accuracy": 1.0}),
        ({"prediction_class": 1, "true_label": True}, {"prediction_correct": False, "prediction_accuracy": 0.0}),
        ({"prediction_class": "a", "true_label": None}, {}),
        ({"error_message": "Request timed out"}, {"error": True, "error_type": "timeout"}),
        ({"error_message": "???"}, {"error": True, "error_type": "unknown"}),
        ({"error": False, "error_message": "timed out"}, {"error": False}),
        ({"error": True}, {"error": True, "error_type": "unknown"}),
        ({"error_message": None}, {}),
        # The gateway's value wins where its rule gives one, else the client's stays.
        ({"prediction_confidence": 0.9, "confidence_level": "mine"}, {"confidence_level": "high"}),
        ({"confidence_level": "mine"}, {"confidence_level": "mine"}),
        ({"latency_category": 7, "error_type": "mine"}, {"latency_category": 7, "error_type": "mine"}),
    ],
)
def test_default_rules(event: dict[str, Any], expected: dict[str, Any]) -> None:
    """The contract's defaults decide what is added; the gateway's value wins where its rule gives one."""
    assert expected == added(event)


def test_thresholds_per_model() -> None:
    """A model's own thresholds hold for it alone, and what it leaves out is as for the others."""
    settings: dict[str, Any] = {
        "latency": {"fast": 10},
        "models": {"fraud": {"confidence": {"high": 0.99}}, "churn": {"latency": {"fast": 1000, "normal": 1000}}},
    }
    event = {"prediction_confidence": 0.9, "inference_time_ms": 25}
    assert added(event, **settings) == {"confidence_level": "medium", "latency_category": "normal"}
    churn = added({**event, "model_name": "churn"}, **settings)
    assert churn == {"confidence_level": "high", "latency_category": "fast"}
    other = added({**event, "model_name": "other"}, **settings)
    assert other == {"confidence_level": "high", "latency_category": "normal"}


@pytest.mark.parametrize(
    "event",
    [
        {"type": "log", "message": "m"},
        {"type": "model_training", "model_name": "fraud"},
        {"event_type": "scaling_error"},
        {"type": "data_quality"},
        {"type": "audit"},
        {"type": "label", "request_id": "r", "true_label": 1},
    ],
)
def test_inference_alone_is_enriched(event: dict[str, Any]) -> None:
    """Other kinds of events get nothing added, whatever fields they have."""
    fields = {"prediction_confidence": 0.9, "inference_time_ms": 1, "error_message": "timeout"}
    (stored,) = store({**event, **fields})
    assert not ADDED & set(stored.document)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"confidence": {"high": 0.5}}, r"enrichment\.confidence: .*0\.7.*0\.5"),
        ({"models": {"fraud": {"latency": {"slow": 1}}}}, r"enrichment\.models\.fraud\.latency: "),
        ({"error": {"patterns": {"mine": "("}}}, r"enrichment\.error: .*'mine'"),
    ],
)
def test_thresholds_without_sense(settings: dict[str, Any], sentence: str) -> None:
    """Thresholds that contradict each other are refused by their name at the start."""
    with pytest.raises(SettingsError, match=sentence):
        Enrichers(Enrichment(**settings))


def test_every_mistake_in_thresholds_at_once() -> None:
    """Mistakes of several models are told together; one in the common thresholds is told once, not for each model."""
    wrong: dict[str, Any] = {"latency": {"slow": 1}}
    with pytest.raises(SettingsError) as caught:
        Enrichers(Enrichment(models={"a": {}, "b": wrong, "c": {**wrong, "confidence": {"high": 0.5}}}))
    told = ["b.latency", "c.confidence", "c.latency"]
    assert [each.split(": ")[0] for each in caught.value.mistakes] == [f"enrichment.models.{each}" for each in told]
    with pytest.raises(SettingsError) as caught:
        Enrichers(Enrichment(latency=Latency(slow=1), models={"a": {}, "b": {}}))
    (sentence,) = caught.value.mistakes
    assert sentence.startswith("enrichment.latency: ")
    assert sentence.endswith(".")


def test_own_patterns() -> None:
    """Patterns of the settings decide the error type in place of the built-in ones."""
    patterns = {"gpu": "cuda", "all": "."}
    assert added({"error_message": "CUDA timeout"}, error={"patterns": patterns}) == {
        "error": True,
        "error_type": "gpu",
    }


@pytest.mark.parametrize("quick", [True, False])
def test_an_enricher_that_never_gives_the_same_dict(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added belongs to its event, also where each has other fields, and where one adds a field of another."""

    def own() -> Enricher:
        return lambda event: {"twice": 2 * event["inference_time_ms"], "latency_category": "mine"}

    monkeypatch.setattr("gateway.pipeline.enrich.ENRICHERS", (*ENRICHERS, own))
    events = [{"model_name": "m", "inference_time_ms": number, "region": "r"} for number in range(2000)]
    stored = store(*events, digest=new_digest(quick=quick))
    assert [each.document["twice"] for each in stored] == [2 * number for number in range(2000)]
    assert {each.document["latency_category"] for each in stored} == {"mine"}
