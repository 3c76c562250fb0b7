"""What tells, for each kind, which events need not be read by pydantic.

A `Reader` decodes an event's bytes into the fields that its kind's schema names, and refuses what pydantic would refuse
or change: `schemas.unchanged`. What it refuses, pydantic reads.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any, NamedTuple, get_args

import msgspec
import orjson

from gateway.pipeline.enrich import joined
from gateway.summary.gathering import STAGES
from schemas import Kind, Registry
from schemas.added import Stamps
from schemas.kinds import INFERENCE
from schemas.unchanged import UNCHECKED, extended

_LEARN_AFTER = 50  # events
_MAX_LESSONS = 20
_MAX_LEARNED = 50  # names: unknown ones are compared with all of them
_MAX_CHARACTERS = 100
_MAX_ADDITIONS = 500
_STAMPS = frozenset(Stamps.__annotations__)


class Addition(NamedTuple):
    """What enrichers add to an event."""

    parts: tuple[dict[str, Any], ...]
    fields: dict[str, Any]
    text: bytes
    """It, as it stands behind other fields."""
    is_a_stamp: bool
    """Whether it takes the place of what is added to all events."""
    may_clash: bool
    """Whether it is that, or the event may have one of its fields."""
    is_plain: bool
    """Whether more is to be looked at for the figures than `gateway.summary.gathering.TOLD`: no."""


class Reader:
    """Reads events of one kind."""

    def __init__(self, kind: Kind, registry: Registry) -> None:
        self.kind = kind
        self._choose = registry.choose
        self._event = event = kind.unchanged
        self.check: Callable[[bytes], dict[str, Any]] | None = None
        """Read the fields of the schema; raise an error of msgspec where pydantic is to read it."""
        self.decode: Callable[[bytes], dict[str, Any]] = _never
        """The same, with the fields that were learned."""
        names: frozenset[str] = frozenset()
        if event is not None:
            self.check = self.decode = msgspec.json.Decoder(event).decode
            names = frozenset(event.__annotations__)
        self.types = frozenset(each for each in (None, kind.type) if _is_sure(each, kind, names, registry))
        """With each of these as `type` (None: without) an event with fields of its schema alone is of this kind."""
        # The stamps that an event itself may have are looked at in each.
        stamps = Stamps.__annotations__.keys() - {"@timestamp", "timestamp", "type", "event_id"}
        self.is_its_document = kind.document is None and not kind.moments and names.isdisjoint(stamps)
        """Whether an event's document is the event itself and what is added to it."""
        self.is_enriched = kind.name == INFERENCE.name
        self.additions: dict[int | None, Any] = {}
        """By the `id` of what the first enricher gave, the second and so on; what they give together is behind None.

        An addition keeps its parts, so that nothing else can have their `id`."""
        self._added = 0
        others = {key for each in registry.kinds.values() if each is not kind for key in each.decided_by}
        self._names = names  # that an event which is read may have
        self._known = names | stamps | others  # or not to be learned
        self._learned: dict[str, Any] = {}
        self._passed = self._lessons = 0

    def is_of(self, fields: dict[str, Any]) -> bool:
        """Whether an event that has these fields alone is of this kind."""
        return self._choose(fields) is self.kind

    def pass_over(self, event: dict[str, Any]) -> None:
        """Note an event with other fields too; learn them when there were several, since most senders have their own.

        Whatever is sent, this happens a few times only, and the outcome is the same with it and without.
        """
        self._passed += 1
        if self._passed < _LEARN_AFTER or self._lessons >= _MAX_LESSONS:
            return
        self._passed = 0
        new = [name for name in event if name not in self._known and len(name) <= _MAX_CHARACTERS]
        new = new[: _MAX_LEARNED - len(self._learned)]
        if new:
            self._lessons += 1
            self._known |= frozenset(new)
            self._learned |= dict.fromkeys(new, UNCHECKED)
            self._names |= frozenset(new)
            self.decode = msgspec.json.Decoder(extended(self._event, self._learned)).decode
            self._forget()

    def add(self, parts: list[dict[str, Any]]) -> Addition:
        """Return what enrichers add together, and remember it: mostly they give the same few dicts again."""
        fields = joined(parts)
        names = self._names | fields.keys()
        is_a_stamp = not _STAMPS.isdisjoint(fields)
        addition = Addition(
            tuple(parts),
            fields,
            b"," + orjson.dumps(fields)[1:-1] if fields else b"",
            is_a_stamp,
            may_clash=is_a_stamp or not self._names.isdisjoint(fields),
            is_plain="error" not in fields and names.isdisjoint(STAGES),
        )
        if self._added >= _MAX_ADDITIONS:
            self._forget()
        self._added += 1
        place = self.additions
        for part in parts:
            place = place.setdefault(id(part), {})
        place[None] = addition
        return addition

    def _forget(self) -> None:
        self.additions.clear()
        self._added = 0


class Readers:
    """The readers of a registry, each made when it is first asked for."""

    def __init__(self, registry: Registry, default: Kind | None) -> None:
        """Take the kinds, and the one of events that are of none."""
        self._registry = registry
        self._default = default
        self._made: dict[str, Reader] = {}
        self.latest: Reader | None = None
        """That of the event before: the next one is likely to be of its kind."""

    def kind_of(self, event: dict[str, Any], told: str | None) -> Kind | None:
        """Return an event's kind; ``told``: what all of its request are."""
        return self._registry.kinds[told] if told else self._registry.choose(event) or self._default

    def of(self, kind: Kind) -> Reader:
        """Return the reader of a kind, which is the latest from now on."""
        reader = self._made.get(kind.name)
        if reader is None:
            reader = self._made[kind.name] = Reader(kind, self._registry)
        self.latest = reader
        return reader


def _never(_: bytes) -> dict[str, Any]:
    raise msgspec.ValidationError


def _is_sure(declared: str | None, kind: Kind, names: frozenset[str], registry: Registry) -> bool:
    """Whether an event with these names alone is of this kind, whichever of them it has."""
    deciding = {key for each in registry.kinds.values() for key in each.decided_by} & names
    event: dict[str, Any] = {key: "" for key in deciding if _is_always_there(kind.unchanged, key)}
    if declared is not None:
        event["type"] = declared
    # Kinds are asked for in order: with no key more, and with each of the others beside them, it must be this one.
    return all(registry.choose({**event, **more}) is kind for more in ({}, *({key: ""} for key in deciding)))


def _is_always_there(event: Any, name: str) -> bool:
    hint = event.__annotations__[name]
    return name in event.__required_keys__ and NoneType not in get_args(get_args(hint)[0])
