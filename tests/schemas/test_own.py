"""Fields and kinds of a user's own go with the built-in ones, or it is said why they cannot."""

from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

import pytest
from pydantic import Field, with_config

from schemas import BUILT_IN, Fault, Kind, Registry, fields, json_schema, own, properties, types
from schemas.event import KEEP_EXTRAS, Event
from schemas.types import Integer, Moment, Number, Stored, Text, between

INFERENCE = BUILT_IN.kinds["model_inference"]
TYPES = ["string", "text", "number", "integer", "boolean", "date"]


@with_config(KEEP_EXTRAS)
class Reading(Event, total=False):
    """One reading of a sensor."""

    sensor_id: Required[Annotated[Text, Field(description="The sensor.")]]
    celsius: Annotated[Number | None, Field(description="Temperature.")]
    humidity: Annotated[Annotated[float, *between(0, 100)] | None, Field(description="In percent.")]


SENSOR = Kind("sensor", "sensor", "ml-sensors", Reading, decided_by=("sensor_id",))


def with_fields(kind: Kind = INFERENCE, **types: str) -> Kind:
    """Return a kind with more fields, by name and type."""
    return own.extended(kind, {name: own.field(type) for name, type in types.items()})


def read(kind: Kind, event: dict[str, Any]) -> dict[str, Any] | Fault:
    """Validate one event."""
    (result,) = kind.validate([event])
    return result


@pytest.mark.parametrize(
    ("type", "sent", "kept"),
    [
        ("string", 3, "3"),
        ("text", "two words", "two words"),
        ("number", "0.5", 0.5),
        ("number", -1, -1),
        ("integer", "7", 7),
        ("integer", 7.0, 7),
        ("boolean", True, True),
        ("date", "2026-06-15T12:00:00Z", "2026-06-15T12:00:00Z"),
        *((type, None, None) for type in TYPES),
    ],
)
def test_an_extra_field_is_as_strict_as_a_built_in_one(type: str, sent: object, kept: object) -> None:
    """It takes what a built-in field of its type takes, and keeps it as that type; null is absent."""
    assert read(with_fields(x=type), {"model_name": "m", "x": sent}) == {"model_name": "m", "x": kept}


@pytest.mark.parametrize(
    ("type", "sent", "rule"),
    [
        ("string", True, "string_type"),
        ("text", {"a": 1}, "string_type"),
        ("number", "fast", "float_type"),
        ("number", True, "float_type"),
        ("integer", 1.5, "int_from_float"),
        ("integer", 2**63, "less_than_equal"),
        ("boolean", "true", "bool_type"),
        ("boolean", 1, "bool_type"),
        ("date", True, "datetime_type"),
    ],
)
def test_an_extra_field_refuses_what_a_built_in_one_refuses(type: str, sent: object, rule: str) -> None:
    """The fault has the field's path and the rule."""
    fault = read(with_fields(x=type), {"model_name": "m", "x": sent})
    assert isinstance(fault, Fault)
    assert (fault.path, fault.rule) == ("$.x", rule)


@pytest.mark.parametrize("type", ["number", "integer"])
@pytest.mark.parametrize(("sent", "rule"), [(-1, "greater_than_equal"), ("6", "less_than_equal"), (0, None), (5, None)])
def test_bounds(type: str, sent: object, rule: str | None) -> None:
    """What is beyond the bounds is refused, also as a string."""
    kind = own.extended(INFERENCE, {"x": own.field(type, minimum=0, maximum=5)})
    result = read(kind, {"model_name": "m", "x": sent})
    assert (result.rule if isinstance(result, Fault) else None) == rule


def test_bounds_beyond_64_bits_keep_numbers_storable() -> None:
    """An integer that no store can hold goes on as a float, whatever the bounds."""
    kind = own.extended(INFERENCE, {"x": own.field("number", maximum=1e40)})
    result = read(kind, {"model_name": "m", "x": 10**30})
    assert isinstance(result, dict)
    assert type(result["x"]) is float


@pytest.mark.parametrize(
    ("type", "mapped", "column"),
    [
        ("string", {"type": "keyword", "ignore_above": 8191}, "keyword"),
        ("text", {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 1024}}}, "text"),
        ("number", {"type": "double"}, "double"),
        ("integer", {"type": "long"}, "long"),
        ("boolean", {"type": "boolean"}, "boolean"),
        ("date", {"type": "date"}, "date"),
    ],
)
def test_an_extra_field_is_mapped_and_has_a_column(type: str, mapped: dict[str, Any], column: str) -> None:
    """Template and columns have it like a built-in field of its type; all others stay as they are."""
    registry = Registry([with_fields(x=type)])
    assert properties(registry.kinds["model_inference"]) == {**properties(INFERENCE), "x": mapped}
    assert registry.columns("ml-metrics") == {**BUILT_IN.columns("ml-metrics"), "x": column}


