"""Fields and kinds of a user's own: how they are made, and what they must be to go with the rest."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, NotRequired, Required, get_origin, get_type_hints

from pydantic import Field, TypeAdapter
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict, is_typeddict

from schemas import types
from schemas.added import Stamps
from schemas.event import KEEP_EXTRAS, Event
from schemas.fields import parts, stored_as
from schemas.kind import Kind
from schemas.mapping import properties
from schemas.types import Flag, FreeText, Moment, Text, between, whole_between

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
# `.` would make an object of it in Elasticsearch, and what begins with `_` is the stores'.
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,199}")
_INDEX = re.compile(r"[a-z0-9][a-z0-9_-]{0,98}[a-z0-9]")
# Columns that the embedded store's engine or its queries have by themselves.
_ENGINES = {"rowid", "index_name"}
TYPES = tuple(name for name, each in vars(types).items() if get_origin(each) is Annotated and stored_as(each))
"""What fields may be made of, by their names in `schemas.types`."""
# Checked behind the types' own functions, such a bound would not be in the JSON schema, and fail on what is no number.
_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of")


def field(type: str, *, minimum: float | None = None, maximum: float | None = None, description: str = "") -> Any:
    """Give the annotation of an optional field: ``type`` is string, text, number, integer, boolean or date."""
    made: Any
    match type:
        case "string":
            made = Text
        case "text":
            made = FreeText
        case "number":
            made = Annotated[float, *between(minimum, maximum)]
        case "integer":
            made = Annotated[int, *whole_between(minimum, maximum)]
        case "boolean":
            made = Flag
        case "date":
            made = Moment
        case _:
            raise ValueError(f"no field is of type {type!r}")
    return Annotated[made | None, Field(description=description)]


def extended(kind: Kind, fields: Mapping[str, Any]) -> Kind:
    """Give a kind whose events have these fields too."""
    hints = {
        name: Required[hint] if _is_required(kind.event, name, hint) else hint
        for name, hint in get_type_hints(kind.event, include_extras=True).items()
    }
    make: Any = TypedDict
    event = make(kind.event.__name__, {**hints, **fields}, total=False)
    event.__doc__ = kind.event.__doc__
    event.__pydantic_config__ = KEEP_EXTRAS
    return replace(kind, event=event)


def _is_required(event: Any, name: str, hint: Any) -> bool:
    """Whether a field is required for want of ``total=False``, where its annotation does not say."""
    return name in event.__required_keys__ and get_origin(hint) not in (Required, NotRequired)


def wrong_field(kind: Kind, name: str) -> str | None:
    """Say why events of a kind cannot have a field of this name of a user's own; None: they can."""
    if not _FIELD.fullmatch(name):
        return "a field's name is letters, digits, `_` and `-`, and begins with a letter: choose another name"
    if name.casefold() in {each.casefold() for each in (*Stamps.__annotations__, *Event.__annotations__, *_ENGINES)}:
        return "the gateway uses this name itself: choose another name"
    for each in properties(kind):
        if each.casefold() == name.casefold():
            return f"{kind.name} has the field {each!r} already: choose another name"
    return None


def wrong_kind(kind: Kind) -> Iterator[str]:
    """Say what is wrong with a kind of a user's own, taken alone."""
    if not _matches(_NAME, kind.name):
        yield f"its name {kind.name!r} must be lower-case letters, digits and `_`"
    if not isinstance(kind.type, str) or not kind.type:
        yield f"its type {kind.type!r} must be a string"
    if not _matches(_INDEX, kind.index):
        yield f"its index {kind.index!r} must be lower-case letters, digits, `_` and `-`, without the day"
    if not isinstance(kind.decided_by, tuple) or not all(isinstance(key, str) for key in kind.decided_by):
        yield f"decided_by {kind.decided_by!r} must be a tuple of keys, such as ('sensor_id',)"
    if kind.added is not None or kind.document is not None:
        yield "added and document are for built-in kinds: leave them out"
    yield from _wrong_event(kind)


