import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichers import confidence


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (1, "high"),
        (0.97, "high"),
        (0.85, "high"),
        (math.nextafter(0.85, 0), "medium"),
        (0.70, "medium"),
        (math.nextafter(0.70, 0), "low"),
        (0.0, "low"),
        (0, "low"),
    ],
)
def test_levels(value: float, level: str) -> None:
    """A threshold belongs to the level it opens."""
    assert {"confidence_level": level} == confidence()({"prediction_confidence": value})


@pytest.mark.parametrize("event", [{}, {"prediction_confidence": None}])
def test_nothing_without_a_confidence(event: dict[str, object]) -> None:
    """Without a confidence there is no level."""
    assert confidence()(event) == {}


def test_own_thresholds() -> None:
    """Thresholds are settings."""
    enrich = confidence(high=0.5, medium=0.25)

    assert enrich({"prediction_confidence": 0.5}) == {"confidence_level": "high"}
    assert enrich({"prediction_confidence": 0.25}) == {"confidence_level": "medium"}
    assert enrich({"prediction_confidence": 0.2}) == {"confidence_level": "low"}


@pytest.mark.parametrize(("high", "medium"), [(0.5, 0.6), (math.nan, 0.5), (0.5, math.nan)])
def test_thresholds_must_rise(high: float, medium: float) -> None:
    """Thresholds that do not rise are refused before any event."""
    with pytest.raises(ValueError, match="must rise"):
        confidence(high=high, medium=medium)


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_confidence_is_never_a_lower_level(one: float, other: float) -> None:
    """The level rises with the confidence."""
    enrich, order = confidence(), ["low", "medium", "high"]
    low, high = (enrich({"prediction_confidence": value}) for value in sorted((one, other)))

    assert order.index(low["confidence_level"]) <= order.index(high["confidence_level"])
