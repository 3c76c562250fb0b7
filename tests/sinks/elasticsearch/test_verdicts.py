"""What an answer means, item by item, as Elasticsearch 8.19 worded it when it was asked."""

from typing import Any

import pytest

from gateway.sinks.elasticsearch.verdicts import LONGEST_REASON, MOST_REASONS, Verdict, rule

ILLEGAL = "illegal_argument_exception"
PARSING = "document_parsing_exception"
BLOCK = "cluster_block_exception"


def failed(status: Any, kind: str, reason: str, **cause: Any) -> dict[str, Any]:
    """Return an item's answer."""
    return {"status": status, "error": {"type": kind, "reason": reason, **cause}}


REFUSED = [
    failed(400, PARSING, "[1:14] failed to parse field [k] of type [keyword] in document with id 'a'."),
    failed(
        400, PARSING, "[1:35] failed to parse: Limit of total fields [3] has been exceeded while adding new fields [4]"
    ),
    failed(400, "mapper_parsing_exception", "failed to parse field [k] of type [date]"),
    failed(400, "strict_dynamic_mapping_exception", "[1:7] mapping set to strict, dynamic introduction of [a]"),
    failed(400, ILLEGAL, "mapper [r] cannot be changed from type [long] to [ObjectMapper]"),
    failed(400, ILLEGAL, "Limit of total fields [1000] has been exceeded"),
    failed(400, ILLEGAL, "Limit of nested fields [0] has been exceeded"),
    failed(400, ILLEGAL, "Limit of mapping depth [20] has been exceeded due to object field [a.b]"),
    failed(400, ILLEGAL, "Field name [abcdefgh] is longer than the limit of [5] characters"),
    failed(400, ILLEGAL, "field name cannot be an empty string"),
    failed(400, ILLEGAL, 'Document contains at least one immense term in field="k" (whose UTF8 encoding is longer)'),
    failed(400, ILLEGAL, "if _id is specified it must not be empty"),
    failed(413, "anything", "too long"),
]
TROUBLE = [
    failed(400, "index_closed_exception", "closed"),
    failed(403, BLOCK, "index [x] blocked by: [FORBIDDEN/8/index write (api)];"),
    failed(429, BLOCK, "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark];"),
    failed(404, "index_not_found_exception", "no such index [x] and [action.auto_create_index] is [false]"),
    failed(400, "validation_exception", "Validation Failed: 1: this action would add [2] shards, but this cluster"),
    failed(400, ILLEGAL, "pipeline with id [field-names] does not exist"),
    failed(400, ILLEGAL, "pipeline with id [field name] does not exist"),
    failed(400, ILLEGAL, "no write index is defined for alias [mapper [x]. The write index may be explicitly disabled"),
    failed(400, "invalid_index_name_exception", "Invalid index name [X], must be lowercase"),
    failed(400, "routing_missing_exception", "routing is required for [x]/[1]"),
    failed(
        400, "mapper_parsing_exception", "Failed to parse mapping: No handler for type [nosuch] declared on field [a]"
    ),
    failed(400, "never_heard_of_exception", "a field of the document is somehow wrong"),
    failed(400, ILLEGAL, "never heard of"),
    {"status": 400},
    {"status": 400, "error": "a word"},
    failed(401, "security_exception", "missing authentication credentials"),
    failed(403, "security_exception", "action [indices:admin/auto_create] is unauthorized"),
    failed(500, "null_pointer_exception", "oops"),
    failed(503, "unavailable_shards_exception", "[x][0] primary shard is not active Timeout: [1s]"),
]
BUSY = [failed(429, "es_rejected_execution_exception", "rejected execution"), {"status": None}, {}]
REPEATED = [
    failed(400, PARSING, "[1:6] failed to parse: [1:13] Duplicate field 'k'\n at [Source: (byte[])]"),
    failed(400, PARSING, "failed to parse", caused_by={"type": "json_parse_exception", "reason": "Duplicate key k"}),
]


@pytest.mark.parametrize(
    ("item", "verdict"),
    [({"status": 201}, Verdict.INDEXED), ({"status": 200}, Verdict.INDEXED)]
    + [(failed(409, "version_conflict_engine_exception", "document already exists"), Verdict.DUPLICATE)]
    + [(item, Verdict.REFUSED) for item in REFUSED]
    + [(item, Verdict.INDEX_TROUBLE) for item in TROUBLE]
    + [(item, Verdict.BUSY) for item in BUSY]
    + [(item, Verdict.REPEATED_KEY) for item in REPEATED],
)
def test_table(item: dict[str, Any], verdict: Verdict) -> None:
    """Only what speaks of the document itself is final; what is not known is kept and tried again."""
    assert rule(item).verdict is verdict


def test_the_cause_is_told() -> None:
    """A reason ends with the innermost cause, however much of the document Elasticsearch repeats before it."""
    cause = {"type": ILLEGAL, "reason": "Document contains at least one immense term"}
    ruling = rule(failed(400, PARSING, "failed to parse field [k]: 'x" + "x" * 40_000, caused_by=cause))
    assert ruling.reason.startswith("failed to parse field [k]")
    assert ruling.reason.endswith("Document contains at least one immense term")


def test_reasons_are_not_repeated() -> None:
    """A cause that only says again what was said is left out."""
    said = "field name cannot be an empty string"
    ruling = rule(failed(400, PARSING, f"[1:2] failed to parse: {said}", caused_by={"type": ILLEGAL, "reason": said}))
    assert ruling.reason == f"[1:2] failed to parse: {said}"


def test_reasons_are_bounded() -> None:
    """However deep and long the causes are, the reason is short."""
    error: dict[str, Any] = {"type": PARSING, "reason": "0" * 5000}
    for number in range(1, 50):
        error = {"type": PARSING, "reason": f"{number} " * 5000, "caused_by": error}
    assert len(rule({"status": 400, "error": error}).reason) <= MOST_REASONS * (LONGEST_REASON + 5)
