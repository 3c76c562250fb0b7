import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichers import latency


@pytest.mark.parametrize(
    ("value", "category"),
    [
        (0, "fast"),
        (49.999, "fast"),
        (50, "normal"),
        (50.0, "normal"),
        (199, "normal"),
        (200, "slow"),
        (999.9, "slow"),
        (1000, "very_slow"),
        (1e12, "very_slow"),
    ],
)
def test_categories(value: float, category: str) -> None:
    """A bound no longer belongs to the category it closes."""
    assert {"latency_category": category} == latency()({"inference_time_ms": value})


@pytest.mark.parametrize("event", [{}, {"inference_time_ms": None}])
def test_nothing_without_a_duration(event: dict[str, object]) -> None:
    """Without a duration there is no category."""
    assert latency()(event) == {}


def test_own_bounds() -> None:
    """Bounds are settings."""
    enrich = latency(fast=1, normal=2, slow=3)

    assert [enrich({"inference_time_ms": value})["latency_category"] for value in (0, 1, 2, 3)] == [
        "fast",
        "normal",
        "slow",
        "very_slow",
    ]


@pytest.mark.parametrize(("fast", "normal", "slow"), [(300, 200, 1000), (50, 2000, 1000), (math.nan, 200, 1000)])
def test_bounds_must_rise(fast: float, normal: float, slow: float) -> None:
    """Bounds that do not rise are refused before any event."""
    with pytest.raises(ValueError, match="must rise"):
        latency(fast=fast, normal=normal, slow=slow)


@given(st.floats(0, 2000), st.floats(0, 2000))
def test_longer_is_never_faster(one: float, other: float) -> None:
    """The category slows with the duration."""
    enrich, order = latency(), ["fast", "normal", "slow", "very_slow"]
    short, long = (enrich({"inference_time_ms": value}) for value in sorted((one, other)))

    assert order.index(short["latency_category"]) <= order.index(long["latency_category"])
