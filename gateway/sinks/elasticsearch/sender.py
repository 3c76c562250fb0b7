"""Sends a bulk until each of its documents has a final verdict. Keeps promises 3 and 4."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.backoff import Backoff
from gateway.sinks.elasticsearch.bulk import Bulk, Document, Taken, of_documents
from gateway.sinks.elasticsearch.client import Answer, RequestFailed
from gateway.sinks.elasticsearch.client import bulk as send_bulk
from gateway.sinks.elasticsearch.room import Room
from gateway.sinks.elasticsearch.upkeep import CHECK_SECS, Upkeep
from gateway.sinks.elasticsearch.verdicts import Ruling, Verdict, rule
from gateway.spool.record import DeadLetter
from gateway.spool.state import Letter, Parked
from gateway.telemetry import Telemetry
from schemas import Registry

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

SMALLEST_BULK_BYTES = 64 * 1024
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Sending:
    """What is known of a bulk on its way."""

    folder: str
    began: float = field(default_factory=time.time)
    backoff: Backoff = field(default_factory=Backoff)
    # What was rewritten as it came, by the record's sequence and the position in it.
    originals: dict[tuple[int, int], bytes] = field(default_factory=dict)


class Sender:
    """One Elasticsearch, as far as requests go.

    While it is in trouble one request at a time tries whether it is over; the others wait.
    """

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
        self._record_settled = record_settled
        self._backoff = Backoff()
        self._turn = asyncio.Lock()
        self._trouble_since: float | None = None
        # Bulks of which it is not known yet whether they or the server are at fault.
        self._disputed: set[Sending] = set()
        self.last_error: str | None = None
        self.last_success = 0.0  # when a document was last taken, seconds since 1970
        self.max_bytes = settings.max_batch_bytes  # less when the server turned out to take less

    @property
    def in_trouble(self) -> bool:
        """Whether whole requests fail."""
        return self._trouble_since is not None

    @property
    def lifecycle_error(self) -> str | None:
        """Why Elasticsearch will not delete old indices, where it is asked to."""
        return self._upkeep.lifecycle_error

    @property
    def retrying(self) -> bool:
        """Whether something is sent again and again."""
        return self.in_trouble or bool(self._disputed)

    async def send(self, bulk: Bulk, folder: str) -> None:
        """Return when every document has its verdict, noted in the record it is of."""
        sending = Sending(folder)
        parts = deque([bulk])
        del bulk  # what is settled need not stay in memory
        try:
            while parts:
                parts += await self._again(parts.popleft(), sending)
        finally:
            self._room.forget(sending)
            self._disputed.discard(sending)

    async def _again(self, part: Bulk, sending: Sending) -> list[Bulk]:
        """Send a part; return what has to be sent again."""
        try:
            answer = await self._answered(part)
        except RequestFailed as error:
            return await self._smaller(part, error, sending)
        if answer.items is None:
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
        await asyncio.sleep(sending.backoff.next())
        return [again]

    async def attempt(self, body: bytes, count: int, indices: set[str]) -> Answer:
        """Send ``count`` documents of these indices once, the templates first; raise `RequestFailed`."""
        self._upkeep.cover(indices)
        await self._upkeep.ensure()
        started = time.monotonic()
        answer = await send_bulk(self._client, body, count, self._settings.request_timeout_secs)
        self._telemetry.bulk_sent(self._name, size=len(body), seconds=time.monotonic() - started)
        return answer

    async def look_after(self) -> None:
        """Look after the templates until cancelled, so that trouble is told before an event meets it.

        Where the gateway does not manage them nothing is asked: a key may lack the right to anything but writing.
        """
        while self._settings.manage_templates:
            if not self.in_trouble:  # else a bulk looks
                await self._insist(self._upkeep.ensure)
            await asyncio.sleep(CHECK_SECS)

    def troubled(self, index: str, ruling: Ruling) -> str:
        """Note that an index does not take documents now; return the reason."""
        reason = f"{ruling.type}: {ruling.reason}"
        advice = " The key lacks a privilege: see docs/elasticsearch.md." if ruling.type == "security_exception" else ""
        self.last_error = f"The index {index} does not take documents ({reason}).{advice}"
        return reason

    async def _answered(self, bulk: Bulk) -> Answer:
        """Send until there is an orderly answer; raise `RequestFailed` when the body is to blame."""
        body = bulk.body()
        indices = {part.index for part in bulk.parts}
        return await self._insist(lambda: self.attempt(body, bulk.count, indices))

    async def _insist(self, request: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an orderly answer; raise `RequestFailed` when the body is to blame."""
        while True:
            async with self._turn if self.in_trouble else nullcontext():
                try:
                    answer = await request()
                except RequestFailed as error:
                    if error.blames_body:
                        raise
                    await self._pause(error)
                    continue
                self._works()
                return answer

    async def _smaller(self, part: Bulk, error: RequestFailed, sending: Sending) -> list[Bulk]:
        """Return what to send instead of a body that was refused as a whole."""
        if error.status == 413:
            if part.count > 1:
                self.max_bytes = max(min(self.max_bytes, part.size // 2), SMALLEST_BULK_BYTES)
                return part.halves()
            await self._settle(part.documents()[0], Ruling(Verdict.REFUSED, "content_too_long", str(error)), sending)
            return []
        if part.count == 1 and self.last_success > sending.began:
            # Others are taken, so it is this one; but why is not known, and it may yet change.
            ruling = Ruling(Verdict.INDEX_TROUBLE, "request", str(error))
            if await self._settle(part.documents()[0], ruling, sending):
                return []
        self.last_error = str(error)
        self._telemetry.sink_failed(self._name, error.reason, str(error), first=sending not in self._disputed)
        self._disputed.add(sending)
        await asyncio.sleep(sending.backoff.next(error.retry_after))
        return part.halves()

    async def _rule(self, bulk: Bulk, items: list[dict[str, Any]], sending: Sending) -> Bulk:
        """Note the verdicts and return what has to be sent again."""
        again: list[Document] = []
        for document, item in zip(bulk.documents(), items, strict=True):
            ruling = rule(item)
            if ruling.verdict is Verdict.BUSY:
                self.last_error = f"Elasticsearch is busy ({ruling.type}: {ruling.reason})."
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
            if not self._room.take(len(source), sending):
                return False
            taken.parked.append(Parked(origin, document.index, time.time(), document.action, source, reason))
        else:
            await self._room.wait(len(source), sending)
            letter = dead_letter(self._name, "mapping", source, ruling)
            taken.letters.append(Letter(origin, letter, document.index))
        self._close(taken, 1)
        return True

    def _close(self, taken: Taken, count: int) -> None:
        taken.open -= count
        if not taken.open:
            self._record_settled()

    async def _pause(self, error: RequestFailed) -> None:
        first = self._trouble_since is None
        if first:
            self._trouble_since = time.monotonic()
        self._upkeep.recheck()
        self.last_error = str(error)
        self._telemetry.sink_failed(self._name, error.reason, str(error), first=first)
        await asyncio.sleep(self._backoff.next(error.retry_after))

    def _works(self) -> None:
        if self._trouble_since is not None:
            self._telemetry.sink_recovered(self._name, time.monotonic() - self._trouble_since)
            self._trouble_since = None
            self._backoff.reset()


def dead_letter(sink: str, reason: str, source: bytes, ruling: Ruling) -> DeadLetter:
    """Return the dead letter of a document that a sink could not place."""
    return DeadLetter(
        time.time(), sink, "", None, reason, "$", ruling.type or reason, ruling.reason, source, len(source)
    )


def rewritten(source: bytes) -> bytes | None:
    """Return a document written once more, without repeated keys; None when that changes nothing."""
    try:
        written = orjson.dumps(orjson.loads(source))
    except ValueError:
        return None
    return None if written == source else written
