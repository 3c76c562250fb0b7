"""Deletes the gateway's own daily indices when they are old: one by one, by their exact names.

Nothing is remembered between two runs, so a crash at any point is mended by the next one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import structlog

from gateway.sinks.elasticsearch.client import RequestFailed, request
from gateway.sinks.elasticsearch.templates import MANAGED_BY

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

log = structlog.get_logger(__name__)
EVERY_SECS = 3600.0
RETRY_SECS = 60.0  # when it does not answer
# Wildcards of a GET do not find hidden indices; what else is not ours to delete is seen in the answer.
_LOOK = "expand_wildcards=open,closed&ignore_unavailable=true&allow_no_indices=true"
_FIELDS = "*.aliases,*.data_stream,*.mappings._meta.managed_by,*.settings.index.uuid"


class Retention:
    """The daily indices of one prefix, kept for ``days`` whole days after their own."""

    def __init__(self, client: AsyncElasticsearch, prefix: str, indices: Iterable[str], days: int) -> None:
        """``indices`` are the names without prefix and day."""
        self._client = client
        self._days = days
        names = tuple(indices)
        self._patterns = ",".join(f"{prefix}{name}-*" for name in names)
        self._daily = re.compile(rf"{re.escape(prefix)}({'|'.join(map(re.escape, names))})-(\d{{4}}\.\d\d\.\d\d)")
        self._failures: dict[str, str] = {}  # by index; "" is the server itself
        self._last_run: datetime | None = None
        self._deleted = 0

    def status(self) -> dict[str, Any]:
        """Return when it last ran to its end, how many indices it deleted since the start, and what is in its way."""
        return {
            "last_run": None if self._last_run is None else self._last_run.isoformat(timespec="seconds"),
            "deleted": self._deleted,
            "last_error": next(iter(self._failures.values()), None),
        }

    async def run(self) -> None:
        """Delete what is old, now and every hour, until cancelled."""
        while True:
            try:
                await self.once(datetime.now(UTC))
            except RequestFailed as error:
                self._failed("", f"Old indices cannot be deleted (elasticsearch.retention_days): {error}")
                await asyncio.sleep(RETRY_SECS)
            else:
                await asyncio.sleep(EVERY_SECS)

    async def once(self, now: datetime) -> None:
        """Delete the indices of which even the newest event is older than the retention at ``now``, in UTC.

        Where the clock of Elasticsearch is behind, it is what counts: one clock that is ahead deletes nothing.
        Raises `RequestFailed` when Elasticsearch does not answer; an index that cannot be deleted holds up no other.
        """
        answer = await request(self._client, "GET", f"/{self._patterns}?{_LOOK}&filter_path={_FIELDS}")
        if not isinstance(answer, dict):
            raise RequestFailed("Elasticsearch gave an answer to a request for indices that is not one.")
        old = self._old(answer, now)
        if old:
            old = self._old(answer, min(now, await self._time_there()))
        self._failures = {name: text for name, text in self._failures.items() if name in old}
        for name in old:
            await self._delete(name)
        self._last_run = now

    def _old(self, answer: dict[str, Any], now: datetime) -> list[str]:
        first_kept = (now - timedelta(days=self._days)).strftime("%Y.%m.%d")
        return sorted(name for name, day in self._own(answer) if day < first_kept)

    async def _time_there(self) -> datetime:
        """Ask Elasticsearch what time it is; raise `RequestFailed`."""
        answer = await request(self._client, "GET", "/_cat/health?format=json&h=epoch")
        try:
            return datetime.fromtimestamp(int(answer[0]["epoch"]), UTC)
        except (ArithmeticError, LookupError, OSError, TypeError, ValueError):
            raise RequestFailed("Elasticsearch gave an answer to a request for its time that is not one.") from None

    def _own(self, answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Walk the names and days of indices that carry our name and mark, and that nobody else reckons with."""
        for name, index in answer.items():
            found = self._daily.fullmatch(name)
            if found is None or not isinstance(index, dict) or index.get("aliases") or "data_stream" in index:
                continue
            if index.get("mappings") == {"_meta": {"managed_by": MANAGED_BY}}:
                yield name, found[2]

    async def _delete(self, name: str) -> None:
        try:
            await request(self._client, "DELETE", f"/{quote(name)}")
        except RequestFailed as error:
            if error.status is None:
                raise
            if error.status != 404:  # another gateway was first
                self._failed(name, f"The old index {name} cannot be deleted, trying again in an hour: {error}")
                return
        else:
            self._deleted += 1
            log.info("Deleted an index older than elasticsearch.retention_days.", index=name)
        self._failures.pop(name, None)

    def _failed(self, name: str, text: str) -> None:
        if self._failures.get(name) != text:
            log.warning(text)
        self._failures[name] = text
