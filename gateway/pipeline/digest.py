"""A block of lines to one draft of a record: parse, validate, enrich, name, write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

import orjson
import structlog

from gateway.pipeline.block import Block, Refusal
from gateway.pipeline.clock import Clock
from gateway.pipeline.document import Made, Writer
from gateway.pipeline.enrich import Enrichers
from gateway.pipeline.identity import Identity
from gateway.pipeline.parse import STEP_BYTES, Event, Parser
from gateway.pipeline.quick import Readers
from gateway.spool.record import Counts, DeadLetter, Documents, Draft
from gateway.summary import Gathering
from gateway.summary.gathering import Unit
from schemas import BUILT_IN, Fault, Kind, Registry

log = structlog.get_logger(__name__)
_INDEX = itemgetter(0)
_JOINED_AT = 2000  # documents: more than one read brings
# Of the faults that are not the clock's.
_REASONS = {"timestamp_invalid": "schema", "too_deep": "json"}


class Digest:
    """Turns blocks into drafts. Pure but for the counter of new ids."""

    def __init__(
        self,
        clock: Clock,
        enrichers: Enrichers,
        *,
        max_line_bytes: int,
        default_kind: str | None = None,
        index_prefix: str = "",
        registry: Registry = BUILT_IN,
        quick: bool = True,
        log_unit: Unit = "s",
    ) -> None:
        """Unless it is ``quick`` pydantic reads each event; ``log_unit``: of durations in pipeline logs."""
        self._clock = clock
        self._enrichers = enrichers
        self._identity = Identity()
        self._max_line_bytes = max_line_bytes
        self._registry = registry
        self._default = None if default_kind is None else registry.kinds[default_kind]
        self._prefix = index_prefix
        self._readers = Readers(registry, self._default) if quick else None
        self._log_unit = log_unit

    def block(self, block: Block, received: float, now: float | None = None) -> Digestion:
        """Begin on a block received at ``received``, seconds since 1970; ``now``: where that was earlier."""
        return Digestion(self, block, received, now)

    def summary(self, documents: Iterable[Documents]) -> bytes:
        """Return the figures of documents that were not digested together."""
        gathering = Gathering(self._log_unit)
        for index, _, data in documents:
            base = self._registry.split(index)[1] or ""
            gathering.add(base, list(map(orjson.loads, bytes(data).split(b"\n")[1::2])))
        return gathering.encode()


class Digestion:
    """One block while it is worked on, a part a step."""

    def __init__(self, digest: Digest, block: Block, received: float, now: float | None = None) -> None:
        self._digest = digest
        self._block = block
        self._received = received
        clock = digest._clock.at(received, now)
        self._gathering = Gathering(digest._log_unit)
        self._writer = Writer(
            block, received, clock, digest._enrichers, digest._identity, digest._prefix, self._gathering.look
        )
        self._written: list[Made] = []  # in this step
        self._runs: list[tuple[int | None, int, int]] = []  # their places: line, number of the first, how many
        self._longest = min(digest._max_line_bytes, STEP_BYTES)
        self._groups: dict[str, list[bytes]] = defaultdict(list)
        self._joined: dict[str, bytearray] = defaultdict(bytearray)  # what comes before that
        self._counts: dict[str, int] = defaultdict(int)
        self._parser = Parser(block.lines, digest._max_line_bytes, self._take_at_once if digest._readers else None)
        self._letters: list[DeadLetter] = []
        self.refusals: list[Refusal] = [
            Refusal(line, None, reason, "$", reason, message, "", None, data, data_bytes)
            for line, reason, message, data, data_bytes in block.broken
        ]

    def step(self) -> bool:
        """Work on the next events; return whether there may be more."""
        events, refused = self._parser.step()
        self.refusals += refused
        by_kind: dict[str, list[Event]] = defaultdict(list)
        registry = self._digest._registry
        choose, default = registry.choose, self._digest._default
        whole = registry.kinds[self._block.kind] if self._block.kind else None
        for event in events:
            kind = whole or choose(event.fields) or default
            if kind is None:
                hint = registry.unknown_kind_hint(event.fields)
                fault = Fault("$", "kind_unknown", "No kind of event fits.", "", hint)
                self._refuse(event, "schema", fault)
            else:
                by_kind[kind.name].append(event)
        for name, group in by_kind.items():
            self._take(registry.kinds[name], group)
        self._gather(in_order=not events)
        self._letters += map(self._letter, self.refusals[len(self._letters) :])
        return not self._parser.done

    def draft(self) -> Draft:
        """Return what the whole block became."""
        block = self._block
        documents = [Documents(index, self._counts[index], self._text(index)) for index in self._groups]
        accepted = sum(group.count for group in documents)
        refused = len(self._letters)
        counts = Counts(accepted + refused, accepted, refused)
        summary = self._gathering.encode()
        return Draft(block.source, counts, documents, self._letters, summary=summary)

    def _text(self, index: str) -> bytes | memoryview:
        """Return the documents of an index, which are copied once where there are not many."""
        text = b"".join(self._groups[index])
        if index not in self._joined:
            return text
        self._joined[index] += text
        return memoryview(self._joined[index])

    def _take(self, kind: Kind, events: list[Event]) -> None:
        """Validate events of one kind together and write the good ones."""
        try:
            checked = kind.validate([event.fields for event in events])
        except Exception as error:
            self._fail(events, error)
            return
        for event, fields in zip(events, checked, strict=True):
            if isinstance(fields, Fault):
                self._refuse(event, "schema", fields)
                continue
            try:
                made = self._writer.write(kind, event.data, event.fields, fields)
            except Exception as error:  # such as an enricher's mistake: it must cost nobody but this event
                self._fail([event], error)
                continue
            if isinstance(made, Fault):
                self._refuse(event, _REASONS.get(made.rule, "clock"), made)
            else:
                self._written.append(made)
                self._runs.append((event.line, event.item or 0, 1))

    def _take_at_once(self, events: list[bytes], first: int, room: int, line: int | None) -> tuple[int, int]:
        """Write documents without pydantic."""
        readers = self._digest._readers
        if readers is None:
            return first, 0
        made, used = self._writer.write_many(events, first, room, self._longest, readers)
        self._written += made
        self._runs.append((line, first, len(made)))
        return first + len(made), used

    def _gather(self, *, in_order: bool) -> None:
        """Put the documents of a step behind those of the steps before, in the order of their events."""
        written = self._written
        if not in_order:
            places = [
                (number, 0) if line is None else (line, number)
                for line, first, count in self._runs
                for number in range(first, first + count)
            ]
            written = [written[number] for number in sorted(range(len(places)), key=places.__getitem__)]
        for index, group in groupby(written, _INDEX):
            _, documents, looked = zip(*group, strict=True)
            found = self._groups[index]
            found += documents
            self._counts[index] += len(documents)
            if len(found) >= _JOINED_AT:
                self._joined[index] += b"".join(found)
                found.clear()
            self._gathering.count(self._writer.bases[index], looked)
        self._written.clear()
        self._runs.clear()

    def _letter(self, refusal: Refusal) -> DeadLetter:
        block = self._block
        return DeadLetter(
            self._received, block.source, block.peer_of(refusal.line), block.tenant, refusal.reason, refusal.path,
            refusal.rule, refusal.told, refusal.data, refusal.data_bytes, block.kind,
        )  # fmt: skip

    def _fail(self, events: list[Event], error: Exception) -> None:
        log.error("The gateway failed on an event: it is kept as a dead letter.", exc_info=error)
        text = f"The gateway failed on this event ({type(error).__name__}: {error}): please report it."
        for event in events:
            self._refuse(event, "schema", Fault("$", "internal_error", text, "", None))

    def _refuse(self, event: Event, reason: str, fault: Fault) -> None:
        if reason == "schema":
            self._gathering.refuse(event.fields)
        self.refusals.append(Refusal(event.line, event.item, reason, *fault, event.data, len(event.data)))
