"""New figures under the names that are told apart, which may change while they are added."""

from __future__ import annotations

from gateway.monitoring.names import REST, Names, anonymous, forget_endpoint, forget_model
from gateway.summary import Histogram, Model, Summary
from gateway.summary.figures import Key


class Adding:
    """What is new: by minute, and its ``sum``.

    ``known`` are all figures so far, ``models`` and ``endpoints`` the names told apart, which change, ``first`` the
    first of the minutes that are kept."""

    def __init__(self, known: Summary, models: Names, endpoints: Names, first: int) -> None:
        self._known = known
        self._first = first
        self.models = models
        self.endpoints = endpoints
        self.gone_models: list[Key] = []
        self.gone_endpoints: list[Key] = []
        self.sum = Summary()
        self.minutes: dict[int, Summary] = {}

    def add(self, minute: int, new: Summary) -> None:
        """Add figures to a minute."""
        into = self.minutes.setdefault(minute, Summary())
        for key, model in new.models.items():
            place, gone = self.models.place(key, minute, self._first)
            if gone is not None:
                self.gone_models.append(gone)
                for summary in (self.sum, *self.minutes.values()):
                    forget_model(summary, gone)
            mine = self._model(place)
            counted = anonymous(model) if place == REST else model
            mine.plus(counted)
            # With the classes that are told apart of the model ever since, so that all its minutes fit together.
            into.models.setdefault(place, Model(classes=mine.classes)).plus(counted)
        for key, durations in new.endpoints.items():
            place, gone = self.endpoints.place(key, minute, self._first)
            if gone is not None:
                self.gone_endpoints.append(gone)
                for summary in (self.sum, *self.minutes.values()):
                    forget_endpoint(summary, gone)
            for summary in (self.sum, into):
                summary.endpoints.setdefault(place, Histogram()).plus(durations)
        rest = Summary(indices=new.indices, users=new.users)
        self.sum.plus(rest)
        into.plus(rest)

    def forget_in(self, summary: Summary) -> None:
        """Count with the rest what made room."""
        for key in self.gone_models:
            forget_model(summary, key)
        for key in self.gone_endpoints:
            forget_endpoint(summary, key)

    def _model(self, key: Key) -> Model:
        if key not in self.sum.models:
            known = self._known.models.get(key)
            self.sum.models[key] = Model(classes=[] if known is None or key == REST else list(known.classes))
        return self.sum.models[key]
