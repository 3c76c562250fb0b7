"""A kind of event, and how a block of one kind is checked."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.fault import Fault, first_faults
from schemas.fields import stored_fields
from schemas.unchanged import unchanged


@dataclass(frozen=True)
class Kind:
    """A kind of event: what it is called, where it goes, what it looks like."""

    name: str
    type: str
    """The `type` that is stored."""
    index: str
    """The index, without the day."""
    event: Any
    """The TypedDict that events are checked against."""
    decided_by: tuple[str, ...] = ()
    """The keys of which one makes an event of this kind, where its `type` does not say which it is."""
    added: Any = None
    """The TypedDict of the fields its documents have beyond those of the event."""
    document: Any = None
    """The TypedDict of its documents, where they are not the event itself."""
    internal: bool = False
    """Whether only the gateway itself sends it: users are not told of it."""

    @cached_property
    def _adapter(self) -> TypeAdapter[list[dict[str, Any]]]:
        # Built with the first block: all of them take longer than the rest of the start.
        return TypeAdapter(list[self.event])  # type: ignore[name-defined]

    @cached_property
    def unchanged(self) -> Any | None:
        """The type of events that `validate` gives back as they are: `schemas.unchanged`."""
        core: Any = self._adapter.core_schema
        return unchanged(core["items_schema"]) if core["type"] == "list" else None

    @cached_property
    def moments(self) -> tuple[str, ...]:
        """The fields of its events that hold a point in time; the clock reads them."""
        return tuple(name for name, _, stored in stored_fields(self.event) if stored.storage == "date")

    def validate(self, events: list[dict[str, Any]]) -> list[dict[str, Any] | Fault]:
        """Give each event as its schema reads it, or its first fault, at the event's own position."""
        try:
            return list(self._adapter.validate_python(events))
        except ValidationError as error:
            faults = first_faults(error, events, self.event.__annotations__)
        # One bad event must not cost its neighbours: they are read again without it.
        rest = [event for position, event in enumerate(events) if position not in faults]
        good = iter(self._adapter.validate_python(rest))
        return [faults[position] if position in faults else next(good) for position in range(len(events))]
