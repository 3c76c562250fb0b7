"""What every schema shares: the fields all events may carry and the names none may carry."""

from typing import Annotated

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from schemas.types import Anything, ReservedName, Text

KEEP_EXTRAS = ConfigDict(extra="allow")
"""Unknown fields are kept where they are. TypedDicts do not inherit this: each schema names it."""


class Event(TypedDict, total=False):
    """The fields of every event; the clock's fields are read elsewhere."""

    _id: ReservedName
    _index: ReservedName
    _source: ReservedName
    _type: ReservedName
    _routing: ReservedName
    type: Annotated[Anything, Field(description="The kind of event; an unknown one is kept.")]
    event_id: Annotated[
        Text | None, Field(description="Chosen by the client; a re-send with the same one is a duplicate.")
    ]
