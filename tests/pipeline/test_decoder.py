"""Whether or not pydantic reads an event, the outcome is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, Field, with_config

from gateway.pipeline.block import Block, Refusal
from gateway.pipeline.configured import make_digest
from gateway.pipeline.digest import Digest
from gateway.settings import Settings
from gateway.spool.record import Draft
from schemas import BUILT_IN, Fault, Kind, Registry, own
from schemas.event import KEEP_EXTRAS, Event
from schemas.types import Text
from tests.pipeline.blocks import NOON, draft_of, new_block, new_digest
from tests.pipeline.test_any_event import CORPUS, LINES, NAMES, ODD, REGISTRY, SCALARS
from tests.promises.test_a_bad_event_harms_nobody import LARGE

AT = "2026-06-15T10:00:00.250Z"
# One of each kind as its senders write it; all but the last have fields of their schema alone.
ORDINARY: dict[str, list[dict[str, Any]]] = {
    "model_inference": [
        {
            "event_id": "e1", "timestamp": AT, "model_name": "fraud", "model_version": "3.1", "prediction_class": "yes",
            "true_label": 1, "prediction_confidence": 0.93, "inference_time_ms": 25, "cpu_usage": 12.5,
            "environment": "production", "request_id": "r1", "error_message": None, "data_quality_score": 1,
        },
        {"@timestamp": AT, "type": "model_inference", "model_name": "fraud", "error_message": "CUDA: out of memory"},
        {"timestamp": 1781517600.5, "model_name": "fraud", "prediction_class": True, "true_label": False},
    ],
    "model_training": [
        {"type": "model_training", "timestamp": AT, "model_name": "m", "epoch": 3, "metrics": {"a": 1, "b": 0.5},
         "parameters": {"layers": [{"units": 32}], "optimizer": "adam"}},
    ],
    "data_quality": [{"timestamp": AT, "dataset_name": "d", "check_name": "c", "score": 0.5, "passed": True}],
    "log": [{"timestamp": AT, "level": "INFO", "message": "Took: 12 ms", "labels": {"a": "b:c"}, "duration": 1.5}],
    "operation": [{"type": "operation", "operation_id": "o", "status": "progress", "progress": 0.5}],
    "audit": [{"type": "audit", "timestamp": AT, "actor": "me", "action": "look", "outcome": "denied"}],
    "lineage": [{"type": "lineage", "timestamp": AT, "node_id": "n", "node_type": "model", "inputs": ["a", "b:c"]}],
    "alert": [{"type": "alert", "timestamp": AT, "name": "drift", "model_name": "m", "message": "m", "value": 1e-3}],
}  # fmt: skip
WITH_MORE: list[dict[str, Any]] = [
    {"model_name": "fraud", "timestamp": AT, "mine": 1, "features": {"a": [1, {"b": None}]}},
    {"@timestamp": "2026-06-15 10:00:00", "@version": "1", "message": "hello", "type": "logstash", "tags": []},
    {"model_name": "a\u00e9\\", "confidence_level": "mine", "error": True, "tenant": "forged", "received_at": 1},
    {"type": "label", "request_id": "r", "true_label": "yes", "labelled_at": AT},
    {"event_type": "scaling_start", "timestamp": AT, "details": {"a": {"b": 1}}},
]


# So many, with so many names, that their names are known from then on.
MORE = {"model_name": "a", "x": 1, "y": {"a": 1}, "z": [1], "tenant": "b", "received_at": 1, "event_type": None}
TAUGHT = [MORE, {**MORE, "confidence_level": "c", "@version": "1"}, {"message": "m", "@version": "1", "x": 1}] * 200


def spelled(event: dict[str, Any]) -> list[bytes]:
    return [json.dumps(event).encode(), orjson.dumps(event)]


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), "Elasticsearch refuses a name that comes twice"
    return found


def outcome(draft: Draft, refusals: list[Refusal]) -> Any:
    """Return what became of a block, but for the ids that are drawn."""
    documents = []
    for group in draft.documents:
        lines = bytes(group.data).split(b"\n")
        assert lines.pop() == b""
        assert len(lines) == 2 * group.count
        for action, text in zip(lines[::2], lines[1::2], strict=True):
            json.loads(text, object_pairs_hook=unique)
            document = orjson.loads(text)
            place = json.loads(action)["create"]
            assert place["_index"] == group.index
            sent = document.get("mlflow_event", document)
            known = sent.get("event_id") not in (None, "") or sent.get("request_id") not in (None, "")
            documents.append((group.index, place["_id"] if known else len(place["_id"]), written(document)))
    letters = sorted(draft.dead_letters, key=lambda each: (each.data, each.rule))
    return documents, letters, draft.counts, sorted(refusals, key=lambda each: (each.line, each.item or 0))


def written(document: dict[str, Any]) -> str:
    """Spell a document in one way; of a float in it the sign of zero and of an integer the size count too."""
    return json.dumps(document, sort_keys=True)


def check(block: Block, digests: tuple[Digest, Digest]) -> None:
    """Digest a block in both ways."""
    fast, slow = (outcome(*draft_of(block, digest)) for digest in digests)
    assert fast == slow


def both(**settings: Any) -> tuple[Digest, Digest]:
    return new_digest(quick=True, **settings), new_digest(quick=False, **settings)


DIGESTS = (
    both(registry=REGISTRY, max_line_bytes=4096),
    both(registry=REGISTRY, default_kind="log", max_age_days=None, naive_timezone="Asia/Tokyo", index_prefix="eu-"),
)
BLOCKS: list[dict[str, Any]] = [{}, {"tenant": "blue"}, {"kind": "label"}]


def test_the_corpus() -> None:
    """Each input of the corpus alone, all of them together, and what is large."""
    for digests in DIGESTS:
        for fields in BLOCKS:
            check(new_block(*CORPUS, **fields), digests)
            for line in CORPUS:
                check(new_block(line, **fields), digests)
    for make, _ in LARGE.values():
        check(new_block(make()), both(max_line_bytes=1024 * 1024))


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_events_are_spliced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary event is stored as it was spelled, and pydantic is not asked."""
    lines = [line for event in ORDINARY[name] for line in spelled(event)]
    check(new_block(*lines), both())
    monkeypatch.setattr(Kind, "validate", never)
    draft, refusals = draft_of(new_block(*lines))
    assert refusals == []
    stored = b"".join(bytes(group.data) for group in draft.documents)
    for line in lines:
        assert line[:-1] + b"," in stored


