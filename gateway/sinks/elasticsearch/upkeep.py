"""Holds documents back until the templates are in place. Keeps promise 4."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch import lifecycle, templates
from gateway.sinks.elasticsearch.client import RequestFailed
from gateway.sinks.elasticsearch.lifecycle import LifecycleUnusable
from gateway.sinks.elasticsearch.templates import Outcome
from gateway.telemetry import Telemetry
from schemas import Registry

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

log = structlog.get_logger(__name__)
CHECK_SECS = 60
MOST_KNOWN = 10_000


class Upkeep:
    """The templates of one Elasticsearch and the policy they name, looked at before a bulk and once a minute."""

    def __init__(
        self,
        client: AsyncElasticsearch,
        settings: Elasticsearch,
        prefix: str,
        registry: Registry,
        telemetry: Telemetry,
    ) -> None:
        self._client = client
        self._settings = settings
        # What lies in the spool may have been named under an earlier setting of events.index_prefix.
        self._prefixes = {prefix}
        self._known: set[str] = set()
        self._registry = registry
        self._telemetry = telemetry
        self._turn = asyncio.Lock()
        self._checked: float | None = None
        self._stale = True
        self._foreign: list[str] = []
        self.lifecycle_error: str | None = None

    def cover(self, indices: Iterable[str]) -> None:
        """Reckon with daily indices of these names; of a kind that is gone nobody knows the template.

        A name that is new may be an index that is not there yet: Elasticsearch makes it from the template
        of that moment, so this one is not trusted to be still there since the last look.
        """
        new = set(indices) - self._known
        if not new:
            return
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        self._known |= new
        self._prefixes |= {prefix for prefix, base in map(self._registry.split, new) if base is not None}
        self.recheck()

    def recheck(self) -> None:
        """Look before the next document: what answers then may be another, empty server."""
        self._checked = None
        self._stale = True

    async def ensure(self) -> None:
        """Return when all is in place; raise `RequestFailed` when it cannot be put there."""
        if not self._settings.manage_templates:
            return
        async with self._turn:
            if self._checked is not None and time.monotonic() - self._checked < CHECK_SECS:
                return
            self._checked, self._stale = None, False
            try:
                foreign = [name for prefix in sorted(self._prefixes) for name in await self._apply(prefix)]
            except RequestFailed as error:
                if error.status is None:
                    raise
                # Not a verdict on any document: wait, also for 400.
                raise RequestFailed(
                    f"The index templates are not in place (elasticsearch.manage_templates): {error}",
                    error.status,
                    error.retry_after,
                ) from None
            if foreign and foreign != self._foreign:
                self._telemetry.foreign_templates(foreign)
            self._foreign = foreign
            if not self._stale:  # else a recheck was asked for meanwhile
                self._checked = time.monotonic()

    async def _apply(self, prefix: str) -> list[str]:
        """Put a prefix's policy and templates in place; return the names of a user's own."""
        outcomes = {}
        wish = None
        if self._settings.ilm and self._settings.retention_days is not None:
            outcome = await self._apply_policy(prefix, self._settings.retention_days)
            if outcome is not None:
                outcomes[lifecycle.policy_name(prefix)] = outcome
                wish = lifecycle.index_settings(prefix)
        wanted = templates.wanted(self._settings, prefix, self._registry, wish)
        outcomes |= await templates.apply(self._client, prefix, wanted)
        return [name for name, outcome in outcomes.items() if outcome is Outcome.LEFT_ALONE]

    async def _apply_policy(self, prefix: str, days: int) -> Outcome | None:
        """Put the policy in place; None, and a word in log and status, when it cannot be used: documents go on."""
        try:
            outcome = await lifecycle.apply(self._client, prefix, days)
        except LifecycleUnusable as error:
            if self.lifecycle_error is None:
                log.error(str(error))
            self.lifecycle_error = str(error)
            return None
        self.lifecycle_error = None
        return outcome
