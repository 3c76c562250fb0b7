"""A block of lines to one draft of a record."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pipeline.block import Broken
from gateway.pipeline.enrich import Enrichers
from gateway.spool.record import Draft
from tests.pipeline.blocks import (
    MAX_LINE_BYTES,
    NOON,
    Stored,
    draft_of,
    new_block,
    new_digest,
    refuse,
    store,
    stored_in,
)

GOOD: dict[str, Any] = {"model_name": "fraud", "inference_time_ms": 25}


def nested(depth: int) -> bytes:
    return b'{"model_name":"a","x":' + b'{"y":' * (depth - 1) + b"1" + b"}" * depth


def test_counts_add_up() -> None:
    """Received is accepted and refused together, broken lines included; blank lines are no events."""
    block = new_block(GOOD, b"", b"oops", [GOOD, 7, GOOD], {"model_name": 1}, {"x": 1}, b"\r", b"[]")
    block.broken.append(Broken(1, "cut", "The connection ended.", b'{"mo', 4))
    draft, refusals = draft_of(block)
    accepted, refused = 4, 4
    assert (accepted + refused, accepted, refused, 0) == draft.counts
    assert accepted == sum(group.count for group in draft.documents)
    assert refused == len(refusals) == len(draft.dead_letters)


def test_one_group_for_each_index() -> None:
    """All documents of an index stand together, in the order in which they came."""
    lines = [{**GOOD, "n": n, "timestamp": f"2026-06-{14 + n % 2}T10:00:00Z"} for n in range(3000)]
    draft, _ = draft_of(new_block(*lines, {"message": "hello"}))
    groups = {group.index: group.count for group in draft.documents}
    assert groups == {"ml-metrics-2026.06.14": 1500, "ml-metrics-2026.06.15": 1500, "ml-pipeline-2026.06.15": 1}
    assert len(groups) == len(draft.documents)
    even = [each.document["n"] for each in stored_in(draft) if each.index == "ml-metrics-2026.06.14"]
    assert list(range(0, 3000, 2)) == even


def test_lines_hold_no_line_end() -> None:
    """A document is one line of the bulk body, however its event was spelled."""
    sent = b'{\r\n "model_name" : "a\\nb" ,\n "x" : "\xe2\x80\xa8\\u000a"\n}'
    (stored,) = store(sent)
    assert (stored.document["model_name"], stored.document["x"]) == ("a\nb", "\u2028\n")


def test_values_survive() -> None:
    """Unknown fields are kept where they are, with their values and names as sent."""
    extra = {"a.b": 1, "a": {"b": [1, 2.5, None, "ż", {"c": True}]}, "": "", "é\u0000": -0.0, "big": 2**63}
    (stored,) = store({**GOOD, **extra})
    assert extra == {name: stored.document[name] for name in extra}


def test_stamps() -> None:
    """Every document carries @timestamp, received_at and type; the client's timestamp stays as sent."""
    (stored,) = store({**GOOD, "timestamp": "2026-06-15T13:30:00+02:00", "received_at": "never", "tenant": "mine"})
    expected = {
        **GOOD,
        "timestamp": "2026-06-15T13:30:00+02:00",
        "@timestamp": "2026-06-15T11:30:00Z",
        "received_at": "2026-06-15T12:00:00Z",
        "type": "model_inference",
        "tenant": "mine",
        "latency_category": "fast",
    }
    assert expected == stored.document


def test_tenant() -> None:
    """The tenant of the caller stands in every document, whatever the event says."""
    for sent in (GOOD, {"event_type": "x_start"}, {"message": "m"}):
        (stored,) = store({**sent, "tenant": "forged"}, tenant="blue")
        assert stored.document["tenant"] == "blue"


def test_index_prefix() -> None:
    """The prefix of the settings stands before every index."""
    (stored,) = store(GOOD, digest=new_digest(index_prefix="eu-"))
    assert stored.index == "eu-ml-metrics-2026.06.15"


def test_neighbours_of_bad_events() -> None:
    """Whatever stands beside a good event, it is stored."""
    bad: list[bytes | dict[str, Any]] = [
        b"oops",
        b'{"model_name":"a","prediction_confidence":NaN}',
        b"\xff\xfe",
        {"model_name": "a", "prediction_confidence": 1.7},
        {"model_name": "a", "timestamp": "soon"},
        {"model_name": "a", "timestamp": "2020-01-01T00:00:00Z"},
        {"model_name": "a", "_id": "x"},
        {"true": "nothing"},
        nested(300),
        b"[" * 500 + b"]" * 500,
        b'{"model_name":"a","timestamp":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"model_name":' + b"[" * 900 + b"]" * 900 + b"}",
    ]
    lines = [line for number, each in enumerate(bad) for line in (each, {**GOOD, "n": number})]
    draft, refusals = draft_of(new_block(*lines))
    assert list(range(len(bad))) == [each.document["n"] for each in stored_in(draft)]
    assert list(range(0, 2 * len(bad), 2)) == sorted(each.line for each in refusals)


