"""Whatever is sent, of whatever kind, gets a verdict that can be kept and told, and costs its neighbours nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pipeline.digest import Digest
from gateway.sources.framing import LineFramer
from gateway.spool.record import encode
from schemas import BUILT_IN, Kind, Registry, own
from schemas.event import Event
from tests.pipeline.blocks import draft_of, new_block, new_digest, stored_in

OWN = {
    "o_string": own.field("string"),
    "o_text": own.field("text"),
    "o_number": own.field("number", minimum=0, maximum=1),
    "o_integer": own.field("integer", minimum=-5),
    "o_boolean": own.field("boolean"),
    "o_date": own.field("date"),
}
KINDS = [kind if kind.document else own.extended(kind, OWN) for kind in BUILT_IN.kinds.values()]
KINDS.append(own.extended(Kind("own", "own", "ml-own", Event, decided_by=("o_string",)), OWN))
REGISTRY = Registry(KINDS)
DIGESTS = (
    new_digest(registry=REGISTRY, max_line_bytes=4096),
    new_digest(
        registry=REGISTRY, max_line_bytes=4096, default_kind="log", max_age_days=None, naive_timezone="Asia/Tokyo"
    ),
)
CORPUS = [each.read_bytes() for each in (Path(__file__).parents[1] / "corpus" / "events").iterdir()]
NEIGHBOUR = b'{"model_name":"neighbour","n":1}'

ODD = st.sampled_from(
    [
        2**63,
        -(2**63) - 1,
        2**64,
        10**400,
        1e308,
        5e-324,
        -0.0,
        float("nan"),
        float("inf"),
        "�",
        "\x00",
        "NaN",
        "1e999",
        "9" * 5000,
        " 1 ",
        "٣",
        "2026-06-15T12:00:00Z",
        "2026-06-15",
        "\u2028",
        "",
        " ",
        "a.b",
        100000000000.0,
        1781524800,
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | ODD
NAMES = st.sampled_from(
    sorted(
        {name for kind in KINDS for name in kind.event.__annotations__}
        | {"@timestamp", "timestamp", "@version", "labelled_at"}
    )
) | st.sampled_from(["", ".", "a.b", "a", "__proto__", "_id", "\ud800", "received_at", "tenant", "Model_Name"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
TYPES = st.sampled_from([{}, *({"type": kind.type} for kind in KINDS)])
EVENTS = st.builds(
    lambda declared, fields: {**declared, **fields},
    TYPES,
    st.dictionaries(NAMES | st.text(max_size=5), VALUES, max_size=8),
)
LINES = st.builds(
    lambda value, plain: json.dumps(value, ensure_ascii=plain).encode("utf-8", "surrogatepass"),
    EVENTS | VALUES | st.lists(EVENTS, max_size=3),
    st.booleans(),
)
CUTS = st.tuples(st.sampled_from(["flip", "cut", "splice", "double"]), st.integers(0, 10_000), st.integers(0, 10_000))


def harmed(data: bytes, harm: tuple[str, int, int], other: bytes) -> bytes:
    """Return bytes with a bit flipped, cut off, with others put in, or with a part that comes twice."""
    how, first, second = harm
    at = first % (len(data) + 1)
    match how:
        case "flip" if data:
            at %= len(data)
            return data[:at] + bytes([data[at] ^ 1 << second % 8]) + data[at + 1 :]
        case "cut":
            return data[:at]
        case "splice":
            return data[:at] + other[second % (len(other) + 1) :]
    return data[:at] + data[: second % (len(data) + 1)]


def check(lines: list[bytes], digest: Digest) -> None:
    """Digest lines, each between two neighbours: all is accounted for, kept and told."""
    block = new_block(*(each for line in lines for each in (line, NEIGHBOUR)), tenant="blue")
    draft, refusals = draft_of(block, digest)
    stored = stored_in(draft)  # each document is JSON on a line of its own
    assert draft.counts.received == draft.counts.accepted + draft.counts.refused
    assert (len(stored), len(refusals)) == (draft.counts.accepted, draft.counts.refused)
    assert len([each for each in stored if each.document.get("model_name") == "neighbour"]) >= len(lines)
    for document in (each.document for each in stored):
        assert document["tenant"] == "blue"
        orjson.dumps(document)  # what is stored can also be shown
    for each in refusals:
        assert each.reason in ("json", "schema", "clock", "too_large"), each
        assert each.path.startswith("$"), each
        assert each.rule not in ("", "internal_error"), each
        assert each.message, each
        assert len(each.value) <= 100, each
        assert each.data in lines[each.line // 2], each
        orjson.dumps([each.path, each.rule, each.told, each.value])
    encode(draft, 1, {}, 0)


def framed(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return the lines that a connection makes of bytes which come in pieces, but for those over the limit."""
    framer = LineFramer(4096)
    places = sorted(cut % (len(data) + 1) for cut in cuts)
    lines = []
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        lines += framer.feed(data[start:end])[0]
    return lines + framer.finish(orderly=True)[0]


def any_event(lines: list[bytes], which: int) -> None:
    check(lines, DIGESTS[which])


def any_harm(line: bytes, other: bytes, harms: list[tuple[str, int, int]], cuts: list[int], which: int) -> None:
    for harm in harms:
        line = harmed(line, harm, other)
    check(framed(line, cuts), DIGESTS[which])


ANY_EVENT: dict[str, Any] = {"lines": st.lists(LINES, min_size=1, max_size=4), "which": st.integers(0, 1)}
ANY_HARM: dict[str, Any] = {
    "line": LINES | st.sampled_from(CORPUS),
    "other": LINES | st.sampled_from(CORPUS) | st.binary(max_size=30),
    "harms": st.lists(CUTS, min_size=1, max_size=4),
    "cuts": st.lists(st.integers(0, 10_000), max_size=4),
    "which": st.integers(0, 1),
}
test_any_event = settings(max_examples=100, deadline=None)(given(**ANY_EVENT)(any_event))
test_any_harm = settings(max_examples=100, deadline=None)(given(**ANY_HARM)(any_harm))
LONG = settings(max_examples=2000, deadline=None)
test_any_event_for_long = pytest.mark.slow(pytest.mark.timeout(300)(LONG(given(**ANY_EVENT)(any_event))))
test_any_harm_for_long = pytest.mark.slow(pytest.mark.timeout(300)(LONG(given(**ANY_HARM)(any_harm))))


def test_the_corpus() -> None:
    """Each input of the corpus, alone and all together."""
    for digest in DIGESTS:
        check(CORPUS, digest)
        for line in CORPUS:
            check([line], digest)