def _wrong_event(kind: Kind) -> Iterator[str]:
    name = getattr(kind.event, "__name__", repr(kind.event))
    if not is_typeddict(kind.event) or not Event.__annotations__.keys() <= kind.event.__annotations__.keys():
        yield f"its event {name} must be a TypedDict based on schemas.event.Event"
        return
    if getattr(kind.event, "__pydantic_config__", {}).get("extra") != "allow":
        yield f"write @with_config(KEEP_EXTRAS) above {name}, or fields that it does not name are lost"
    try:
        hints = get_type_hints(kind.event, include_extras=True)
        TypeAdapter(kind.event).json_schema()
    except Exception as error:  # whatever pydantic and Python find in a user's annotations
        yield f"{name} cannot be used: {' '.join(str(error).split())[:300].rstrip('.') or type(error).__name__}"
        return
    common = get_type_hints(Event, include_extras=True)
    seen: dict[str, str] = {}
    for field, hint in hints.items():
        if hint == common.get(field):
            continue
        if stored_as(hint) is None:
            yield (
                f"{name}.{field} is of no type that can be stored: take {', '.join(TYPES)} of schemas.types, or a "
                "Literal of strings"
            )
        metadata = [each for part in parts(hint) for each in (part.metadata if isinstance(part, FieldInfo) else [part])]
        if any(hasattr(each, bound) for each in metadata for bound in _BOUNDS):
            yield (
                f"{name}.{field} has its bounds in Field: write Annotated[float, *between(0, 1)] or "
                "Annotated[int, *whole_between(1, 5)] of schemas.types instead"
            )
        wrong = wrong_field(replace(kind, event=Event, added=None, document=None), field)
        if wrong is None and field.casefold() in seen:
            wrong = f"it differs from {seen[field.casefold()]!r} only in capitals: choose another name"
        if wrong is not None:
            yield f"{name}.{field}: {wrong}"
        seen[field.casefold()] = field


def clashes(kinds: Iterable[Kind], own: Iterable[Kind]) -> Iterator[str]:
    """Say where kinds of a user's own get in the way of others, and what kinds of one index do not agree on."""
    kinds = list(kinds)
    mine = {kind.name for kind in own}
    for number, kind in enumerate(kinds):
        for other in kinds[:number]:
            if kind.name in mine:
                yield from _clash(kind, other, shares=other.name in mine)
            if kind.index == other.index:
                yield from _disagreements(kind, other)


def _clash(kind: Kind, other: Kind, *, shares: bool) -> Iterator[str]:
    if kind.type == other.type:
        yield f"kind {kind.name!r} has the type {kind.type!r} of kind {other.name!r}: choose another"
    for key in kind.decided_by:
        if key in other.decided_by:
            yield f"kind {kind.name!r} is decided by {key!r}, which is {other.name!r} already: choose another key"
    if kind.index == other.index:
        if not shares:
            yield f"kind {kind.name!r} has the index {kind.index!r} of kind {other.name!r}: choose another"
    elif f"{kind.index}-".startswith(f"{other.index}-") or f"{other.index}-".startswith(f"{kind.index}-"):
        yield (
            f"kind {kind.name!r} has the index {kind.index!r}, which cannot be told from {other.index!r} of kind "
            f"{other.name!r} when a day follows: choose another"
        )


def _disagreements(kind: Kind, other: Kind) -> Iterator[str]:
    """Two fields of one column are one field of one type."""
    theirs = {name.casefold(): (name, mapped) for name, mapped in properties(other).items()}
    for name, mapped in properties(kind).items():
        if theirs.get(name.casefold(), (name, mapped)) != (name, mapped):
            yield (
                f"the field {name!r} of kind {kind.name!r} and the field {theirs[name.casefold()][0]!r} of kind "
                f"{other.name!r} share the index {kind.index!r}: give them the same name and type, or different names"
            )


def _matches(pattern: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None
