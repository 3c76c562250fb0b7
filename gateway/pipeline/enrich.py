"""The enrichers with their thresholds, common and per model."""

from __future__ import annotations

from typing import Any

from enrichers import ENRICHERS, Enricher
from gateway.errors import SettingsError
from gateway.settings import Enrichment, Thresholds


class Enrichers:
    """What is added to an inference event."""

    def __init__(self, settings: Enrichment) -> None:
        """Raise `SettingsError` with all thresholds that make no sense, naming the model."""
        mistakes: list[str] = []
        self._common = _build(settings, "enrichment", mistakes)
        # A model has the common thresholds but for its own: a mistake in those is told once.
        models = {} if mistakes else settings.models
        self._models = {
            model: _build(thresholds, f"enrichment.models.{model}", mistakes) for model, thresholds in models.items()
        }
        if mistakes:
            raise SettingsError(mistakes)

    def of(self, model: str) -> tuple[Enricher, ...]:
        """Return the enrichers of a model's events."""
        return self._models.get(model, self._common)

    def parts(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what enrichers add to an event, each that adds anything; of one name the last counts."""
        return [part for enrich in self.of(fields["model_name"]) if (part := enrich(fields))]

    def added(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields to add to an event."""
        return joined(self.parts(fields))


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of several enrichers together."""
    added: dict[str, Any] = {}
    for part in parts:
        added |= part
    return added


def _build(thresholds: Thresholds, where: str, mistakes: list[str]) -> tuple[Enricher, ...]:
    """Build each enricher with the settings of its own name; one without settings takes none."""
    built = []
    for factory in ENRICHERS:
        section = getattr(thresholds, factory.__name__, None)
        values = {} if section is None else {k: v for k, v in section.model_dump().items() if v is not None}
        try:
            built.append(factory(**values))
        except ValueError as error:
            mistakes.append(f"{where}.{factory.__name__}: {error}.")
    return tuple(built)
