"""The fields of a TypedDict, read from its annotations."""

from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Literal, NotRequired, Required, get_args, get_origin, get_type_hints

from schemas.types import Stored


def stored_fields(typed_dict: Any) -> Iterator[tuple[str, Any, Stored]]:
    """Walk the fields that are stored, with their annotations; the refused names are not among them."""
    for name, hint in get_type_hints(typed_dict, include_extras=True).items():
        if (stored := stored_as(hint)) is not None:
            yield name, hint, stored


def stored_as(hint: Any) -> Stored | None:
    """Give how a field is stored: as its type says, one of several words as a keyword; None: nobody says."""
    for part in parts(hint):
        if isinstance(part, Stored):
            return part
        if get_origin(part) is Literal and all(isinstance(word, str) for word in get_args(part)):
            return Stored("keyword")
    return None


def parts(hint: Any) -> Iterator[Any]:
    """Walk an annotation from the outside in: its metadata, then what it annotates."""
    if get_origin(hint) is Annotated:
        yield from hint.__metadata__
        yield from parts(hint.__origin__)
    elif get_origin(hint) in (Required, NotRequired):
        yield from parts(get_args(hint)[0])
    elif NoneType in get_args(hint):
        yield from parts(next(option for option in get_args(hint) if option is not NoneType))
    else:
        yield hint