def test_what_a_kind_requires_it_still_requires() -> None:
    """An extra field changes no verdict on the others, also where they are required for want of ``total=False``."""

    @with_config(KEEP_EXTRAS)
    class Strict(Event):
        sensor_id: Annotated[Text, Field(description="The sensor.")]
        room: NotRequired[Annotated[Text, Field(description="Where.")]]

    for kind in (Kind("s", "s", "ml-s", Strict), with_fields(Kind("s", "s", "ml-s", Strict), x="string")):
        refused = read(kind, {"x": "1"})
        assert isinstance(refused, Fault)
        assert (refused.path, refused.rule) == ("$.sensor_id", "missing")
        assert read(kind, {"sensor_id": 1, "x": "1"}) == {"sensor_id": "1", "x": "1"}


def test_an_extended_kind_is_otherwise_as_before() -> None:
    """What is required, reserved or kept stays so, and a wrong name is still guessed."""
    kind = with_fields(x="number")
    assert read(kind, {"model_name": "m", "unknown": [1]}) == {"model_name": "m", "unknown": [1]}
    for event, path, rule in (
        ({"x": 1}, "$.model_name", "missing"),
        ({"model_name": "m", "_id": 1}, "$._id", "reserved_name"),
        ({"model_name": "m", "prediction_confidence": 2}, "$.prediction_confidence", "less_than_equal"),
    ):
        fault = read(kind, event)
        assert isinstance(fault, Fault)
        assert (fault.path, fault.rule) == (path, rule)
    fault = read(kind, {"model_nam": "m"})
    assert isinstance(fault, Fault)
    assert fault.hint == '"model_nam" was sent: did you mean "model_name"?'


@pytest.mark.parametrize(
    "name", ["model_name", "Model_Name", "confidence_level", "timestamp", "@timestamp", "received_at", "tenant", "type",
             "event_id", "_id", "_key", "rowid", "a.b", "a b", "1a", "", "é"],
)  # fmt: skip
def test_names_that_cannot_be(name: str) -> None:
    """A name that is taken, reserved, or that a store would read otherwise is refused with what to do."""
    told = own.wrong_field(INFERENCE, name)
    assert told is not None
    assert told.endswith("choose another name")


@pytest.mark.parametrize("name", ["tokens", "x-y", "row", "v", "old", "class", "model_nam", "error_message2"])
def test_names_that_can_be(name: str) -> None:
    """Any other name is good, also one that is a word of Python or SQL."""
    assert own.wrong_field(INFERENCE, name) is None
    assert read(own.extended(INFERENCE, {name: own.field("integer")}), {"model_name": "m", name: "1"}) == {
        "model_name": "m",
        name: 1,
    }


def test_a_kind_of_ones_own_is_sound() -> None:
    """A kind made like the built-in ones has nothing wrong, is chosen by type and by its key."""
    assert list(own.wrong_kind(SENSOR)) == []
    kinds = [SENSOR, *BUILT_IN.kinds.values()]
    assert list(own.clashes(kinds, [SENSOR])) == []
    registry = Registry(kinds)
    assert registry.choose({"type": "sensor", "model_name": "m"}) is SENSOR
    assert registry.choose({"sensor_id": 1}) is SENSOR
    assert registry.choose({"sensor_id": 1, "message": "m"}) is SENSOR
    assert "sensor_id" in registry.unknown_kind_hint()
    assert registry.split("team-ml-sensors-2026.01.31") == ("team-", "ml-sensors")


def test_one_of_several_words() -> None:
    """A Literal of strings is checked, stored as a keyword and described with its words, with `| None` and without."""

    @with_config(KEEP_EXTRAS)
    class Answer(Event, total=False):
        finish_reason: Annotated[Literal["stop", "length"] | None, Field(description="Why it ended.")]
        role: Literal["user", "model"]

    kind = Kind("answer", "answer", "ml-answers", Answer)
    assert list(own.wrong_kind(kind)) == []
    registry = Registry([kind])
    assert registry.columns("ml-answers").items() >= {"finish_reason": "keyword", "role": "keyword"}.items()
    assert properties(kind)["role"] == properties(INFERENCE)["region"]
    described = {each["name"]: each for each in fields(kind)}
    assert (described["role"]["type"], described["role"]["values"]) == ("string", ["user", "model"])
    assert described["finish_reason"]["values"] == ["stop", "length"]
    assert json_schema(kind)["properties"]["role"]["enum"] == ["user", "model"]
    assert read(kind, {"finish_reason": None, "role": "user"}) == {"finish_reason": None, "role": "user"}
    fault = read(kind, {"finish_reason": "tired"})
    assert isinstance(fault, Fault)
    assert (fault.path, fault.rule) == ("$.finish_reason", "literal_error")


def test_every_type_that_is_named_can_be_stored() -> None:
    """What a refusal tells to take is good for a field of one's own."""
    assert {"Text", "Number", "Integer", "Flag", "Moment", "TextList"} <= set(own.TYPES)
    for name in own.TYPES:
        event = bounded(Annotated[getattr(types, name) | None, Field(description=name)])
        assert list(own.wrong_kind(Kind("s", "s", "ml-s", event))) == []


