"""New figures under the names that are told apart, which may change while they are added."""

from __future__ import annotations

from gateway.monitoring.names import REST, Names, anonymous, forget_endpoint, forget_model
from gateway.summary import Histogram, Model, Summary
from gateway.summary.figures import MAX_USERS, Key


class Adding:
    """What is new, by minute.

    ``known`` are all figures so far, ``models`` and ``endpoints`` the names told apart, which change, ``first`` the
    first of the minutes that are kept.
    """

    def __init__(self, known: Summary, models: Names, endpoints: Names, first: int) -> None:
        self._known = known
        self._first = first
        self._classes: dict[Key, list[str]] = {}
        self._users: dict[int, set[int]] = {}
        self.models = models
        self.endpoints = endpoints
        self.gone_models: list[Key] = []
        self.gone_endpoints: list[Key] = []
        self.minutes: dict[int, Summary] = {}

    def add(self, minute: int, new: Summary) -> None:
        """Add figures to a minute."""
        into = self.minutes.setdefault(minute, Summary())
        for key, model in new.models.items():
            place, gone = self.models.place(key, minute, self._first)
            if gone is not None:
                self.gone_models.append(gone)
                for summary in self.minutes.values():
                    forget_model(summary, gone)
            if place not in into.models:
                into.models[place] = Model(classes=self._classes_of(place))
            into.models[place].plus(anonymous(model) if place == REST else model)
        for key, durations in new.endpoints.items():
            place, gone = self.endpoints.place(key, minute, self._first)
            if gone is not None:
                self.gone_endpoints.append(gone)
                for summary in self.minutes.values():
                    forget_endpoint(summary, gone)
            into.endpoints.setdefault(place, Histogram()).plus(durations)
        into.plus(Summary(indices=new.indices))
        self._users.setdefault(minute, set()).update(new.users)

    def sum(self) -> Summary:
        """Return all of it, without users; add no more."""
        found = Summary()
        for minute, summary in self.minutes.items():
            found.plus(summary)
            summary.users = sorted(self._users[minute])[:MAX_USERS]
        return found

    def forget_in(self, summary: Summary) -> None:
        """Count with the rest what made room."""
        for key in self.gone_models:
            forget_model(summary, key)
        for key in self.gone_endpoints:
            forget_endpoint(summary, key)

    def _classes_of(self, key: Key) -> list[str]:
        """Return the classes that are told apart of a model ever since: one list, so that all minutes fit together."""
        if key not in self._classes:
            known = self._known.models.get(key)
            self._classes[key] = [] if known is None or key == REST else list(known.classes)
        return self._classes[key]
