"""An event becomes a line that a gateway recognises again, or a sentence that names the field that is wrong."""

import datetime
import json
import math
import uuid
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from gateway.pipeline.block import Block
from gateway.pipeline.configured import make_digest
from gateway.settings import Settings
from gateway_client.encoding import decode, encode
from schemas import BUILT_IN


def test_what_makes_it_recognised_is_added() -> None:
    """`event_id` and `timestamp` are added to a copy; each event has an id of its own."""
    event = MappingProxyType({"model_name": "m", "event_id": None})
    lines = [decode(encode(event)) for _ in range(3)]
    assert len({line["event_id"] for line in lines}) == 3
    when = datetime.datetime.fromisoformat(lines[0]["timestamp"])
    assert abs((datetime.datetime.now(datetime.UTC) - when).total_seconds()) < 10
    assert dict(event) == {"model_name": "m", "event_id": None}
    assert encode(event).endswith(b"\n")
    assert encode(event).count(b"\n") == 1


@pytest.mark.parametrize("name", ["timestamp", "@timestamp"])
def test_what_is_there_stays(name: str) -> None:
    """An id and a time of one's own are sent as they are, with whatever else there is."""
    event = {"event_id": "mine", name: "2026-01-31T12:00:00Z", "text": "ä\n\u2028", "nested": {"a": [1, None, True]}}
    assert decode(encode(event)) == event


def identity(line: bytes, secs: float) -> tuple[str, str]:
    """Return index and id that a gateway gives a line that it receives at a time."""
    work = make_digest(Settings(), BUILT_IN).block(Block("tcp", "p", [line]), secs)
    work.step()
    (documents,) = work.draft().documents
    action = json.loads(bytes(documents.data).splitlines()[0])["create"]
    return action["_index"], action["_id"]


@pytest.mark.parametrize(
    "event", [{"model_name": "m"}, {"type": "label", "request_id": "r", "true_label": 1}, {"message": "m"}]
)
def test_the_same_on_the_next_day(event: dict[str, Any]) -> None:
    """A line that is sent again past midnight is the same event to a gateway, a label too."""
    now = datetime.datetime.now(datetime.UTC).timestamp()
    line = encode(event)
    assert identity(line, now) == identity(line, now + 86400)
    assert identity(line, now) != identity(encode(event), now)


def test_what_programs_have() -> None:
    """NumPy's scalars are numbers, times and ids text."""
    day = datetime.date(2026, 1, 31)
    event = {
        "class": np.int64(3), "confidence": np.float32(0.5), "double": np.float64(0.1), "flag": np.bool_(True),
        "one": np.array([7]), "id": uuid.UUID(int=1), "day": day, "view": MappingProxyType({"a": np.int8(1)}),
        "when": datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC),
    }  # fmt: skip
    line = decode(encode(event))
    expected = {
        "class": 3, "confidence": 0.5, "double": 0.1, "flag": True, "one": 7, "id": str(uuid.UUID(int=1)),
        "day": "2026-01-31", "view": {"a": 1}, "when": "2026-01-31T12:00:00+00:00",
    }  # fmt: skip
    assert {name: line[name] for name in event} == expected


ITSELF: dict[str, Any] = {}
ITSELF["me"] = ITSELF


@pytest.mark.parametrize(
    ("event", "kind", "told"),
    [
        ({"a": {"loss": math.nan}}, ValueError, "$.a.loss is nan, which JSON does not have: leave it out"),
        ({"loss": np.float32("inf")}, ValueError, "$.loss is inf, which JSON does not have"),
        ({"a": [1, {"b": object()}]}, TypeError, "$.a[1].b is object, which JSON cannot hold"),
        ({"row": np.zeros(3)}, TypeError, "$.row is numpy.ndarray, which JSON cannot hold"),
        ({"a": {1, 2}}, TypeError, "$.a is set, which JSON cannot hold"),
        ({"a": b"bytes"}, TypeError, "$.a is bytes, which JSON cannot hold"),
        ({"a": {(1, 2): 3}}, TypeError, "$.a has a key that is tuple"),
        ({"a": "half \ud800"}, ValueError, "$.a holds half a character"),
        (ITSELF, ValueError, "nested too deep, or holds itself"),
        ([{"a": 1}], TypeError, "An event is a mapping such as {'model_name': 'churn'}, not list."),
        ("text", TypeError, "not str."),
    ],
)
def test_what_json_cannot_hold(event: Any, kind: type[Exception], told: str) -> None:
    """The error names the field, in one sentence."""
    with pytest.raises(kind) as caught:
        encode(event)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_line_that_is_no_event() -> None:
    """What a damaged file holds is given as text."""
    assert decode(b"\x00\xff{\n") == {"line": "\x00\ufffd{\n"}
    assert decode(b"[1]\n") == {"line": "[1]\n"}
