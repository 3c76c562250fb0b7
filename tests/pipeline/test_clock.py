"""When an event happened."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pipeline.block import Refusal
from gateway.pipeline.clock import Clock, Moment
from gateway.pipeline.configured import make_digest
from gateway.settings import Settings
from schemas import BUILT_IN
from schemas.fault import Fault
from tests.pipeline.blocks import new_block

NOW = datetime(2026, 6, 15, 12, 0, 0, 250_000, tzinfo=UTC).timestamp()
NOW_TEXT = "2026-06-15T12:00:00.250Z"


def read(value: Any, zone: str = "UTC", name: str = "timestamp", now: float = NOW) -> Moment | Fault:
    return Clock(zone, None, 1e12).at(now).of_event({name: value})


@pytest.mark.parametrize(
    ("sent", "text", "day"),
    [
        # Already UTC with Z: byte for byte.
        ("2026-06-15T10:00:00Z", None, "2026.06.15"),
        ("2026-06-15T10:00:00.5Z", None, "2026.06.15"),
        ("2026-06-15T10:00:00.000Z", None, "2026.06.15"),
        ("2026-06-15T10:00:00.123456789Z", None, "2026.06.15"),
        ("2026-06-15T10:00Z", None, "2026.06.15"),
        ("2024-02-29T23:59:59.999999Z", None, "2024.02.29"),
        ("0001-01-01T00:00:00Z", None, "0001.01.01"),
        # With another zone, or another spelling.
        ("2026-06-15T10:00:00+02:00", "2026-06-15T08:00:00Z", "2026.06.15"),
        ("2026-06-15T10:00:00+0200", "2026-06-15T08:00:00Z", "2026.06.15"),
        ("2026-06-15T10:00:00+02", "2026-06-15T08:00:00Z", "2026.06.15"),
        ("2026-06-15T10:00:00-00:00", "2026-06-15T10:00:00Z", "2026.06.15"),
        ("2026-06-15T10:00:00.25+00:00", "2026-06-15T10:00:00.250Z", "2026.06.15"),
        ("2026-06-15T10:00:00.123456+00:00", "2026-06-15T10:00:00.123456Z", "2026.06.15"),
        ("2026-06-15T10:00:00,5+00:00", "2026-06-15T10:00:00.500Z", "2026.06.15"),
        ("2026-06-15 10:00:00Z", "2026-06-15T10:00:00Z", "2026.06.15"),
        ("2026-06-15 10:00:00 +02:00", "2026-06-15T08:00:00Z", "2026.06.15"),
        ("2026-06-15t10:00:00z", "2026-06-15T10:00:00Z", "2026.06.15"),
        ("20260615T100000Z", "2026-06-15T10:00:00Z", "2026.06.15"),
        ("2026-W25-1", "2026-06-15T00:00:00Z", "2026.06.15"),
        # Over midnight.
        ("2026-06-15T01:30:00+02:00", "2026-06-14T23:30:00Z", "2026.06.14"),
        ("2026-06-14T22:30:00-02:00", "2026-06-15T00:30:00Z", "2026.06.15"),
        ("2026-01-01T00:30:00+01:00", "2025-12-31T23:30:00Z", "2025.12.31"),
        # Naive is UTC here.
        ("2026-06-15T10:00:00", "2026-06-15T10:00:00Z", "2026.06.15"),
        ("2026-06-15 10:00:00.123", "2026-06-15T10:00:00.123Z", "2026.06.15"),
        ("2026-06-15", "2026-06-15T00:00:00Z", "2026.06.15"),
        # Numbers: below 1e11 s, below 1e14 ms, below 1e17 us, else ns.
        (1781517600, "2026-06-15T10:00:00Z", "2026.06.15"),
        (1781517600.5, "2026-06-15T10:00:00.500Z", "2026.06.15"),
        ("1781517600", "2026-06-15T10:00:00Z", "2026.06.15"),
        ("1781517600.25", "2026-06-15T10:00:00.250Z", "2026.06.15"),
        (1781517600123, "2026-06-15T10:00:00.123Z", "2026.06.15"),
        (1781517600123.0, "2026-06-15T10:00:00.123Z", "2026.06.15"),
        (1781517600123456, "2026-06-15T10:00:00.123456Z", "2026.06.15"),
        (1781517600123456789, "2026-06-15T10:00:00.123456789Z", "2026.06.15"),
        (1781517600123456000, "2026-06-15T10:00:00.123456Z", "2026.06.15"),
        (1781517600500000000.0, "2026-06-15T10:00:00.500Z", "2026.06.15"),
        (0, "1970-01-01T00:00:00Z", "1970.01.01"),
        (99_999_999_999, "5138-11-16T09:46:39Z", "5138.11.16"),
        (100_000_000_000, "1973-03-03T09:46:40Z", "1973.03.03"),
        (1e11, "1973-03-03T09:46:40Z", "1973.03.03"),
        (99_999_999_999_999, "5138-11-16T09:46:39.999Z", "5138.11.16"),
        (100_000_000_000_000, "1973-03-03T09:46:40Z", "1973.03.03"),
        (99_999_999_999_999_999, "5138-11-16T09:46:39.999999Z", "5138.11.16"),
        (100_000_000_000_000_000, "1973-03-03T09:46:40Z", "1973.03.03"),
    ],
)
def test_spellings(sent: Any, text: str | None, day: str) -> None:
    """Every spelling of a time becomes UTC text and its UTC day; UTC with Z stays byte for byte."""
    assert Moment(sent if text is None else text, day) == read(sent)


@pytest.mark.parametrize(
    ("sent", "zone", "text"),
    [
        ("2026-06-15T10:00:00", "Europe/Berlin", "2026-06-15T08:00:00Z"),
        ("2026-01-15T10:00:00", "Europe/Berlin", "2026-01-15T09:00:00Z"),
        ("2026-06-15", "Europe/Berlin", "2026-06-14T22:00:00Z"),
        ("2026-03-29T02:30:00", "Europe/Berlin", "2026-03-29T01:30:00Z"),  # there is no such hour
        ("2026-10-25T02:30:00", "Europe/Berlin", "2026-10-25T00:30:00Z"),  # there it is twice
        ("2026-06-15T10:00:00Z", "Europe/Berlin", "2026-06-15T10:00:00Z"),
        ("2026-06-15T10:00:00+01:00", "Europe/Berlin", "2026-06-15T09:00:00Z"),
        (1781517600, "Europe/Berlin", "2026-06-15T10:00:00Z"),
    ],
)
def test_naive_timezone(sent: Any, zone: str, text: str) -> None:
    """A time without a zone means events.naive_timezone; one with a zone, or a number, does not."""
    moment = read(sent, zone)
    assert (text, text[:10].replace("-", ".")) == moment[:2]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, NOW_TEXT),
        ({"timestamp": None, "@timestamp": None}, NOW_TEXT),
        ({"timestamp": 1781517600}, "2026-06-15T10:00:00Z"),
        ({"@timestamp": None, "timestamp": 1781517600}, "2026-06-15T10:00:00Z"),
        ({"@timestamp": "2026-06-15T09:00:00Z", "timestamp": 1781517600}, "2026-06-15T09:00:00Z"),
        ({"@timestamp": "2026-06-15T09:00:00Z", "timestamp": "nonsense"}, "2026-06-15T09:00:00Z"),
        ({"@timestamp": "2026-06-15T09:00:00Z", "timestamp": None}, "2026-06-15T09:00:00Z"),
    ],
)
def test_which_field(fields: dict[str, Any], text: str) -> None:
    """@timestamp decides, then timestamp, then the time of receipt; null is absent."""
    assert Moment(text, "2026.06.15") == Clock("UTC", 90, 600).at(NOW).of_event(fields)


@pytest.mark.parametrize("name", ["timestamp", "@timestamp"])
@pytest.mark.parametrize(
    "sent",
    [
        "", " ", "yesterday", "2026-02-30", "2026-06-15T25:00:00Z", "2016-12-31T23:59:60Z", "2026-06-15T10:00:00ZZ",
        "2026-06-15T10:00:00Z\n", "15.06.2026", "06/15/2026", "12:00", "2026-06", "-2026-06-15", "+12026-06-15",
        "２０２６-06-15", "１７８１５１７６００", "1" * 5000, "-" * 100_000, "nan", "1e9",
        True, False, -1, -0.5, -(10**30), 10**30, 1e300, float("nan"), float("inf"), float("-inf"),
        [], {}, [1781517600], {"$date": 1},
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_unreadable(name: str, sent: Any) -> None:
    """What is no time is refused as such, with the field's path and the value in at most 100 characters."""
    fault = read(sent, name=name)
    assert isinstance(fault, Fault)
    assert ("$.timestamp" if name == "timestamp" else "$['@timestamp']", "timestamp_invalid") == fault[:2]
    assert len(fault.value) <= 100


