import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas import types

ADAPTERS: dict[str, TypeAdapter[Any]] = {
    "Text": TypeAdapter(types.Text),
    "Number": TypeAdapter(types.Number),
    "NotNegative": TypeAdapter(types.NotNegative),
    "Fraction": TypeAdapter(types.Fraction),
    "Integer": TypeAdapter(types.Integer),
    "Flag": TypeAdapter(types.Flag),
    "Scalar": TypeAdapter(types.Scalar),
    "Moment": TypeAdapter(types.Moment),
    "Numbers": TypeAdapter(types.Numbers),
    "Texts": TypeAdapter(types.Texts),
    "TextList": TypeAdapter(types.TextList),
    "Anything": TypeAdapter(types.Anything),
}


@pytest.mark.parametrize(
    ("name", "sent", "kept"),
    [
        ("Text", "iris", "iris"),
        ("Text", "", ""),
        ("Text", 3, "3"),
        ("Text", 0.5, "0.5"),
        ("Number", 25, 25),
        ("Number", 0.5, 0.5),
        ("Number", -1.5, -1.5),
        ("Number", "25", 25),
        ("Number", "0.5", 0.5),
        ("Number", " -2 ", -2),
        ("Number", "+.5", 0.5),
        ("Number", "1e3", 1000.0),
        ("Number", 10**30, 1e30),
        ("Number", "1" * 60, float("1" * 60)),
        ("NotNegative", 0, 0),
        ("NotNegative", "250", 250),
        ("Fraction", 0, 0),
        ("Fraction", 1, 1),
        ("Fraction", 1.0, 1.0),
        ("Fraction", "0.97", 0.97),
        ("Integer", 3, 3),
        ("Integer", 3.0, 3),
        ("Integer", "3", 3),
        ("Integer", "3.0", 3),
        ("Integer", 2**63 - 1, 2**63 - 1),
        ("Flag", True, True),
        ("Flag", False, False),
        ("Scalar", "1", "1"),
        ("Scalar", 1, 1),
        ("Scalar", 1.0, 1.0),
        ("Scalar", True, True),
        ("Moment", "2024-01-15T10:00:00Z", "2024-01-15T10:00:00Z"),
        ("Moment", 1705312800, 1705312800),
        ("Numbers", {"rmse": "0.5", "epochs": 3, "r2": None}, {"rmse": 0.5, "epochs": 3, "r2": None}),
        ("Texts", {"app": "a", "port": 80}, {"app": "a", "port": "80"}),
        ("TextList", ["a", 3], ["a", "3"]),
        ("Anything", {"any": ["thing"]}, {"any": ["thing"]}),
    ],
)
def test_takes(name: str, sent: object, kept: object) -> None:
    """A field takes what its strictness allows, and gives a value of one type for it."""
    given_back = ADAPTERS[name].validate_python(sent)

    assert (kept, type(kept)) == (given_back, type(given_back))


@pytest.mark.parametrize(
    ("name", "sent", "rule"),
    [
        ("Text", True, "string_type"),
        ("Text", ["a"], "string_type"),
        ("Text", {"a": 1}, "string_type"),
        ("Text", None, "string_type"),
        ("Number", True, "float_type"),
        ("Number", "fast", "float_type"),
        ("Number", "", "float_type"),
        ("Number", "nan", "float_type"),
        ("Number", "inf", "float_type"),
        ("Number", "-Infinity", "float_type"),
        ("Number", "1_000", "float_type"),
        ("Number", "0x10", "float_type"),
        ("Number", "٣", "float_type"),
        ("Number", [1], "float_type"),
        ("Number", None, "float_type"),
        ("Number", math.nan, "finite_number"),
        ("Number", math.inf, "finite_number"),
        ("Number", -math.inf, "finite_number"),
        ("Number", "1e999", "finite_number"),
        ("Number", 10**400, "finite_number"),
        ("NotNegative", -1, "greater_than_equal"),
        ("NotNegative", "-0.1", "greater_than_equal"),
        ("NotNegative", math.nan, "finite_number"),
        ("Fraction", 1.7, "less_than_equal"),
        ("Fraction", 2, "less_than_equal"),
        ("Fraction", "1.7", "less_than_equal"),
        ("Fraction", -0.1, "greater_than_equal"),
        ("Fraction", math.inf, "finite_number"),
        ("Integer", 3.5, "int_from_float"),
        ("Integer", "3.5", "int_from_float"),
        ("Integer", "three", "int_type"),
        ("Integer", False, "int_type"),
        ("Integer", math.nan, "finite_number"),
        ("Integer", 2**63, "less_than_equal"),
        ("Integer", -(2**63) - 1, "greater_than_equal"),
        ("Flag", 1, "bool_type"),
        ("Flag", "true", "bool_type"),
        ("Scalar", {"a": 1}, "scalar_type"),
        ("Scalar", ["a"], "scalar_type"),
        ("Scalar", math.nan, "scalar_type"),
        ("Moment", True, "datetime_type"),
        ("Moment", {}, "datetime_type"),
        ("Numbers", {"rmse": "low"}, "float_type"),
        ("Numbers", [1], "dict_type"),
        ("Texts", {"app": True}, "string_type"),
        ("TextList", "a", "list_type"),
        ("TextList", [None], "string_type"),
    ],
)
def test_refuses(name: str, sent: object, rule: str) -> None:
    """A field refuses everything else with one error under a known rule."""
    with pytest.raises(ValidationError) as refusal:
        ADAPTERS[name].validate_python(sent)

    assert [rule] == [error["type"] for error in refusal.value.errors()]


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_and_its_spelling_are_the_same(number: float) -> None:
    """A number is kept as it is, and its text as a number is the same number."""
    adapter = ADAPTERS["Number"]

    assert number == adapter.validate_python(number)
    assert type(number) is type(adapter.validate_python(number))
    assert number == adapter.validate_python(str(number))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_fraction_is_never_outside_its_bounds(number: float) -> None:
    """A fraction is taken exactly when it is between 0 and 1."""
    try:
        taken = ADAPTERS["Fraction"].validate_python(number) == number
    except ValidationError:
        taken = False

    assert (0 <= number <= 1) == taken


@given(st.text(max_size=20))
def test_any_string_becomes_a_finite_number_or_is_refused(text: str) -> None:
    """No string makes a number field hold anything but a finite number."""
    try:
        number = ADAPTERS["Number"].validate_python(text)
    except ValidationError:
        return
    assert math.isfinite(number)


def test_a_hostile_string_of_digits_is_refused_at_once() -> None:
    """A megabyte of digits that is no number is refused without costing more than reading it."""
    with pytest.raises(ValidationError):
        ADAPTERS["Number"].validate_python("1" * 2**20 + "x")
