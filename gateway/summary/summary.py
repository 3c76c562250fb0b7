"""Figures of events that can be added up and taken away again, written as `gateway.summary.columns` has it.

What `minus` is given must have been in it; users alone stay, as they are counted once anyway.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from gateway.summary import columns
from gateway.summary.figures import MAX_MODELS, MAX_USERS, OTHER, Histogram, Key, Model, add_counts


class Summary(msgspec.Struct, array_like=True):
    """Events of a record, of a minute, of all time."""

    indices: dict[str, int] = {}
    """Documents, by index without prefix and day."""
    models: dict[Key, Model] = {}
    endpoints: dict[Key, Histogram] = {}
    """Durations of requests that services logged, in `MILLISECONDS`."""
    users: list[int] = []
    """The smallest hashes of users, rising, `MAX_USERS` at most."""

    def plus(self, other: Summary, sign: int = 1) -> None:
        """Add another, or take it away."""
        add_counts(self.indices, other.indices, sign)
        for key, model in other.models.items():
            _of(self.models, key, Model).plus(model, sign)
        for key, durations in other.endpoints.items():
            _of(self.endpoints, key, Histogram).plus(durations, sign)
        if sign > 0 and other.users:
            self.users = sorted({*self.users, *other.users})[:MAX_USERS]

    def minus(self, other: Summary) -> None:
        """Take away what is in it."""
        self.plus(other, -1)

    def encode(self) -> bytes:
        """Return it as bytes."""
        parts = {key: columns.part_of(model) for key, model in self.models.items()}
        return columns.write(self.indices, parts, self.endpoints, self.users)

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Summary:
        """Return what was encoded; raise `msgspec.MsgspecError` for anything else."""
        found = columns.Sum()
        found.add(data)
        return cls.of(found)

    @classmethod
    def of(cls, found: columns.Sum) -> Summary:
        """Return what was added up, all models, classes and endpoints by name."""
        return cls(found.indices, found.models(), found.endpoints, sorted(found.users)[:MAX_USERS])


V = TypeVar("V", Model, Histogram)


def _of(known: dict[Key, V], key: Key, new: type[V]) -> V:
    """Return the figures of a key, or of all that are not told apart."""
    found = known.get(key)
    if found is not None:
        return found
    if len(known) >= MAX_MODELS:
        key = (OTHER, "")
    return known.setdefault(key, new())
