"""What the gateway adds to an inference event: pure functions, validated fields in, new fields out.

To add a fifth: one file with a factory that takes its settings as keyword arguments and returns an
`Enricher`, and here its import and its name in `ENRICHERS`. Fields it adds are declared in `schemas/added.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from enrichers.accuracy import accuracy
from enrichers.confidence import confidence
from enrichers.error import DEFAULT_PATTERNS, error
from enrichers.latency import latency

Enricher = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Gives the fields to add to an event, which it leaves as it is; none when its rule gives none.

It may give the same dict again, which costs less than a new one, but never changes one that it gave."""

ENRICHERS: tuple[Callable[..., Enricher], ...] = (confidence, latency, accuracy, error)

__all__ = ["DEFAULT_PATTERNS", "ENRICHERS", "Enricher", "accuracy", "confidence", "error", "latency"]
