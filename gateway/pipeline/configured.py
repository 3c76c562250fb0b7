"""The pipeline that the settings ask for."""

from __future__ import annotations

from gateway.errors import SettingsError
from gateway.pipeline.clock import Clock
from gateway.pipeline.digest import Digest
from gateway.pipeline.enrich import Enrichers
from gateway.settings import Settings
from schemas import Registry


def make_digest(settings: Settings, registry: Registry) -> Digest:
    """Return the pipeline; raise `SettingsError` for settings that make no sense together."""
    events, age = settings.events, settings.events.max_age_days
    limit = "events.max_age_days"
    if settings.store_enabled and "max_age_days" not in events.model_fields_set:
        # Without a word from the user nothing is taken that retention would delete again.
        retention = settings.store.retention_days
        if retention is not None and (age is None or retention < age):
            age, limit = retention, "store.retention_days"
    if settings.elasticsearch.urls:
        # Its daily indices are deleted by the event's own day: an older event would be gone within the hour.
        retention = settings.elasticsearch.retention_days
        if retention is not None and (age is None or retention < age):
            age, limit = retention, "elasticsearch.retention_days"
    mistakes = []
    try:
        clock = Clock(events.naive_timezone, age, events.max_future_secs, age_setting=limit)
    except ValueError as error:
        mistakes.append(f"events.naive_timezone: {error}.")
    try:
        enrichers = Enrichers(settings.enrichment)
    except SettingsError as error:
        mistakes += error.mistakes
    if mistakes:
        raise SettingsError(mistakes)
    return Digest(
        clock,
        enrichers,
        max_line_bytes=settings.tcp.max_line_bytes,
        default_kind=events.default_kind,
        index_prefix=events.index_prefix,
        registry=registry,
        quick=settings.decoder == "fast",
        log_unit=settings.monitoring.log_duration_unit,
    )