class Plain(TypedDict):
    """Not based on Event."""

    x: Text


class Forgetful(Event, total=False):
    """Without the configuration that keeps unknown fields."""

    x: Text


@with_config(KEEP_EXTRAS)
class Untyped(Event, total=False):
    """With a type of which nobody knows how to store it."""

    x: int


@with_config(KEEP_EXTRAS)
class Numbered(Event, total=False):
    """With one of several numbers."""

    x: Literal[1, 2]


def bounded(hint: Any) -> Any:
    """Return an event with one field."""

    @with_config(KEEP_EXTRAS)
    class Bounded(Event, total=False):
        x: hint

    return Bounded


BOUNDED = [
    bounded(hint)
    for hint in (
        Annotated[Integer, Field(ge=1, le=5, description="x")],
        Annotated[Integer | None, Field(le=5)],
        Annotated[Annotated[Number, Field(gt=0)] | None, Field(description="x")],
        Required[Annotated[Moment, Field(lt=5)]],
    )
]


@with_config(KEEP_EXTRAS)
class Taken(Event, total=False):
    """With a field that the gateway adds."""

    received_at: Text


@with_config(KEEP_EXTRAS)
class Capitals(Event, total=False):
    """With two fields that would be one column."""

    x: Text
    X: Number


@with_config(KEEP_EXTRAS)
class Unheard(Event, total=False):
    """With an annotation that means nothing."""

    x: "Nothing"  # type: ignore[name-defined]  # noqa: F821


@with_config(KEEP_EXTRAS)
class Unschemed(Event, total=False):
    """With a type that pydantic does not know."""

    x: Annotated[memoryview, Stored("keyword")]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "Sensor 1"}, "its name 'Sensor 1'"),
        ({"name": None}, "its name None"),
        ({"type": ""}, "its type ''"),
        ({"index": "ML-Sensors"}, "its index 'ML-Sensors'"),
        ({"index": "-sensors"}, "its index '-sensors'"),
        ({"index": "ml-sensors-2026.01.01"}, "its index"),
        ({"decided_by": "sensor_id"}, "decided_by 'sensor_id'"),
        ({"added": Reading}, "added and document"),
        ({"event": dict}, "its event dict must be a TypedDict"),
        ({"event": Plain}, "its event Plain must be a TypedDict based on schemas.event.Event"),
        ({"event": Forgetful}, "@with_config(KEEP_EXTRAS) above Forgetful"),
        ({"event": Untyped}, "Untyped.x is of no type that can be stored: take Text, FreeText, Number,"),
        ({"event": Numbered}, "Numbered.x is of no type that can be stored"),
        *(({"event": bounded}, "Bounded.x has its bounds in Field: write Annotated[float,") for bounded in BOUNDED),
        ({"event": Taken}, "Taken.received_at: the gateway uses this name itself"),
        ({"event": Capitals}, "Capitals.X: it differs from 'x' only in capitals"),
        ({"event": Unheard}, "Unheard cannot be used: name 'Nothing' is not defined"),
        ({"event": Unschemed}, "Unschemed cannot be used: "),
    ],
)
def test_what_is_wrong_with_a_kind(changes: dict[str, Any], told: str) -> None:
    """Each mistake in a kind of one's own is one sentence."""
    (sentence,) = own.wrong_kind(Kind(**{"name": "s", "type": "s", "index": "ml-s", "event": Reading, **changes}))
    assert told in sentence


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"type": "log"}, "has the type 'log' of kind 'log'"),
        ({"index": "ml-metrics"}, "has the index 'ml-metrics' of kind 'model_inference'"),
        ({"index": "ml-metrics-eu"}, "cannot be told from 'ml-metrics'"),
        ({"decided_by": ("message",)}, "is decided by 'message', which is 'log' already"),
    ],
)
def test_what_gets_in_the_way_of_another_kind(changes: dict[str, Any], told: str) -> None:
    """A kind that would take another's type, index or key is told with both names."""
    kind = Kind(**{"name": "s", "type": "s", "index": "ml-s", "event": Reading, **changes})
    (sentence,) = own.clashes([*BUILT_IN.kinds.values(), kind], [kind])
    assert told in sentence
    assert "choose another" in sentence


def test_kinds_of_ones_own_may_share_an_index_when_they_agree() -> None:
    """Two kinds in one index are fine until one of their fields is of two types."""
    other = Kind("probe", "probe", "ml-sensors", Reading)
    assert list(own.clashes([SENSOR, other], [SENSOR, other])) == []
    for left, right in (("string", "number"), ("text", "string")):
        kinds = [with_fields(SENSOR, x=left), with_fields(other, x=right)]
        (sentence,) = own.clashes(kinds, kinds)
        assert (
            "the field 'x' of kind 'probe' and the field 'x' of kind 'sensor' share the index 'ml-sensors'" in sentence
        )
    (sentence,) = own.clashes(kinds := [with_fields(SENSOR, x="string"), with_fields(other, X="string")], kinds)
    assert "give them the same name and type" in sentence
