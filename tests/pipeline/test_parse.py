"""Lines to JSON objects, or the reason why not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pipeline.block import Refusal
from gateway.pipeline.parse import Event, Parser

MIB = 1024 * 1024
BOM = b"\xef\xbb\xbf"


def parse(lines: list[bytes], first: int, max_bytes: int) -> tuple[list[Event], list[Refusal]]:
    """Read lines that stand behind ``first`` blank ones to their end."""
    events, refused = [], []
    parser = Parser([b""] * first + lines, max_bytes)
    while not parser.done:
        more_events, more_refused = parser.step()
        events += more_events
        refused += more_refused
    return events, refused


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"a":1}', [{"a": 1}]),
        (b'{"a":1}\r', [{"a": 1}]),
        (b' \t{"a":1} ', [{"a": 1}]),
        (BOM + b'{"a":1}', [{"a": 1}]),
        (BOM + b'[{"a":1}]', [{"a": 1}]),
        (b'[{"a":1},{"b":2}]\r', [{"a": 1}, {"b": 2}]),
        (b' [ {"a":1} , {"b":2} ] ', [{"a": 1}, {"b": 2}]),
        (b'{"a":1,"a":2}', [{"a": 2}]),
        ('{"a":"żółć 😀"}'.encode(), [{"a": "żółć 😀"}]),
        (b'{"a":"\\ud83d\\ude00"}', [{"a": "😀"}]),
        (b'{"a":18446744073709551615}', [{"a": 2**64 - 1}]),
        (b"{}", [{}]),
        (b"[]", []),
        (b"[ ]\r", []),
        (b"", []),
        (b"\r", []),
        (b" \t\r", []),
        (BOM, []),
        (BOM + b"\r", []),
    ],
)
def test_good_lines(line: bytes, expected: list[dict[str, Any]]) -> None:
    """Objects, arrays of objects and blank lines are taken, whatever their line end or byte order mark."""
    events, refused = parse([line], 0, MIB)
    assert (expected, []) == ([each.fields for each in events], refused)


DEEP = 3000


@pytest.mark.parametrize(
    ("line", "path", "rule", "value"),
    [
        (b'{"a":1', "$", "json_invalid", '{"a":1'),
        (b"{'a': 1}", "$", "json_invalid", "{'a': 1}"),
        (b'{"a":1,}', "$", "json_invalid", '{"a":1,}'),
        (b"hello", "$", "json_invalid", "hello"),
        (b'{"a":"\\ud800"}', "$", "json_invalid", '{"a":"\\ud800"}'),
        (b'{"a":"b\x00"}', "$", "json_invalid", '{"a":"b\x00"}'),
        (b"1", "$", "not_an_object", "1"),
        (b'"text"', "$", "not_an_object", '"text"'),
        (b"null", "$", "not_an_object", "null"),
        (b"true", "$", "not_an_object", "true"),
        (b'{"a":"\xff"}', "$", "utf8_invalid", ""),
        (b'{"a":"\xed\xa0\x80"}', "$", "utf8_invalid", ""),
        ('{"a":"é"}'.encode("latin-1"), "$", "utf8_invalid", ""),
        ('{"a":1}'.encode("utf-16"), "$", "utf8_invalid", ""),
        (b'{"a":NaN}', "$.a", "not_finite", "NaN"),
        (b'{"a":{"b":[1,-Infinity]}}', "$.a.b[1]", "not_finite", "-Infinity"),
        (b'{"a.b":Infinity,"c":NaN}', "$['a.b']", "not_finite", "Infinity"),
        (b'{"a":1e999}', "$.a", "not_finite", "1e999"),
        (b'{"a":"NaN","b":-1e999}', "$.b", "not_finite", "-1e999"),
        (b'{"a":' + b"9" * 5000 + b"}", "$.a", "not_finite", "9" * 100),
        (BOM + b'{"a":NaN}', "$.a", "not_finite", "NaN"),
        (b'{"\\ud800":NaN}', "$['?']", "not_finite", "NaN"),
        (BOM * 2000 + b"{}", "$", "json_invalid", None),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "$", "json_invalid", None),
        (b"[" * DEEP + b"]" * DEEP, "$", "json_invalid", None),
        (b"[" * DEEP, "$", "json_invalid", None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bad_lines(line: bytes, path: str, rule: str, value: str | None) -> None:
    """What is not JSON is refused with reason json, the place, the rule, a short value and its original bytes."""
    events, (refusal,) = parse([b"{}", line, b"{}"], 5, 10 * MIB)
    assert [each.line for each in events] == [5, 7]
    assert (6, None, "json", path, rule) == refusal[:5]
    assert (line, len(line)) == (refusal.data, refusal.data_bytes)
    assert refusal.message.endswith(".")
    assert len(refusal.value) <= 100
    assert value is None or refusal.value == value


@pytest.mark.parametrize("depth", [100, 254, 255, 300, 900, 1000, 1023])
def test_array_in_array(depth: int) -> None:
    """Arrays in arrays are no events, however deep, and never raise."""
    events, refused = parse([b"[" * depth + b"]" * depth], 0, MIB)
    assert (events, len(refused)) == ([], 1)
    assert refused[0].reason == "json"


@pytest.mark.parametrize(
    ("line", "is_hinted"),
    [
        (b'{"a":1}{"b":2}', True),
        (b'{"a":1} {"b":2}', True),
        (b'{"a":1},{"b":2}', True),
        (b'{"a":1}[]', True),
        (b'{"a":1}x', False),
        (b'{"a":1},', False),
    ],
)
def test_two_events_on_a_line(line: bytes, is_hinted: bool) -> None:
    """Events run together are refused with what curl does to line ends as hint."""
    _, (refusal,) = parse([line], 0, MIB)
    assert refusal.rule == "json_invalid"
    assert is_hinted is ("--data-binary" in (refusal.hint or ""))


@pytest.mark.parametrize(
    ("line", "setting"),
    [
        (b"POST /v1/events HTTP/1.1\r", "http.port"),
        (b"GET / HTTP/1.0", "http.port"),
        (b"POSTED /v1/events", None),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xe5", "tcp.tls_port"),
        (b"\x16\x03\x01\x00\x01", "tcp.tls_port"),
        (b"\xe5", None),
    ],
)
def test_what_came_to_the_wrong_port(line: bytes, setting: str | None) -> None:
    """HTTP or TLS on the port for plain lines is refused with the port that it belongs to as hint."""
    _, (refusal,) = parse([line], 0, MIB)
    assert (refusal.hint is None) is (setting is None)
    assert setting is None or f"send it to {setting}." in (refusal.hint or "")


def test_not_finite_has_a_hint() -> None:
    """Who sends NaN is told what to send instead."""
    _, (refusal,) = parse([b'{"a":NaN}'], 0, MIB)
    assert refusal.hint == "Leave the field out, or send null."


BAD_ITEMS = {
    b"3": "not_an_object",
    b"[]": "not_an_object",
    b'{"a":NaN}': "not_finite",
    b'{"a":1e999}': "not_finite",
    b'{"a":"\xff"}': "utf8_invalid",
    b'{"a":"\\ud800"}': "json_invalid",
    b"NaN": "not_finite",
    b'{"a":"' + b"x" * 100 + b'"}': "too_large",
}


@pytest.mark.parametrize(("item", "rule"), BAD_ITEMS.items(), ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("space", [b"", b" ", b" \t "])
def test_a_bad_item_harms_no_other(item: bytes, rule: str, space: bytes) -> None:
    """In an array only the bad item is refused, by its number and with its own bytes."""
    line = b"[" + b",".join([b'{"a":1}', space + item + space, b'{"a":3}']) + b"]"
    events, (refusal,) = parse([line], 4, 100)
    assert [each[:3] for each in events] == [(4, 0, b'{"a":1}'), (4, 2, b'{"a":3}')]
    assert (4, 1, rule, item) == (refusal.line, refusal.item, refusal.rule, refusal.data)


@pytest.mark.parametrize(
    "line", [b'[{"a":1},]', b'[{"a":1} {"b":1}]', b'[{"a":1}', b'[{"a":1}]x', b'[{"a":NaN}]x', b"[,]"]
)
def test_broken_arrays(line: bytes) -> None:
    """An array that is broken itself is refused whole."""
    events, (refusal,) = parse([line], 0, MIB)
    assert ([], "json", None, line) == (events, refusal.reason, refusal.item, refusal.data)


@pytest.mark.parametrize(
    ("line", "is_taken"),
    [
        (b'{"a":"' + b"x" * 92 + b'"}', True),
        (b'{"a":"' + b"x" * 93 + b'"}', False),
        (b'{"a":"' + b"x" * 92 + b'"}\r', True),
        (BOM + b'{"a":"' + b"x" * 92 + b'"}', True),
        (b"[" + b'{"a":1},' * 50 + b"{}]", True),
        (b"x" * 101, False),
    ],
)
def test_max_line_bytes(line: bytes, is_taken: bool) -> None:
    """The limit is each event's own: neither an array around it nor a line end counts."""
    events, refused = parse([line], 0, 100)
    assert is_taken is bool(events)
    assert ([] if is_taken else ["too_large"]) == [each.reason for each in refused]


