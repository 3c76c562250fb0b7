"""The enrichers with their thresholds, common and per model."""

from __future__ import annotations

from typing import Any

from enrichers import ENRICHERS, Enricher
from gateway.settings import Enrichment, Thresholds


class Enrichers:
    """What is added to an inference event."""

    def __init__(self, settings: Enrichment) -> None:
        """Raise ValueError when thresholds make no sense, naming the model."""
        self._common = _build(settings, "enrichment")
        self._models = {
            model: _build(thresholds, f"enrichment.models.{model}") for model, thresholds in settings.models.items()
        }

    def added(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields to add to an event."""
        added: dict[str, Any] = {}
        for enrich in self._models.get(fields["model_name"], self._common):
            added.update(enrich(fields))
        return added


def _build(thresholds: Thresholds, where: str) -> tuple[Enricher, ...]:
    """Build each enricher with the settings of its own name; one without settings takes none."""
    built = []
    for factory in ENRICHERS:
        section = getattr(thresholds, factory.__name__, None)
        values = {} if section is None else {k: v for k, v in section.model_dump().items() if v is not None}
        try:
            built.append(factory(**values))
        except ValueError as error:
            raise ValueError(f"{where}.{factory.__name__}: {error}") from None
    return tuple(built)
