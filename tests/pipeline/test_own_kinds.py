"""Events with fields of a user's own: their times are read, and everything else stays as it was."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.pipeline.digest import Digest
from schemas import BUILT_IN, Registry, own
from tests.pipeline.blocks import NOON, new_digest, refuse, store


def knowing(**types: str) -> Digest:
    """Return a digest whose built-in kinds all have these fields too."""
    fields = {name: own.field(type) for name, type in types.items()}
    kinds = [kind if kind.document else own.extended(kind, fields) for kind in BUILT_IN.kinds.values()]
    return new_digest(registry=Registry(kinds))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-06-15T12:00:00Z", "2026-06-15T12:00:00Z"),
        ("2026-06-15T14:00:00+02:00", "2026-06-15T12:00:00Z"),
        ("2026-06-15 12:00:00", "2026-06-15T12:00:00Z"),
        (NOON, "2026-06-15T12:00:00Z"),
        (int(NOON) * 1000, "2026-06-15T12:00:00Z"),
        ("1970-01-01", "1970-01-01T00:00:00Z"),
        ("2199-01-01T00:00:00Z", "2199-01-01T00:00:00Z"),
        (None, None),
    ],
)
def test_a_date_is_stored_as_utc(sent: object, kept: object) -> None:
    """It is read by the clock's rules, in seconds too, and may lie in any year; the event's own time is its own."""
    (stored,) = store({"model_name": "m", "due": sent}, digest=knowing(due="date"))
    assert stored.document["due"] == kept
    assert stored.index == "ml-metrics-2026.06.15"


@pytest.mark.parametrize("sent", ["tomorrow", "", -1, "2026-13-01"])
def test_a_date_that_is_none_is_refused(sent: object) -> None:
    """The refusal names field and rule."""
    refusal = refuse({"model_name": "m", "due": sent}, digest=knowing(due="date"))
    assert (refusal.reason, refusal.path, refusal.rule) == ("schema", "$.due", "timestamp_invalid")


def test_labels_still_go_by_their_own_time() -> None:
    """A label's index has the day of `labelled_at`, whatever other dates it has."""
    label = {"type": "label", "request_id": "r", "true_label": 1, "labelled_at": "2026-06-14T10:00:00Z", "due": 0}
    (stored,) = store(label, digest=knowing(due="date"))
    assert stored.index == "ml-labels-2026.06.14"
    assert (stored.document["labelled_at"], stored.document["due"]) == ("2026-06-14T10:00:00Z", "1970-01-01T00:00:00Z")
    refusal = refuse({**label, "labelled_at": "1990-01-01"}, digest=knowing(due="date"))
    assert (refusal.reason, refusal.path, refusal.rule) == ("clock", "$.labelled_at", "too_old")


@pytest.mark.parametrize(
    "event",
    [
        {"model_name": "m", "prediction_confidence": 0.9, "inference_time_ms": 10, "event_id": "1"},
        {"event_type": "scaling_start", "details": {"a": 1}, "event_id": "1"},
        {"type": "label", "request_id": "r", "true_label": 1, "model_name": "m"},
        {"message": "m", "request_id": "r"},
    ],
)
def test_other_events_become_what_they_were(event: dict[str, Any]) -> None:
    """With extra fields that an event does not use, it has the same document, index and `_id`."""
    assert store(event, digest=knowing(x="date", y="integer")) == store(event)


def test_default_kind_with_fields_of_ones_own() -> None:
    """`events.default_kind` takes events of no kind as logs, by the rules of the extended kind."""
    registry = Registry([own.extended(BUILT_IN.kinds["log"], {"x": own.field("integer")})])
    digest = new_digest(registry=registry, default_kind="log")
    (stored,) = store({"x": "5"}, digest=digest)
    assert stored.document["x"] == 5
    assert refuse({"x": "five"}, digest=digest).path == "$.x"


def test_a_time_is_the_receipt_where_a_date_is_another() -> None:
    """A date of one's own does not say when the event happened."""
    (stored,) = store({"model_name": "m", "due": "2020-01-01"}, digest=knowing(due="date"))
    assert stored.document["@timestamp"] == datetime.fromtimestamp(NOON, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
