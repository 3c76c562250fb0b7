"""Sends a bulk until each of its documents has a final verdict. Keeps promises 3 and 4."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.backoff import Backoff
from gateway.sinks.elasticsearch.bulk import Bulk, Document, Taken, id_in, of_documents
from gateway.sinks.elasticsearch.client import Answer, RequestFailed
from gateway.sinks.elasticsearch.client import bulk as send_bulk
from gateway.sinks.elasticsearch.doubt import Doubt
from gateway.sinks.elasticsearch.patience import Patience
from gateway.sinks.elasticsearch.room import Room
from gateway.sinks.elasticsearch.upkeep import CHECK_SECS, Upkeep
from gateway.sinks.elasticsearch.verdicts import SAID_LATE, Ruling, Verdict, dead_letter, rewritten
from gateway.spool.shelf import Letter
from gateway.spool.state import Parked
from gateway.telemetry import Telemetry
from schemas import Registry

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

SMALLEST_BULK_BYTES = 64 * 1024


@dataclass(eq=False, slots=True)
class Sending:
    """What is known of a bulk on its way."""

    folder: str
    tries: int = 0  # requests so far
    began: float = field(default_factory=time.time)
    backoff: Backoff = field(default_factory=Backoff)
    # What was rewritten as it came, by the record's sequence and the position in it.
    originals: dict[tuple[int, int], bytes] = field(default_factory=dict)


class Sender:
    """One Elasticsearch, as far as documents go."""

    def __init__(
        self,
        name: str,
        client: AsyncElasticsearch,
        settings: Elasticsearch,
        prefix: str,
        registry: Registry,
        room: Room,
        telemetry: Telemetry,
        record_settled: Callable[[], None],
    ) -> None:
        self._name = name
        self._client = client
        self._settings = settings
        self._upkeep = Upkeep(client, settings, prefix, registry, telemetry)
        self._room = room
        self._telemetry = telemetry
        self.when_settled = [record_settled]  # of each folder's part of the sink
        self.doubt = Doubt(client)
        self.patience = Patience(name, telemetry, self._failed)
        # Bulks of which documents, or all of them, are sent again and again.
        self._repeating: set[Sending] = set()
        # Indices for which a bulk waits: their documents are put aside unasked, until a parked one is taken.
        self.slow: dict[str, Ruling] = {}
        self.last_error: str | None = None
        self.last_success = 0.0  # when a document was last taken, seconds since 1970
        self.max_bytes = settings.max_batch_bytes  # less when the server turned out to take less

    @property
    def lifecycle_error(self) -> str | None:
        """Why Elasticsearch will not delete old indices, where it is asked to."""
        return self._upkeep.lifecycle_error

    @property
    def retrying(self) -> bool:
        """Whether something is sent again and again."""
        return self.patience.in_trouble or bool(self._repeating)

    async def send(self, bulk: Bulk, folder: str) -> None:
        """Return when every document has its verdict, noted in the record it is of."""
        sending = Sending(folder)
        try:
            parts = deque([await self._without_slow(bulk, sending)])
            del bulk  # what is settled need not stay in memory
            while parts:
                part = parts.popleft()
                if part.count:
                    parts += await self._again(part, sending)
        finally:
            self._room.forget(sending)
            self._repeating.discard(sending)

    async def _without_slow(self, bulk: Bulk, sending: Sending) -> Bulk:
        """Put aside what is for slow indices, as far as there is room; return the others."""
        if self.slow.keys().isdisjoint(part.index for part in bulk.parts):
            return bulk
        asked = []
        for each in bulk.documents():
            ruling = self.slow.get(each.index)
            if ruling is None or not await self._settle(each, ruling, sending):
                asked.append(each)
        return of_documents(asked)

    async def _again(self, part: Bulk, sending: Sending) -> list[Bulk]:
        """Send a part; return what has to be sent again."""
        try:
            answer = await self._answered(part, sending)
        except RequestFailed as error:
            return await self._smaller(part, error, sending)
        if answer.items is None:
            self.doubt.all_created(part, again=sending.tries > 1)
            for each in part.parts:
                each.taken.indexed += each.count
                self._close(each.taken, each.count)
            self.last_success = time.time()
            sending.backoff.reset()
            return []
        again = await self._rule(part, answer.items, sending)
        if not again.count:
            sending.backoff.reset()
            return []
        self._telemetry.retried(self._name, again.count)
        await self.patience.wait(sending.backoff, answer.retry_after)
        return [again]

    async def attempt(self, body: bytes, count: int, indices: set[str]) -> Answer:
        """Send ``count`` documents of these indices once, the templates first; raise `RequestFailed`."""
        self._upkeep.cover(indices)
        await self._upkeep.ensure()
        started = time.monotonic()
        answer = await send_bulk(self._client, body, count, self._settings.request_timeout_secs)
        self._telemetry.bulk_sent(self._name, size=len(body), seconds=time.monotonic() - started)
        return answer

    async def ensure(self) -> None:
        """Return when the templates are in place; raise `RequestFailed`."""
        await self._upkeep.ensure()

    async def look_after(self) -> None:
        """Look after the templates until cancelled, so that trouble is told before an event meets it.

        Where the gateway does not manage them nothing is asked: a key may lack the right to anything but writing.
        """
        while self._settings.manage_templates:
            if not self.patience.holds_off:  # else a bulk looks
                await self.patience.ask(self._upkeep.ensure)
            await asyncio.sleep(CHECK_SECS)

    def troubled(self, index: str, ruling: Ruling) -> str:
        """Note that an index does not take documents now; return the reason."""
        reason = f"{ruling.type}: {ruling.reason}"
        advice = " The key lacks a privilege: see docs/elasticsearch.md." if ruling.type == "security_exception" else ""
        self.last_error = f"The index {index} does not take documents ({reason}).{advice}"
        return reason

    async def _answered(self, bulk: Bulk, sending: Sending) -> Answer:
        """Send until there is an orderly answer; raise `RequestFailed` when the body is to blame."""
        body = bulk.body()
        indices = {part.index for part in bulk.parts}

        async def send_it() -> Answer:
            sending.tries += 1
            return await self.attempt(body, bulk.count, indices)

        return await self.patience.ask(send_it)

    async def _smaller(self, part: Bulk, error: RequestFailed, sending: Sending) -> list[Bulk]:
        """Return what to send instead of a body that was refused as a whole."""
        large = part.size > SMALLEST_BULK_BYTES
        if error.status == 413 and large:
            if part.count > 1:
                self.max_bytes = max(min(self.max_bytes, part.size // 2), SMALLEST_BULK_BYTES)
                return part.halves()
            await self._settle(part.documents()[0], Ruling(Verdict.REFUSED, "content_too_long", str(error)), sending)
            return []
        if error.status == 429 and not large:  # there is no memory for anything
            await self.patience.pause(error)
            return [part]
        if part.count == 1 and self.last_success > sending.began:
            # Others are taken, so it is this one; but why is not known, and it may yet change.
            ruling = Ruling(Verdict.INDEX_TROUBLE, "request", str(error))
            if await self._settle(part.documents()[0], ruling, sending):
                return []
        self.last_error = str(error)
        self._telemetry.sink_failed(self._name, error.reason, str(error), first=sending not in self._repeating)
        self._repeating.add(sending)
        await self.patience.wait(sending.backoff, error.retry_after)
        return part.halves()

    async def _rule(self, bulk: Bulk, items: list[dict[str, Any]], sending: Sending) -> Bulk:
        """Note the verdicts and return what has to be sent again."""
        again: list[Document] = []
        documents = bulk.documents()
        rulings = await self.doubt.rulings(documents, items, again=sending.tries > 1)
        for document, ruling in zip(documents, rulings, strict=True):
            if ruling.type in SAID_LATE:
                self.slow[document.index] = ruling
            if ruling.verdict is Verdict.BUSY:
                self.last_error = f"Elasticsearch is busy ({ruling.type}: {ruling.reason})."
                self._repeating.add(sending)
                again.append(document)
            elif ruling.verdict is Verdict.REPEATED_KEY and (written := rewritten(document.source)):
                sending.originals[document.taken.header.sequence, document.position] = document.source
                again.append(document._replace(source=written))
            elif not await self._settle(document, ruling, sending):
                again.append(document)
        return of_documents(again)

    async def _settle(self, document: Document, ruling: Ruling, sending: Sending) -> bool:
        """Note a verdict; false when there is no room to put the document aside, so that it has to go on trying."""
        taken, sequence = document.taken, document.taken.header.sequence
        if taken.passed:
            return True
        source = sending.originals.get((sequence, document.position), document.source)
        origin = f"{self._name}/{sending.folder}/{sequence}/{document.position}"
        if ruling.verdict is Verdict.INDEXED:
            taken.indexed += 1
            self.last_success = time.time()
        elif ruling.verdict is Verdict.DUPLICATE:
            taken.duplicates += 1
            self.last_success = time.time()
        elif ruling.verdict is Verdict.INDEX_TROUBLE:
            reason = self.troubled(document.index, ruling)
            parked = Parked(origin, document.index, time.time(), document.action, source, reason)
            if not self._room.take(parked.cost, sending):
                return False
            taken.parked.append(parked)
        else:
            dead = dead_letter(self._name, "mapping", source, ruling)
            letter = Letter(origin, dead, document.index, id_in(document.action))
            if not await self._room.wait(letter.cost, sending, lambda: taken.passed):
                return True
            taken.letters.append(letter)
        if ruling.verdict is not Verdict.INDEXED:
            self._room.counting += taken.leave_out(document.index, source)
        self._close(taken, 1)
        return True

    def _close(self, taken: Taken, count: int) -> None:
        taken.open -= count
        if not taken.open:
            for tell in self.when_settled:
                tell()

    def _failed(self, error: RequestFailed) -> None:
        self._upkeep.recheck()
        self.last_error = str(error)