@pytest.mark.parametrize(
    ("days", "sent", "rule", "hint"),
    [
        (90, "2026-03-17T12:00:01Z", None, ""),
        (90, "2026-03-17T12:00:00Z", "too_old", "events.max_age_days"),
        (90, "0001-01-01T00:00:00+14:00", "too_old", "clock"),
        (90, 0, "too_old", "clock"),
        (None, "1970-01-01T00:00:00Z", None, ""),
        (10**9, "1970-01-01T00:00:00Z", None, ""),
        (90, "2026-06-15T12:10:00Z", None, ""),
        (90, "2026-06-15T12:10:01Z", "in_the_future", "clock"),
        (90, "2026-06-15T14:00:00", "in_the_future", "events.naive_timezone"),
        (90, "2026-06-15 14:17:00.5", "in_the_future", "events.naive_timezone"),
        (90, "2026-06-15T14:17:00Z", "in_the_future", "clock"),
        (90, "2026-06-15T16:17:00+02:00", "in_the_future", "clock"),
        (90, "2026-06-15T16:00:00+02:00", "in_the_future", "clock"),
        (90, 1781532000, "in_the_future", "clock"),
        (90, "1781532000", "in_the_future", "clock"),
        # Local time of Berlin, Kolkata and Kathmandu, marked as UTC.
        (90, "2026-06-15T13:59:58Z", "in_the_future", "marked as UTC"),
        (90, "2026-06-15T17:29:30.123Z", "in_the_future", "marked as UTC"),
        (90, "2026-06-15T17:45:20+00:00", "in_the_future", "marked as UTC"),
        (90, "2026-07-15T12:00:00Z", "in_the_future", "clock"),
        (90, "9999-12-31T23:59:59.999999-14:00", "in_the_future", "clock"),
        (None, "9999-12-31T23:59:59Z", "in_the_future", "clock"),
    ],
)
def test_too_far(days: int | None, sent: Any, rule: str | None, hint: str) -> None:
    """Older than max_age_days or further ahead than max_future_secs is refused, with a hint at what is wrong."""
    found = Clock("UTC", days, 600).at(NOW).of_event({"timestamp": sent})
    if rule is None:
        assert isinstance(found, Moment)
        return
    assert isinstance(found, Fault)
    assert (rule, json.dumps(sent)) == (found.rule, found.value)
    assert hint in (found.hint or "")