def test_fields_that_come_often_are_spliced() -> None:
    """After some events with fields that no schema knows, those are stored as they were spelled too."""
    digest = new_digest()
    draft_of(new_block(*[MORE | {"tenant": None}] * 200), digest)
    line = b'{"model_name": "a", "x": "a:b",  "y": {"a": [{"b": 1.50}]}}'
    draft, _ = draft_of(new_block(line), digest)
    assert line[:-1] + b"," in bytes(draft.documents[0].data)


def test_other_events_are_not_read_by_pydantic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields that no schema knows, and names that the gateway adds, cost no reading by pydantic."""
    lines = [line for event in WITH_MORE for line in spelled(event)]
    check(new_block(*lines, tenant="blue"), both())
    monkeypatch.setattr(Kind, "validate", never)
    draft, refusals = draft_of(new_block(*lines))
    assert (draft.counts.accepted, refusals) == (len(lines), [])


@pytest.mark.parametrize(("decoder", "asked"), [("fast", [2]), ("pydantic", [6])])
def test_the_setting(decoder: Literal["fast", "pydantic"], asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """With `decoder: pydantic` it reads all events, else only those that it changes or refuses."""
    sizes = []
    validate = Kind.validate

    def counted(kind: Kind, events: list[dict[str, Any]]) -> list[dict[str, Any] | Fault]:
        sizes.append(len(events))
        return validate(kind, events)

    monkeypatch.setattr(Kind, "validate", counted)
    names: list[Any] = ["a", "b", 3, "c", [], "d"]
    events = [{"model_name": name} for name in names]
    draft, _ = draft_of(new_block(*events), make_digest(Settings(decoder=decoder), BUILT_IN))
    assert (draft.counts.accepted, sizes) == (5, asked)


def never(*_: object) -> None:
    raise AssertionError("pydantic was asked")


@pytest.mark.parametrize(
    "line",
    [
        b'{"model_name":"a","model_name":"b"}',
        b'{"model_name":"a","model_name" :"b"}',
        b'{"model_name":"a","x" :"b"}',
        b'{"model_name":"a","x"\t:1,"x":2}',
        b'{"model_name":"a","timestamp":"2026-06-15T10\\u003a00\\u003a00Z","x":1,"x":2}',
        b'{"model_name":"a","timestamp":"2026-06-15T10:00\\u003a00Z","region":"b","region":"c"}',
        b'{"model_name":"a\\u003ab","region":"b","region":"c"}',
        b'{"model_name":"a","model\\u005fname":"b"}',
        b'{"model_name":"a","timestamp":"","timestamp":"2026-06-15T10:00:00Z"}',
        b'{"model_name":"a","@timestamp":null,"timestamp":"2026-06-15T10:00:00Z"}',
        b'{"model_name":"a","@timestamp":"2026-06-15T10:00:00Z","timestamp":"2026-06-15T11:00:00Z"}',
        b'{"model_name":"a","@timestamp":1781517600}',
        b'{"model_name":"a","timestamp":null}',
        b'{"model_name":"a","type":null}',
        b'{"model_name":"a","type":7}',
        b'{"model_name":"a","type":"logstash"}',
        b'{"model_name":"a","type":"log"}',
        b'{"type":"model_training","model_name":"a","parameters":{"x":1,"x":2}}',
        b'{"type":"model_training","model_name":"a","parameters":{"x":1e999}}',
        b'{"type":"model_training","model_name":"a","parameters":{"x":"\xff"}}',
        b'{"type":"model_training","model_name":"a","parameters":' + b'{"x":' * 251 + b"1" + b"}" * 252,
        b'{"type":"model_training","model_name":"a","parameters":{"x":123456789012345678901234567890}}',
        b'{"type":"model_training","model_name":"a","epoch":1.0,"step":"2"}',
        b'{"model_name":"a","x":"\xff"}',
        b'{"model_name":"a","x":123456789012345678901234567890}',
        b'{"model_name":"a","x":[123456789012345678901234567890]}',
        b'{"model_name":"a","x":{"a":123456789012345678901234567890}}',
        b'{"model_name":"a","x":[[1]],"y":[{"a":1,"a":2}]}',
        b'{"model_name":"a","x":{"a":1,"a":2},"y":{}}',
        b'{"model_name":"a","x":1,"x":2}',
        b'{"model_name":"a","x":1,"message":"m"}',
        b'{"model_name":"a","x":1,"event_type":"m"}',
        b'{"model_name":"a","confidence_level":"mine","prediction_confidence":0.9}',
        b'{"model_name":"a","tenant":"mine","received_at":"never"}',
        b'{"@version":"1","x":"a:b","model_name":null}',
        b'{"message":"of no alert","timestamp":"2026-06-15T10:00:00Z"}',
        b'{"model_name":"a","x":1e999}',
        b'{"model_name":"a","prediction_class":123456789012345678901234567890}',
        b'{"model_name":"a","prediction_class":18446744073709551615,"cpu_usage":9223372036854775808}',
        b'{"model_name":"a","error":true}',
        b'{"model_name":"a","error":false,"error_message":"x"}',
        b'{"model_name":1,"event_id":123456789012345678901234567890}',
        b'{"model_name":1,"event_id":1,"request_id":""}',
        b'{"model_name":"a","event_id":"","request_id":"r"}',
        b'{"check_name":"c","event_id":"e","model_name":1}',
        b'{"check_name":"c","event_id":"e","model_name":true}',
        b'{"check_name":"c","event_id":"e","model_name":[1]}',
        b'{\n"model_name":"a"\n}',
        b'{"model_name":"a"}\r',
        b' {"model_name":"a"} ',
        b'[{"model_name":"a"},{"model_name":"b","x":1},{"model_name":[]}]',
        b'{"model_name":"a","timestamp":"2026-06-15T12:10:01Z"}',
        b'{"model_name":"a","timestamp":"2026-06-15T12:10:00.000001Z"}',
        b'{"model_name":"a","timestamp":"2026-03-17T11:59:59.999999Z"}',
        b'{"model_name":"a","timestamp":"2026-06-15T10:00:00.1234567890Z"}',
        b'{"model_name":"a","timestamp":"2026-06-15T10:00:00.\xd9\xa3Z"}',
        b'{"model_name":"a","timestamp":"2026-06-31T10:00:00Z"}',
        b'{"model_name":"a","_id":1}',
        b'{"model_name":"a","_id":null}',
        b"{}",
    ],
    ids=lambda line: line[:70].decode(errors="replace"),
)
def test_odd_events(line: bytes) -> None:
    """What looks like an ordinary event and is none has the same outcome as well, beside one of the same second."""
    first = b'{"model_name":"a","timestamp":"2026-06-15T%s","event_id":"e"}'
    beside = [first % each for each in (b"10:00:00Z", b"12:10:00Z", b"12:09:59Z")]
    beside.append(b'{"model_name":"a","timestamp":"2026-03-17T12:00:00Z"}')
    alert = b'{"type":"alert","message":"m"}'
    for fields in BLOCKS[:2]:
        check(new_block(*beside, line, alert, line, line, *beside, **fields), both())
        check(new_block(line, **fields), both())
        taught = both()
        check(new_block(*TAUGHT, **fields), taught)
        check(new_block(*beside, line, alert, line, line, *beside, **fields), taught)


def test_events_stay_in_order() -> None:
    """Of two events with one id the first is stored, whichever way each of them goes."""
    lines = [{"model_name": "a", "event_id": "e", "region": region} for region in ("x", 7, "y", 8)]
    check(new_block(*lines, lines), both())


@with_config(KEEP_EXTRAS)
class Shouted(Event, total=False):
    """A kind with rules that cannot be translated."""

    shout_id: Annotated[Text, AfterValidator(str.upper)]
    mode: Literal["a", "b"]
    code: Annotated[str, Field(max_length=3)]


def test_a_rule_of_a_users_own_is_kept() -> None:
    """A schema of which not everything can be translated is left to pydantic, by itself."""
    kind = Kind("shouted", "shouted", "ml-shouted", Shouted, decided_by=("shout_id",))
    assert kind.unchanged is None
    registry = Registry((kind, *BUILT_IN.kinds.values()))
    lines = [{"shout_id": "a"}, {"shout_id": "b", "mode": "c"}, {"shout_id": "b", "code": "long"}, {"model_name": "m"}]
    check(new_block(*lines), both(registry=registry))
    assert b'"A"' in bytes(draft_of(new_block(lines[0]), new_digest(registry=registry))[0].documents[0].data)


BOUNDS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)
FIELDS = st.one_of(
    st.builds(own.field, st.sampled_from(["string", "text", "boolean", "date"])),
    st.builds(between := lambda type, low, high: ranged(type, low, high), st.just("integer"), BOUNDS, BOUNDS),
    st.builds(between, st.just("number"), BOUNDS | st.floats(allow_nan=False, allow_infinity=False), BOUNDS),
)


def ranged(type: str, low: Any, high: Any) -> Any:
    if low is not None and high is not None and low > high:
        low, high = high, low
    return own.field(type, minimum=low, maximum=high)


SHORT = st.sampled_from(["f1", "f2", "f3"])
SCHEMAS = st.dictionaries(SHORT, FIELDS, min_size=1, max_size=3)
GOOD = st.sampled_from([event for events in ORDINARY.values() for event in events] + WITH_MORE)
CHANGED = st.builds(
    lambda event, fields, dropped: {
        name: value for name, value in {**event, **fields}.items() if name not in dropped
    },
    GOOD,
    st.dictionaries(SHORT | NAMES, SCALARS | ODD | st.integers(-4, 4) | st.booleans(), max_size=3),
    st.sets(NAMES, max_size=1),
)  # fmt: skip
SPELLED = st.builds(
    lambda event, separators, plain: json.dumps(event, ensure_ascii=plain, separators=separators).encode(
        "utf-8", "surrogatepass"
    ),
    CHANGED,
    st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : "), (",\n", ":\t")]),
    st.booleans(),
)
TWICE = st.builds(lambda one, other: one[:-1] + b"," + other.lstrip()[1:], SPELLED, SPELLED)


def any_event(lines: list[bytes], schema: dict[str, Any], fields: dict[str, Any], which: int) -> None:
    check(new_block(*lines, **fields), DIGESTS[which])
    kinds = [own.extended(kind, schema) for kind in (BUILT_IN.kinds["model_inference"], BUILT_IN.kinds["log"])]
    kinds.insert(0, own.extended(Kind("own", "own", "ml-own", Event, decided_by=("f1",)), schema))
    check(new_block(*lines, **fields), both(registry=Registry(kinds)))


def arguments() -> dict[str, Any]:
    return {
        "lines": st.lists(SPELLED | TWICE | LINES, min_size=1, max_size=8),
        "schema": SCHEMAS,
        "fields": st.sampled_from([{}, {"tenant": "blue"}]),
        "which": st.integers(0, 1),
    }


test_any_event: Callable[[], None] = settings(max_examples=60, deadline=None)(given(**arguments())(any_event))
LONG = settings(max_examples=2000, deadline=None)
test_any_event_for_long = pytest.mark.slow(pytest.mark.timeout(600)(LONG(given(**arguments())(any_event))))


def test_noon() -> None:
    """The limits of time that the odd events are about are those of the digests."""
    assert NOON % 86400 == 12 * 3600