def test_dead_letters_keep_the_bytes() -> None:
    """A dead letter has the original bytes, source, peer, tenant, time, reason, path, rule and message with hint."""
    line = b'{ "model_nam" : "a", "type": "model_inference" }'
    draft, _ = draft_of(new_block(line, tenant="blue"))
    (letter,) = draft.dead_letters
    assert (
        letter.at, letter.source, letter.peer, letter.tenant, letter.reason, letter.path, letter.rule,
    ) == (NOON, "tcp", "1.2.3.4:5", "blue", "schema", "$.model_name", "missing")  # fmt: skip
    assert (line, len(line)) == (letter.data, letter.data_bytes)
    assert 'did you mean "model_name"?' in letter.message


def test_broken_lines_are_dead_letters() -> None:
    """What a source could not take whole is refused with its reason and what there is of it."""
    block = new_block(b"", GOOD)
    block.broken.append(Broken(0, "too_large", "The line is long.", b"xxxx", 5_000_000))
    draft, (refusal,) = draft_of(block)
    assert (refusal.line, refusal.reason, refusal.data, refusal.data_bytes) == (0, "too_large", b"xxxx", 5_000_000)
    assert draft.dead_letters[0].data_bytes == 5_000_000
    assert len(stored_in(draft)) == 1


def test_too_deep_to_store() -> None:
    """An event that can be read but not written is refused, with its bytes."""
    refusal = refuse(nested(300))
    assert ("json", "$", "too_deep", nested(300)) == (refusal.reason, refusal.path, refusal.rule, refusal.data)
    assert len(store(nested(200))) == 1


def test_reasons() -> None:
    """Each refusal has the reason that the contract names for it."""
    reasons = {
        "json": b"x",
        "schema": {"model_name": "a", "inference_time_ms": -1},
        "clock": {"model_name": "a", "timestamp": "2030-01-01T00:00:00Z"},
        "too_large": b'{"message":"' + b"x" * MAX_LINE_BYTES + b'"}',
    }
    assert list(reasons) == [refuse(line).reason for line in reasons.values()]  # type: ignore[arg-type]
    assert refuse({"model_name": "a", "timestamp": "never"}).reason == "schema"


def test_a_long_block_goes_in_steps() -> None:
    """A block of ten thousand lines, or of as many events on one, is worked on in steps, each a small part of it."""
    for block in (new_block(*[GOOD] * 10_000), new_block([GOOD] * 10_000)):
        work = new_digest().block(block, NOON)
        sizes = []
        more = True
        while more:
            before = work.draft().counts.accepted
            more = work.step()
            sizes.append(work.draft().counts.accepted - before)
        assert sum(sizes) == 10_000
        assert max(sizes) <= 500


def test_an_empty_block() -> None:
    """Of no lines comes an empty draft."""
    for block in (new_block(), new_block(b"", b" \r"), new_block(b"[]")):
        draft, refusals = draft_of(block)
        assert (draft.counts, draft.documents, draft.dead_letters, refusals) == ((0, 0, 0, 0), [], [], [])


LINES = st.lists(
    st.sampled_from([json.dumps(GOOD).encode(), b"", b"x", b"[{},7]", b'[{"message":1}]', b'{"model_name":[]}'])
    | st.binary(max_size=20),
    max_size=30,
)


@given(LINES)
def test_books(lines: list[bytes]) -> None:
    """For any lines: received = accepted + refused, each accepted is a document, each refused a dead letter."""
    draft, refusals = draft_of(new_block(*lines))
    counts = draft.counts
    assert counts.received == counts.accepted + counts.refused
    assert (counts.accepted, counts.refused) == (len(stored_in(draft)), len(draft.dead_letters))
    assert counts.refused == len(refusals)


def test_an_enrichers_mistake_costs_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """An enricher that fails on an event makes it a dead letter with its bytes; the neighbours are stored."""

    def added(_: Enrichers, fields: dict[str, Any]) -> dict[str, Any]:
        return {"share": 1 / fields["count"]}

    monkeypatch.setattr(Enrichers, "added", added)
    lines = [b'{"model_name":"m","count":%d}' % count for count in (2, 0, 4)]
    draft, refusals = draft_of(new_block(*lines))
    assert [(each.line, each.rule, each.data) for each in refusals] == [(1, "internal_error", lines[1])]
    assert draft.counts == (3, 2, 1, 0)


def test_events_that_came_earlier() -> None:
    """Digested again days later an event becomes what it would have been at first, and a label too old is told."""
    lines = [GOOD, {"model_name": "a", "event_id": "e"}, {"type": "label", "request_id": "r", "true_label": 1}]
    block, digest = new_block(*lines, kind=None, tenant="t"), new_digest(max_age_days=10)
    first, _ = draft_of(block, digest, NOON)

    work = digest.block(block, NOON, NOON + 5 * 86400)
    while work.step():
        pass
    again = work.draft()

    def known(draft: Draft) -> list[Stored]:
        return [each for each in stored_in(draft) if "event_id" in each.document or "request_id" in each.document]

    assert known(again) == known(first)
    assert [(each.index, each.document) for each in stored_in(again)] == [
        (each.index, each.document) for each in stored_in(first)
    ]
    old = digest.block(block, NOON, NOON + 11 * 86400)
    while old.step():
        pass
    assert {each.rule for each in old.refusals} == {"too_old"}
    assert old.draft().documents == []


def test_letters_remember_what_all_events_were() -> None:
    """A refused event of a request for labels is known to have been one."""
    draft, _ = draft_of(new_block({"request_id": "r"}, kind="label"))

    assert [each.kind for each in draft.dead_letters] == ["label"]