@pytest.mark.parametrize(
    ("limit", "hint"),
    [
        ({}, "set events.max_age_days"),
        ({"events": {"max_age_days": 7}}, "raise events.max_age_days"),
        ({"elasticsearch": {"urls": ["http://127.0.0.1:1"]}}, "raise events.max_age_days"),
        (
            {"elasticsearch": {"urls": ["http://127.0.0.1:1"], "retention_days": 7}, "events": {"max_age_days": 90}},
            "raise elasticsearch.retention_days",
        ),
    ],
)
def test_the_hint_names_the_setting_that_allows_more(limit: dict[str, Any], hint: str) -> None:
    """Who follows the hint of an event that is too old, whichever limit it broke, has it taken."""
    event = {"model_name": "m", "timestamp": datetime.fromtimestamp(NOW - 91 * 86400, UTC).isoformat()}

    def refused(settings: dict[str, Any]) -> list[Refusal]:
        work = make_digest(Settings(**settings), BUILT_IN).block(new_block(event), NOW)
        work.step()
        return work.refusals

    (refusal,) = refused(limit)
    assert hint in (refusal.hint or "")
    section, setting = hint.split()[1].split(".")
    followed = {**limit, section: {**limit.get(section, {}), setting: 92}}
    if section == "elasticsearch":
        followed["events"] = {"max_age_days": 92}
    assert refused(followed) == []


