"""An event to its document, in the form in which Elasticsearch's bulk API takes it."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from gateway.pipeline.block import Block
from gateway.pipeline.clock import BlockClock, Moment
from gateway.pipeline.enrich import Enrichers
from gateway.pipeline.identity import Identity, place
from gateway.pipeline.quick import Reader, Readers
from schemas import Fault, Kind
from schemas.added import Stamps
from schemas.kinds import INFERENCE, LABEL, MLFLOW

_STAMPS = frozenset(Stamps.__annotations__)
_MAX_ACTIONS = 1000  # a day each
Made = tuple[str, bytes, dict[str, Any]]
"""The index of a document, its two lines, and its fields, at least those that the schema knows or an enricher added."""


class Writer:
    """Writes the documents of one block."""

    def __init__(
        self, block: Block, received: float, clock: BlockClock, enrichers: Enrichers, identity: Identity, prefix: str
    ) -> None:
        """Take what the documents depend on; ``received`` is in seconds since 1970."""
        self._kind, self._tenant = block.kind, block.tenant
        self._received_ms = int(received * 1000)
        self._clock = clock
        self._enrichers = enrichers
        self._identity = identity
        self._prefix = prefix
        self._actions: dict[tuple[str, str], tuple[str, bytes, bytes]] = {}
        self._stamps: dict[tuple[str, str | None], bytes] = {}
        self.bases: dict[str, str] = {}
        """The indices of what was written, with what they are called without prefix and day."""
        self.may_be_odd = True
        """Whether the events at hand may hold line ends or escaped characters."""

    def write(self, kind: Kind, data: bytes, sent: dict[str, Any], fields: dict[str, Any]) -> Made | Fault:
        """Return the document of an event that came as ``data`` and was read as ``sent``; ``fields``: checked."""
        when, indexed = self._times(kind, fields)
        if isinstance(when, Fault):
            return when
        try:
            # Within as many arrays as an answer puts around it, so that what is stored can also be shown.
            document = self._document(kind, sent, fields, when)
            text = orjson.dumps([[[[document]]]])[4:-4]
        except orjson.JSONEncodeError as error:
            return Fault("$", "too_deep", f"It cannot be stored: {error}.", "", None)
        index, action, common = self._actions.get((kind.name, indexed.day)) or self._action(kind, indexed.day)
        identity = self._identity.of(common, fields, data, self._received_ms)
        return index, b"".join((action, identity, b'"}}\n', text, b"\n")), document

    def write_at_once(self, data: bytes, readers: Readers) -> Made | None:
        """Return the document of an event that pydantic need not read, though it may.

        It has one of two ways. Without fields that its schema does not name it is its own bytes, with what is added put
        in before the last bracket; else it is read and written as any other. Where pydantic is to read it, return None
        or raise anything.
        """
        reader = readers.latest
        if reader is not None and reader.decode is not None and self._may_splice(reader):
            try:
                made = self._splice(reader, data, reader.decode(data))
            except msgspec.ValidationError:
                pass  # it may be of another kind
            else:
                if made is not None:
                    return made
        sent = orjson.loads(data)
        kind = readers.kind_of(sent, self._kind)
        if kind is None:
            return None
        if reader is None or kind is not reader.kind:
            reader = readers.of(kind)
        if reader.check is None:
            return None
        fields = reader.check(data)
        if self._may_splice(reader) and (made := self._splice(reader, data, fields)) is not None:
            return made
        reader.pass_over(sent)
        written = self.write(kind, data, sent, sent)
        return None if isinstance(written, Fault) else written

    def _may_splice(self, reader: Reader) -> bool:
        return reader.is_its_document and self._kind is None

    def _splice(self, reader: Reader, data: bytes, fields: dict[str, Any]) -> Made | None:
        """Return the document made of an event's own bytes; None where that is not sure to be the same document."""
        declared = fields.get("type")
        sent_at = fields.get("@timestamp")
        time = fields.get("timestamp") if sent_at is None else sent_at
        # Each name has a colon: where there is none but those of the fields and of their texts, there is no other name,
        # and none that comes twice. An escaped one is not counted.
        colons = data.count(b":")
        known = len(fields) + (time.count(":") if type(time) is str else 0)
        if colons != known and (colons < known or colons != _colons(fields)):
            return None
        if self.may_be_odd and (b"\\" in data or b"\n" in data):
            return None
        if declared not in reader.types and not reader.is_of(fields):
            return None
        text: Any
        text, day = time, self._clock.day_of(time) if type(time) is str else None
        if day is None:
            when = self._clock.of_event(fields)
            if isinstance(when, Fault):
                return None
            text, day = when
        event = data[: data.rindex(b"}")]
        at = b',"@timestamp":"%b"' % str.encode(text) if sent_at is None else b""
        if ("@timestamp" in fields and sent_at != text) or (declared is None and "type" in fields):
            return None
        kind = reader.kind
        stamp = self._stamps.get((kind.name, declared)) or self._stamp(kind, declared)
        more = b""
        if reader.is_enriched:
            added = self._enrichers.added(fields)
            if added:
                if not fields.keys().isdisjoint(added) or not _STAMPS.isdisjoint(added):
                    return None
                more = b"," + orjson.dumps(added)[1:-1]
                if "error" in added:
                    fields = fields | added
        index, action, common = self._actions.get((kind.name, day)) or self._action(kind, day)
        identity = self._identity.of(common, fields, data, self._received_ms)
        return index, b"".join((action, identity, b'"}}\n', event, at, stamp, more, b"}\n")), fields

    def _action(self, kind: Kind, day: str) -> tuple[str, bytes, bytes]:
        """Return the index of a day, what precedes the `_id` of its documents, and what they have in common."""
        index = f"{self._prefix}{kind.index}-{day}"
        self.bases[index] = kind.index
        action = index, f'{{"create":{{"_index":"{index}","_id":"'.encode(), place(kind.name, day, self._tenant)
        if len(self._actions) < _MAX_ACTIONS:
            self._actions[kind.name, day] = action
        return action

    def _stamp(self, kind: Kind, declared: str | None) -> bytes:
        """Return what is added to all events of a kind, as it stands between two others."""
        stamps = {"received_at": self._clock.received.text}
        if declared is None:
            stamps["type"] = kind.type
        if self._tenant is not None:
            stamps["tenant"] = self._tenant
        stamp = self._stamps[kind.name, declared] = b"," + orjson.dumps(stamps)[1:-1]
        return stamp

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

    def _document(self, kind: Kind, sent: dict[str, Any], fields: dict[str, Any], when: Moment) -> dict[str, Any]:
        if kind.name == MLFLOW.name:
            fields = {
                "pipeline": "mlflow",
                "event_category": fields["event_type"],
                "mlflow_event": sent,
            }
        document = {**fields, "@timestamp": when.text, "received_at": self._clock.received.text}
        if document.get("type") is None or self._kind:
            document["type"] = kind.type
        if self._tenant is not None:
            document["tenant"] = self._tenant
        if kind.name == INFERENCE.name:
            document.update(self._enrichers.added(fields))
        return document


def _colons(fields: dict[str, Any]) -> int:
    """Count the colons of fields as they would be written without escapes; -1 where they cannot be written."""
    try:
        return orjson.dumps([[[[fields]]]]).count(b":")  # so deep as in `write`
    except orjson.JSONEncodeError:
        return -1
