"""Which models and endpoints are told apart: so many, the rest together. Keeps promise 5."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.summary import OTHER, Model, Summary
from gateway.summary.figures import Key

REST: Key = (OTHER, "")
MOST_BEYOND = 10_000


class Names:
    """Those that were told apart so far, and the minute in which each was last seen.

    When there is no room a new one takes the place of one that was not seen since ``first``, the first minute of those
    that are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: dict[Key, int] = {}
        self._beyond: frozenset[int] = frozenset()
        self._beyond_since: set[int] = set()  # this was copied: those before are not copied for each of them
        self._crowded = False

    @property
    def beyond(self) -> int:
        """How many found no room since the start; after `MOST_BEYOND` no more are counted."""
        return len(self._beyond) + len(self._beyond_since)

    def copy(self) -> Names:
        """Return those names, to be changed."""
        copy = Names(self._limit)
        copy._seen, copy._beyond = dict(self._seen), self._beyond
        if self._beyond_since:
            copy._beyond |= self._beyond_since
        return copy

    def seen(self, keys: Iterable[Key], minute: int) -> None:
        """Note that those of them that are told apart were seen in a minute."""
        for key in keys:
            if key in self._seen:
                self._seen[key] = max(minute, self._seen[key])

    def place(self, key: Key, minute: int, first: int) -> tuple[Key, Key | None]:
        """Return under which name to count what was seen in a minute, and which name had to make room for it."""
        if key == REST:
            return REST, None
        if key in self._seen:
            self.seen([key], minute)
            return key, None
        gone = None
        if len(self._seen) >= self._limit:
            oldest = REST if self._crowded or minute < first else min(self._seen, key=self._seen.__getitem__)
            if self._seen.get(oldest, first) >= first:
                self._crowded = self._crowded or minute >= first
                if self.beyond < MOST_BEYOND and hash(key) not in self._beyond:
                    self._beyond_since.add(hash(key))
                return REST, None
            gone = oldest
            del self._seen[oldest]
        self._seen[key] = minute
        return key, gone


def forget_model(summary: Summary, key: Key) -> None:
    """Count what is of a model with the rest."""
    if (model := summary.models.pop(key, None)) is not None:
        summary.models.setdefault(REST, Model()).plus(anonymous(model))


def forget_endpoint(summary: Summary, key: Key) -> None:
    """Count what is of an endpoint with the rest."""
    if (durations := summary.endpoints.pop(key, None)) is not None:
        summary.endpoints.setdefault(REST, type(durations)()).plus(durations)


def anonymous(model: Model) -> Model:
    """Return a model's figures without its classes: those of several models are no more comparable."""
    classified = sum(sum(row.values()) for predicted, row in model.outcomes.items() if predicted is not None)
    rest = sum(sum(row.values()) for predicted, row in model.outcomes.items() if predicted is None)
    return Model(
        predictions=model.predictions,
        errors=model.errors,
        outcomes={each: {None: count} for each, count in ((OTHER, classified), (None, rest)) if count},
        confidence=model.confidence,
        duration_ms=model.duration_ms,
        stages=model.stages,
        refused=model.refused,
    )