def test_too_large_keeps_the_beginning() -> None:
    """Of an event over the limit 4 KiB are kept, with its true length."""
    line = b'{"a":"' + b"x" * 9000 + b'"}'
    _, (refusal,) = parse([line], 0, 8000)
    assert (line[:4096], len(line), "too_large") == (refusal.data, refusal.data_bytes, refusal.reason)
    assert "8000" in refusal.message
    assert "tcp.max_line_bytes" in refusal.message


def test_whole_event_ids() -> None:
    """Two event ids that differ beyond the 53 bits of a float stay two."""
    low, high = 2**127, 2**127 + 1
    events, _ = parse([b'{"event_id":%d}' % low, b'[{"event_id":%d}]' % high], 0, MIB)
    assert [str(low), str(high)] == [each.fields["event_id"] for each in events]


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b'{"a":1}', b'[{"a":1},2]', b"[", b"NaN", BOM])))
def test_any_bytes(lines: list[bytes]) -> None:
    """Whatever a line holds, nothing raises and each line has its own verdicts, which are those it has alone."""
    events, refused = parse(lines, 0, 30)
    alone = [parse([line], number, 30) for number, line in enumerate(lines)]
    assert [each for found, _ in alone for each in found] == events
    assert [each for _, found in alone for each in found] == refused


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3), max_size=5))
def test_arrays_hold_their_items(items: list[dict[str, Any]]) -> None:
    """The items of an array are events with exactly the bytes they were sent as."""
    texts = [json.dumps(item).encode() for item in items]
    events, refused = parse([b"[" + b" , ".join(texts) + b"]"], 0, MIB)
    assert (texts, []) == ([each.data for each in events], refused)