@pytest.mark.parametrize("sent", ["0001-01-01T00:00:00+14:00", "0001-01-01", "9999-12-31T23:59:59-14:00", "9999-12-31"])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_the_ends_of_the_calendar(sent: str, zone: str) -> None:
    """A time at the edge of what a clock can hold is read or refused, and never raises."""
    for days in (None, 1, 10**9):
        for future in (0, 600, 1e15):
            found = Clock(zone, days, future).at(NOW).of_event({"timestamp": sent})
            assert isinstance(found, Fault) or len(found.day) == 10


@pytest.mark.parametrize("name", ["Europe/Nowhere", "", "../etc/passwd", "/etc/passwd"])
def test_unknown_zone(name: str) -> None:
    """A time zone that does not exist is said at the start, by name."""
    with pytest.raises(ValueError, match="is not a time zone, such as"):
        Clock(name, 90, 600)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes().map(str),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["UTC", "Europe/Berlin"]), st.sampled_from([None, 90]))
def test_any_json(value: Any, zone: str, days: int | None) -> None:
    """Whatever a client sends as time, it is a moment with a day, or a fault; nothing raises."""
    found = Clock(zone, days, 600).at(NOW).of_event({"timestamp": value})
    if isinstance(found, Moment):
        assert found.text.endswith("Z")
        assert found.text[:10].replace("-", ".") == found.day
    else:
        assert found.rule in ("timestamp_invalid", "too_old", "in_the_future")
    assert value is not None or found == Moment(NOW_TEXT, "2026.06.15")


def test_deep_value() -> None:
    """A time that is a deep nest is refused like any other nonsense."""
    nest: Any = []
    for _ in range(950):
        nest = [nest]
    found = read(nest)
    assert isinstance(found, Fault)
    assert found.value == "[" * 100


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(5000, 1, 1)))
def test_numbers_and_text_agree(when: datetime) -> None:
    """A moment is the same as ISO text and as microseconds since 1970."""
    micros = (when - datetime(1970, 1, 1)) // (datetime.resolution)
    expected = read(when.isoformat())
    if micros >= 10**14:
        assert expected == read(micros)
    assert expected == read(when.isoformat() + "+00:00")


DAY = 86400.0


def test_events_that_came_earlier() -> None:
    """What came days ago was received then, but is too old or too new by the clock of now."""
    clock = Clock("UTC", 10, 600).at(NOW - 5 * DAY, NOW)

    assert clock.of_event({}) == clock.received == Moment("2026-06-10T12:00:00.250Z", "2026.06.10")
    for at, rule in ((NOW - 9 * DAY, None), (NOW - 11 * DAY, "too_old"), (NOW, None), (NOW + 700, "in_the_future")):
        found = clock.of_event({"timestamp": at})
        assert (found.rule if isinstance(found, Fault) else None) == rule


def test_receipt_too_long_ago() -> None:
    """An event without a time of its own is as old as its receipt."""
    found = Clock("UTC", 10, 600).at(NOW - 11 * DAY, NOW).of_event({})

    assert isinstance(found, Fault)
    assert (found.path, found.rule, found.value) == ("$.timestamp", "too_old", '"2026-06-04T12:00:00.250Z"')


@pytest.mark.parametrize(
    ("first", "then", "is_taken"),
    [
        ("2026-06-15T12:10:00Z", "2026-06-15T12:10:00.25Z", True),
        ("2026-06-15T12:10:00Z", "2026-06-15T12:10:00.251Z", False),
        ("2026-06-14T12:00:00.9Z", "2026-06-14T12:00:00.25Z", True),
        ("2026-06-14T12:00:00.9Z", "2026-06-14T12:00:00.249Z", False),
        ("2026-06-15T10:00:00Z", "2026-06-15T10:00:00.123456789Z", True),
        ("2026-06-15T10:00:00Z", "2026-06-15T10:00:00.1x", False),
        ("2026-06-15T10:00:00Z", "2026-06-15T10:00:00.٣Z", False),
        ("2026-06-15T10:00:00Z", "2026-06-15T10:00:00+02:00Z", False),
    ],
)
def test_another_time_of_a_second(first: str, then: str, is_taken: bool) -> None:
    """Of a second that was read before each time has its own verdict."""
    clock = Clock("UTC", 1, 600).at(NOW)
    assert isinstance(clock.read("timestamp", first), Moment)
    assert isinstance(clock.read("timestamp", then), Moment) is is_taken
