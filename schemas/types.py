"""The types fields are made of: what each takes from a client, and how each is stored.

Strictness, the same in every schema: strings take numbers, numbers take numeric strings, nothing
takes a boolean for something else, NaN and infinities are refused, `null` is for optional fields only.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Never, Union

import msgspec
from pydantic import Field, GetCoreSchemaHandler, PlainValidator, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError

Storage = Literal["keyword", "text", "double", "long", "boolean", "date", "object", "flat_object", "unindexed"]


@dataclass(frozen=True)
class Stored:
    """How a field is stored; the Elasticsearch mapping and the store's columns are read from this."""

    storage: Storage
    many: bool = False
    """A list of values: Elasticsearch maps it like one value, a column cannot hold it."""


@dataclass(frozen=True)
class FirstFault:
    """End at the first wrong item of a list or an object.

    No other is told, and to write down a hundred thousand of them takes a second. pydantic's own `FailFast` is not for
    objects.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Take the schema of what is annotated, with this changed."""
        schema: Any = handler(source)
        return {**schema, "fail_fast": True}


# Without nested repetition, so that a hostile megabyte of digits is matched in linear time.
_NUMBER = re.compile(r"\s*+[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_INTEGER = re.compile(r"\s*+[+-]?[0-9]+\s*")

_LARGEST_FLOAT = 1.7976931348623157e308
SMALLEST_LONG, LARGEST_LONG = -(2**63), 2**63 - 1
LONG = Annotated[int, msgspec.Meta(ge=SMALLEST_LONG, le=LARGEST_LONG)]
UNCHANGED: dict[Callable[[Any], Any], Any] = {}
"""For each check what it takes and gives back as it is, as a type of msgspec: not all that it takes."""
# Python reads no integer of more than 4300 digits; a long has 19.
_LONG_DIGITS = 40


def _read_number(value: Any, rule: Literal["float_type", "int_type"]) -> int | float:
    """Give the number that a numeric string spells; refuse everything else."""
    if type(value) is str and _NUMBER.fullmatch(value):
        if len(value) <= _LONG_DIGITS and _INTEGER.fullmatch(value):
            return int(value)
        return float(value)
    raise PydanticKnownError(rule)


def number_between(low: float | None = None, high: float | None = None) -> Callable[[Any], int | float]:
    """Make the check of a number field; an integer stays an integer and a float a float.

    One Python function a field: measured faster than the unions of pydantic's own validators that keep
    integers, and its errors have paths without the names of union members.
    """
    least = -_LARGEST_FLOAT if low is None else low
    most = _LARGEST_FLOAT if high is None else high
    # JSON encoders and stores end at 64 bits: an integer beyond them goes on as a float.
    least_integer = SMALLEST_LONG if low is None else max(SMALLEST_LONG, math.ceil(low))
    most_integer = LARGEST_LONG if high is None else min(LARGEST_LONG, math.floor(high))

    def check(value: Any) -> int | float:
        kind = type(value)
        if kind is float:
            if least <= value <= most:
                return value  # type: ignore[no-any-return]
        elif kind is int:
            if least_integer <= value <= most_integer:
                return value  # type: ignore[no-any-return]
        else:
            return check(_read_number(value, "float_type"))
        if not -_LARGEST_FLOAT <= value <= _LARGEST_FLOAT:  # also true for NaN
            raise PydanticKnownError("finite_number")
        if value < least:
            raise PydanticKnownError("greater_than_equal", {"ge": least})
        if value > most:
            raise PydanticKnownError("less_than_equal", {"le": most})
        return float(value)

    if float(least) == least and float(most) == most:
        floats = Annotated[float, msgspec.Meta(ge=float(least), le=float(most))]
        UNCHANGED[check] = floats
        if least_integer <= most_integer:
            UNCHANGED[check] = Union[_integers(least_integer, most_integer), floats]  # noqa: UP007
    return check


def integer_between(low: int = SMALLEST_LONG, high: int = LARGEST_LONG) -> Callable[[Any], int]:
    """Make the check of an integer field: integers, floats without a fraction and strings of either."""

    def check(value: Any) -> int:
        number = value if type(value) in (float, int) else _read_number(value, "int_type")
        if type(number) is float:
            if not math.isfinite(number):
                raise PydanticKnownError("finite_number")
            if not number.is_integer():
                raise PydanticKnownError("int_from_float")
            if number <= SMALLEST_LONG:  # smaller by one or more when it was sent, and rounded since
                raise PydanticKnownError("greater_than_equal", {"ge": low})
            number = int(number)
        if number > high:
            raise PydanticKnownError("less_than_equal", {"le": high})
        if number < low:
            raise PydanticKnownError("greater_than_equal", {"ge": low})
        return int(number)

    if SMALLEST_LONG <= low <= high <= LARGEST_LONG:
        UNCHANGED[check] = _integers(low, high)
    return check


def _integers(low: int, high: int) -> Any:
    return Annotated[int, msgspec.Meta(ge=low, le=high)]


def check_scalar(value: Any) -> Any:
    """Take a string, a finite number or a boolean, and keep it exactly as sent."""
    kind = type(value)
    if kind is str or kind is bool or kind is int or (kind is float and math.isfinite(value)):
        return value
    raise PydanticCustomError("scalar_type", "Input should be a string, a number or a boolean")


def check_moment(value: Any) -> Any:
    """Take what can be a point in time, a string or a number; reading it is the clock's work."""
    kind = type(value)
    if kind is str or kind is int or (kind is float and math.isfinite(value)):
        return value
    raise PydanticKnownError("datetime_type")


def refuse_name(_: Any) -> Never:
    """Refuse a field whose name Elasticsearch keeps for itself."""
    raise PydanticCustomError("reserved_name", "This name is reserved by Elasticsearch; rename the field")


UNCHANGED[check_scalar] = Union[str, bool, LONG, float]  # noqa: UP007 - as a type it is no constant
UNCHANGED[check_moment] = Union[str, LONG, float]  # noqa: UP007
UNCHANGED[refuse_name] = Annotated[float, msgspec.Meta(gt=1, lt=0)]  # none


# A JSON schema cannot bound the number that a string spells: those it takes are looked at here alone.
_NUMBER_TEXT = {"type": "string", "pattern": r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"}
_INTEGER_TEXT = {"type": "string", "pattern": r"^\s*[+-]?[0-9]+(\.0*)?\s*$"}


def between(low: float | None = None, high: float | None = None) -> tuple[Any, ...]:
    """Give what makes a number field with bounds: `Percent = Annotated[float, *between(0, 100)]`."""
    bounds = {name: bound for name, bound in (("minimum", low), ("maximum", high)) if bound is not None}
    schema = {"anyOf": [{"type": "number", **bounds}, _NUMBER_TEXT]}
    return PlainValidator(number_between(low, high)), WithJsonSchema(schema), Stored("double")


def whole_between(low: float | None = None, high: float | None = None) -> tuple[Any, ...]:
    """Give what makes an integer field with bounds: `Count = Annotated[int, *whole_between(0)]`."""
    least = SMALLEST_LONG if low is None else math.ceil(low)
    most = LARGEST_LONG if high is None else math.floor(high)
    schema = {"anyOf": [{"type": "integer", "minimum": least, "maximum": most}, _INTEGER_TEXT]}
    return PlainValidator(integer_between(least, most)), WithJsonSchema(schema), Stored("long")


# ISO 8601, or since 1970 in s, ms, us or ns, also as a string.
MOMENT_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": "^[0-9]{4}", "maxLength": 64}]
}
_TEXT_SCHEMA = WithJsonSchema({"type": ["string", "number"]})

Text = Annotated[str, Field(coerce_numbers_to_str=True), _TEXT_SCHEMA, Stored("keyword")]
FreeText = Annotated[str, Field(coerce_numbers_to_str=True), _TEXT_SCHEMA, Stored("text")]
Number = Annotated[float, *between()]
NotNegative = Annotated[float, *between(0)]
Fraction = Annotated[float, *between(0, 1)]
Integer = Annotated[int, *whole_between()]
Flag = Annotated[bool, Field(strict=True), Stored("boolean")]
Scalar = Annotated[
    str | float | bool,
    PlainValidator(check_scalar),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
    Stored("keyword"),
]
Moment = Annotated[
    str | float,
    PlainValidator(check_moment),
    WithJsonSchema(MOMENT_SCHEMA),
    Stored("date"),
]
Anything = Annotated[Any, Stored("keyword")]
Unindexed = Annotated[Any, Stored("unindexed")]
Object = Annotated[dict[str, Any], Stored("object")]
# Names with dots are common here (`val.loss` beside `val`) and must not become objects.
Numbers = Annotated[dict[str, Number | None], FirstFault(), Stored("flat_object")]
Texts = Annotated[dict[str, Text | None], FirstFault(), Stored("flat_object")]
TextList = Annotated[list[Text], FirstFault(), Stored("keyword", many=True)]
ReservedName = Annotated[Any, PlainValidator(refuse_name), WithJsonSchema({"not": {}})]
