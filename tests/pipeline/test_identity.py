"""What makes two events the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.sources.http import body
from tests.pipeline.blocks import NOON, draft_of, new_block, new_digest, store, stored_in, to_the_end

ROOT = Path(__file__).parents[2]
AT = "2026-06-15T10:00:00Z"


def split(data: bytes) -> list[bytes]:
    return to_the_end(body.split(data, 100))


def id_of(event: bytes | dict[str, Any], **fields: Any) -> str:
    (stored,) = store(event, **fields)
    return stored.id


BY_EVENT_ID: dict[str, Any] = {"event_id": "e1", "model_name": "a", "timestamp": AT}
NO_MODEL: dict[str, Any] = {"event_id": "e1", "type": "data_quality"}  # of which model_name is no known field
BY_BYTES: dict[str, Any] = {"request_id": "r1", "model_name": "a", "timestamp": AT}


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (BY_EVENT_ID, BY_EVENT_ID, True),
        (BY_EVENT_ID, {**BY_EVENT_ID, "inference_time_ms": 7}, True),
        (BY_EVENT_ID, {**BY_EVENT_ID, "timestamp": "2026-06-15T11:00:00+01:00"}, True),
        (BY_EVENT_ID, {**BY_EVENT_ID, "request_id": "r1"}, True),
        (BY_EVENT_ID, {**BY_EVENT_ID, "event_id": "e2"}, False),
        (BY_EVENT_ID, {**BY_EVENT_ID, "model_name": "b"}, False),
        (BY_EVENT_ID, {**BY_EVENT_ID, "timestamp": "2026-06-14T10:00:00Z"}, False),
        (BY_EVENT_ID, {**BY_EVENT_ID, "type": "log"}, False),
        ({**BY_EVENT_ID, "event_id": 3}, {**BY_EVENT_ID, "event_id": "3"}, True),
        ({**BY_EVENT_ID, "model_name": 3}, {**BY_EVENT_ID, "model_name": "3"}, True),
        ({**BY_EVENT_ID, "event_id": 2**127}, {**BY_EVENT_ID, "event_id": 2**127 + 1}, False),
        ({**NO_MODEL, "model_name": 1}, {**NO_MODEL, "model_name": True}, False),
        ({"event_id": "ab", "model_name": "c"}, {"event_id": "a", "model_name": "bc"}, False),
        ({"event_id": "e", "message": "m"}, {"event_id": "e", "message": "n"}, True),
        ({"event_id": "e", "event_type": "x"}, {"event_id": "e", "event_type": "y"}, True),
        (BY_BYTES, BY_BYTES, True),
        (BY_BYTES, {**BY_BYTES, "step": 1}, False),
        (BY_BYTES, {**BY_BYTES, "timestamp": "2026-06-15T10:00:01Z"}, False),
        ({"request_id": "r", "message": "m"}, {"request_id": "r", "message": "m"}, True),
        # Nothing to know them by: two equal events are two.
        ({"model_name": "a", "timestamp": AT}, {"model_name": "a", "timestamp": AT}, False),
        ({"message": "m", "timestamp": AT}, {"message": "m", "timestamp": AT}, False),
        ({**BY_BYTES, "request_id": None}, {**BY_BYTES, "request_id": None}, False),
        ({**BY_EVENT_ID, "event_id": None}, {**BY_EVENT_ID, "event_id": None}, False),
        ({**BY_EVENT_ID, "event_id": ""}, {**BY_EVENT_ID, "event_id": ""}, False),
    ],
)  # fmt: skip
def test_same_or_not(one: dict[str, Any], other: dict[str, Any], is_same: bool) -> None:
    """event_id with model_name, else the bytes of an event with request_id, else nothing makes two events the same."""
    assert is_same is (id_of(one) == id_of(other))
    together = store(one, other)
    assert is_same is (together[0].id == together[1].id)
    assert together[0].id == id_of(one) or not is_same


@pytest.mark.parametrize("event", [BY_EVENT_ID, BY_BYTES])
def test_the_tenant_matters(event: dict[str, Any]) -> None:
    """The same event of two tenants is two; of one tenant, from any source or peer, one."""
    assert len({id_of(event), id_of(event, tenant="a"), id_of(event, tenant="b")}) == 3
    assert id_of(event, tenant="a") == id_of(event, tenant="a", digest=new_digest())


@pytest.mark.parametrize("event", [BY_EVENT_ID, BY_BYTES])
def test_without_a_timestamp(event: dict[str, Any]) -> None:
    """Without a time of its own an event is known again within the UTC day of receipt, and not beyond."""
    event = {name: value for name, value in event.items() if name != "timestamp"}
    assert id_of(event, now=NOON) == id_of(event, now=NOON + 11 * 3600)
    assert id_of(event, now=NOON) != id_of(event, now=NOON + 12 * 3600)


def test_own_bytes() -> None:
    """By its bytes, from first { to last }, an event is the same as a line, in an array and in a pretty array."""
    event = json.dumps(BY_BYTES, indent=2).encode()
    flat = json.dumps(BY_BYTES).encode()
    spellings: dict[bytes, list[list[bytes]]] = {
        flat: [
            [flat], [flat + b"\r"], [b"  " + flat + b"\t"], [b"\xef\xbb\xbf" + flat], [b"[" + flat + b"]"],
            [b' [ {"message":"x"} ,\t' + flat + b" ] \r"],
            split(b"[\n  " + flat + b"\n]\n"), split(flat + b"\r\n"), split(b'{"message":1}\n' + flat),
        ],
        event: [[event], split(event), split(b"[\n" + event + b"\n,\n" + flat + b"]"), split(b"\n" + event + b"\n")],
    }  # fmt: skip
    for sent, ways in spellings.items():
        expected = id_of(sent)
        for lines in ways:
            draft, _ = draft_of(new_block(*lines))
            assert expected in {each.id for each in stored_in(draft)}, lines
    assert id_of(flat) != id_of(event)


def test_resend() -> None:
    """A batch that is sent again gets the same ids, in whatever blocks and order it comes."""
    events = [{**BY_BYTES, "step": n} for n in range(50)] + [{**BY_EVENT_ID, "event_id": n} for n in range(50)]
    first = {each.id for each in store(*events)}
    again = {each.id for each in store(list(reversed(events)))}
    alone = {id_of(event) for event in events}
    assert first == again == alone
    assert len(first) == 100


@pytest.mark.process
def test_another_process() -> None:
    """The id is the same in every worker and after every restart."""
    program = f"from tests.pipeline.blocks import store\nprint(store({BY_EVENT_ID!r})[0].id, store({BY_BYTES!r})[0].id)"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [id_of(BY_EVENT_ID), id_of(BY_BYTES)] == found.stdout.split()


def test_the_form_is_fixed() -> None:
    """The id of a known event never changes: else a re-send over an upgrade would be doubled."""
    sent = json.dumps(BY_BYTES).encode()
    by_event_id = b"4:blue15:model_inference10:2026.06.158:event_id2:e11:a"
    by_bytes = b"0:15:model_inference10:2026.06.155:bytes%d:%b0:" % (len(sent), sent)
    expected = [urlsafe_b64encode(sha256(each).digest()[:15]).decode() for each in (by_event_id, by_bytes)]
    assert expected == [id_of(BY_EVENT_ID, tenant="blue"), id_of(sent)]


def test_drawn_ids_are_all_different() -> None:
    """Events without identity have ids of their own, across digests, each fit for a URL."""
    lines = [{"message": "m"}] * 5000
    ids = [each.id for digest in (new_digest(), new_digest()) for each in store(*lines, digest=digest)]
    assert len(set(ids)) == 10_000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{20}", each) for each in ids)


TEXT = st.text(min_size=1, max_size=8)


@given(TEXT, TEXT, TEXT, TEXT, st.none() | TEXT, st.none() | TEXT)
def test_parts_never_run_together(
    id1: str, id2: str, model1: str, model2: str, tenant1: str | None, tenant2: str | None
) -> None:
    """Two events with an event_id have the same id exactly when all their parts are the same."""
    assume((tenant1 or "") != (tenant2 or "") or (tenant1 == tenant2))
    one = id_of({"type": "log", "event_id": id1, "model_name": model1}, tenant=tenant1)
    other = id_of({"type": "log", "event_id": id2, "model_name": model2}, tenant=tenant2)
    assert ((id1, model1, tenant1) == (id2, model2, tenant2)) is (one == other)
