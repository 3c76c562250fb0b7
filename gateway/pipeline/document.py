"""An event to its document, in the form in which Elasticsearch's bulk API takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import orjson

from gateway.pipeline.block import Block
from gateway.pipeline.clock import BlockClock, Moment
from gateway.pipeline.enrich import Enrichers
from gateway.pipeline.identity import Identity, place
from gateway.pipeline.parse import QUICK_EVENT_BYTES
from gateway.pipeline.quick import Reader, Readers
from gateway.summary.gathering import TOLD, Row, row_of_all
from schemas import Fault, Kind
from schemas.kinds import INFERENCE, LABEL, MLFLOW

_MAX_ACTIONS = 1000  # a day each
_OBJECT, _END = b"{}"
_COLONS_OF_A_TIME = 2  # of one whose day the clock knows
_LOOKED_AT = 64  # events
Made = tuple[str, bytes, Row | None]
"""The index of a document, its two lines, and what is to be counted of it: `gateway.summary.Gathering.look`."""


class Writer:
    """Writes the documents of one block."""

    def __init__(
        self, block: Block, received: float, clock: BlockClock, enrichers: Enrichers, identity: Identity, prefix: str,
        look: Callable[[str, Mapping[str, Any]], Row | None],
    ) -> None:  # fmt: skip
        """Take what the documents depend on; ``received`` is in seconds since 1970."""
        self._kind, self._tenant = block.kind, block.tenant
        self._received_ms = int(received * 1000)
        self._clock = clock
        self._enrichers = enrichers
        self._identity = identity
        self._prefix = prefix
        self._look = look
        self._actions: dict[tuple[str, str], tuple[str, bytes, bytes]] = {}
        self._frames: dict[tuple[str, str | None, str], tuple[str, bytes, bytes, bytes]] = {}
        self.bases: dict[str, str] = {}
        """The indices of what was written, with what they are called without prefix and day."""
        # Events that are looked at together, up to which one, and whether any holds line ends or escaped characters.
        self._events: list[bytes] = []
        self._looked_at = 0
        self._may_be_odd = True

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
        row = self._look(kind.index, document)
        return index, b"".join((action, identity, b'"}}\n', text, b"\n")), row

    def write_many(
        self, events: list[bytes], first: int, room: int, longest: int, readers: Readers
    ) -> tuple[list[Made], int]:
        """Return the documents of events from ``first`` on, up to one that pydantic is to read, and their bytes.

        An event that pydantic need not read has one of two ways. Without fields that its schema does not name its
        document is its own bytes, with what is added put in before the last bracket; else it is read and written as any
        other. ``room``: after about so many bytes it ends, `QUICK_EVENT_BYTES` for each event included; ``longest``: a
        longer event is left to pydantic.
        """
        written: list[Made] = []
        used = 0
        if events is not self._events:
            self._events, self._looked_at = events, first
        reader = self._latest(readers)
        for at in range(first, len(events)):
            data = events[at]
            if used >= room or not data or data[0] != _OBJECT or len(data) > longest:
                break
            if at >= self._looked_at:  # at some together, which is cheaper than at each
                self._looked_at = at + _LOOKED_AT
                together = b"".join(events[at : self._looked_at])
                self._may_be_odd = b"\\" in together or b"\n" in together
            try:
                made = None
                if reader is not None:
                    try:
                        made = self._splice(reader, data, reader.decode(data))
                    except msgspec.ValidationError:
                        made = None  # it may be of another kind
                if made is None:
                    made = self._read(data, readers)
                    reader = self._latest(readers)
            except Exception:  # no JSON, a value that is refused or changed, a mistake of ours: told of there
                break
            if made is None:
                break
            written.append(made)
            used += len(data) + QUICK_EVENT_BYTES
        return written, used

    def _latest(self, readers: Readers) -> Reader | None:
        """Return the reader of the event before, if events may be spliced that it reads."""
        reader = readers.latest
        return reader if reader is not None and reader.is_its_document and self._kind is None else None

    def _read(self, data: bytes, readers: Readers) -> Made | None:
        """Return the document of an event of any kind; where pydantic is to read it, return None or raise anything."""
        sent = orjson.loads(data)
        kind = readers.kind_of(sent, self._kind)
        if kind is None:
            return None
        reader = readers.of(kind)
        if reader.check is None:
            return None
        fields = reader.check(data)
        if self._latest(readers) is not None and (made := self._splice(reader, data, fields)) is not None:
            return made
        reader.pass_over(sent)
        written = self.write(kind, data, sent, sent)
        return None if isinstance(written, Fault) else written

    def _splice(self, reader: Reader, data: bytes, fields: dict[str, Any]) -> Made | None:
        """Return the document made of an event's own bytes; None where that is not sure to be the same document.

        Raises `ValueError` for an event that is refused anyway.
        """
        get = fields.get
        declared, sent_at = get("type"), get("@timestamp")
        time = get("timestamp") if sent_at is None else sent_at
        text: Any = time
        day = self._clock.day_of(time) if type(time) is str else None
        # Each name has a colon: where there is none but those of the fields and of their texts, there is no other name,
        # and none that comes twice. An escaped one is not counted.
        colons, known = data.count(b":"), len(fields)
        if day is not None:
            known += _COLONS_OF_A_TIME
        elif type(time) is str:
            known += time.count(":")
        if colons != known and (colons < known or colons != _colons(fields)):
            return None
        if self._may_be_odd and (b"\\" in data or b"\n" in data):
            return None
        if declared not in reader.types and not reader.is_of(fields):
            return None
        if day is None:
            when = self._clock.of_event(fields)
            if isinstance(when, Fault):
                raise ValueError(when.message)
            text, day = when
        if ("@timestamp" in fields and sent_at != text) or (declared is None and "type" in fields):
            return None
        kind, addition = reader.kind, None
        more = b""
        if reader.is_enriched:
            known_parts: Any = reader.additions
            try:
                for enrich in self._enrichers.of(fields["model_name"]):
                    if part := enrich(fields):
                        known_parts = known_parts[id(part)]
                addition = known_parts[None]
            except KeyError:
                addition = reader.add(self._enrichers.parts(fields))
            if addition.may_clash and (addition.is_a_stamp or not fields.keys().isdisjoint(addition.fields)):
                return None
            more = addition.text
        index, action, common, stamp = self._frames.get((kind.name, declared, day)) or self._frame(kind, declared, day)
        identity = self._identity.of(common, fields, data, self._received_ms)
        event = data[:-1] if data[-1] == _END else data[: data.rindex(b"}")]
        if sent_at is None:
            at = text.encode()
            document = b"".join((action, identity, b'"}}\n', event, b',"@timestamp":"', at, b'"', stamp, more, b"}\n"))
        else:
            document = b"".join((action, identity, b'"}}\n', event, stamp, more, b"}\n"))
        if addition is None:
            return index, document, self._look(kind.index, fields)
        if not addition.is_plain:
            return index, document, self._look(kind.index, fields | addition.fields)
        try:
            return index, document, row_of_all(fields)
        except KeyError:
            return index, document, tuple(map(get, TOLD))

    def _action(self, kind: Kind, day: str) -> tuple[str, bytes, bytes]:
        """Return the index of a day, what precedes the `_id` of its documents, and what they have in common."""
        index = f"{self._prefix}{kind.index}-{day}"
        self.bases[index] = kind.index
        action = index, f'{{"create":{{"_index":"{index}","_id":"'.encode(), place(kind.name, day, self._tenant)
        if len(self._actions) < _MAX_ACTIONS:
            self._actions[kind.name, day] = action
        return action

    def _frame(self, kind: Kind, declared: str | None, day: str) -> tuple[str, bytes, bytes, bytes]:
        """Return `_action`, and what is added to all events of a kind, as it stands between two others."""
        stamps = {"received_at": self._clock.received.text}
        if declared is None:
            stamps["type"] = kind.type
        if self._tenant is not None:
            stamps["tenant"] = self._tenant
        action = self._actions.get((kind.name, day)) or self._action(kind, day)
        frame = *action, b"," + orjson.dumps(stamps)[1:-1]
        if len(self._frames) < _MAX_ACTIONS:
            self._frames[kind.name, declared, day] = frame
        return frame

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
