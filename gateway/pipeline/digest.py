"""A block of lines to one draft of a record: parse, validate, enrich, name, write."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import orjson
import structlog

from gateway.pipeline.block import Block, Refusal
from gateway.pipeline.clock import BlockClock, Clock, Moment
from gateway.pipeline.enrich import Enrichers
from gateway.pipeline.identity import Identity
from gateway.pipeline.parse import Event, Parser
from gateway.spool.record import Counts, DeadLetter, Documents, Draft
from schemas import BUILT_IN, Fault, Kind, Registry
from schemas.kinds import INFERENCE, LABEL, MLFLOW

log = structlog.get_logger(__name__)


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
    ) -> None:
        self._clock = clock
        self._enrichers = enrichers
        self._identity = Identity()
        self._max_line_bytes = max_line_bytes
        self._registry = registry
        self._default = None if default_kind is None else registry.kinds[default_kind]
        self._prefix = index_prefix

    def block(self, block: Block, received: float, now: float | None = None) -> Digestion:
        """Begin on a block received at ``received``, seconds since 1970; ``now``: where that was earlier."""
        return Digestion(self, block, received, now)


class Digestion:
    """One block while it is worked on, a part a step."""

    def __init__(self, digest: Digest, block: Block, received: float, now: float | None = None) -> None:
        self._digest = digest
        self._block = block
        self._received = received
        self._received_ms = int(received * 1000)
        self._clock: BlockClock = digest._clock.at(received, now)
        self._groups: dict[str, bytearray] = defaultdict(bytearray)
        self._counts: dict[str, int] = defaultdict(int)
        self._parser = Parser(block.lines, digest._max_line_bytes)
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
        self._letters += map(self._letter, self.refusals[len(self._letters) :])
        return not self._parser.done

    def draft(self) -> Draft:
        """Return what the whole block became."""
        block = self._block
        documents = [Documents(index, self._counts[index], memoryview(data)) for index, data in self._groups.items()]
        accepted = sum(group.count for group in documents)
        refused = len(self._letters)
        return Draft(block.source, Counts(accepted + refused, accepted, refused), documents, self._letters)

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
                self._write(kind, event, fields)
            except Exception as error:  # such as an enricher's mistake: it must cost nobody but this event
                self._fail([event], error)

    def _write(self, kind: Kind, event: Event, fields: dict[str, Any]) -> None:
        """Write the two lines of a document."""
        digest, tenant = self._digest, self._block.tenant
        when, indexed = self._times(kind, fields)
        if isinstance(when, Fault):
            self._refuse(event, "schema" if when.rule == "timestamp_invalid" else "clock", when)
            return
        try:
            # Within as many arrays as an answer puts around it, so that what is stored can also be shown.
            document = orjson.dumps([[[[self._document(kind, event, fields, when)]]]])[4:-4]
        except orjson.JSONEncodeError as error:
            self._refuse(event, "json", Fault("$", "too_deep", f"It cannot be stored: {error}.", "", None))
            return
        index = f"{digest._prefix}{kind.index}-{indexed.day}"
        identity = digest._identity.of(kind.name, indexed.day, tenant, fields, event.data, self._received_ms)
        action = f'{{"create":{{"_index":"{index}","_id":"{identity}"}}}}\n'
        self._groups[index] += action.encode() + document + b"\n"
        self._counts[index] += 1

    def _times(self, kind: Kind, fields: dict[str, Any]) -> tuple[Moment | Fault, Moment]:
        """Return when the event happened, or why that cannot be, and the time whose day its index has."""
        clock = self._clock
        when = clock.of_event(fields)
        if isinstance(when, Fault):
            return when, clock.received
        if not kind.moments:
            return when, when
        is_label = kind.name == LABEL.name
        indexed = clock.received if is_label else when
        for name in kind.moments:
            if fields.get(name) is None:
                continue
            decides = is_label and name == "labelled_at"
            moment = clock.read(name, fields[name], limited=decides)
            if isinstance(moment, Fault):
                return moment, clock.received
            fields[name] = moment.text  # in seconds it would be read as milliseconds
            if decides:
                indexed = moment
        if indexed is clock.received and isinstance(clock.of_receipt, Fault):
            return clock.of_receipt, indexed
        return indexed if is_label and when is clock.received else when, indexed

    def _document(self, kind: Kind, event: Event, fields: dict[str, Any], when: Moment) -> dict[str, Any]:
        if kind.name == MLFLOW.name:
            fields = {
                "pipeline": "mlflow",
                "event_category": fields["event_type"],
                "mlflow_event": event.fields,
            }
        document = {**fields, "@timestamp": when.text, "received_at": self._clock.received.text}
        if document.get("type") is None or self._block.kind:
            document["type"] = kind.type
        if self._block.tenant is not None:
            document["tenant"] = self._block.tenant
        if kind.name == INFERENCE.name:
            document.update(self._digest._enrichers.added(fields))
        return document

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
        self.refusals.append(Refusal(event.line, event.item, reason, *fault, event.data, len(event.data)))
