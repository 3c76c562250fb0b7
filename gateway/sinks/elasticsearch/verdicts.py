"""What an answer of Elasticsearch means for a document. Keeps promise 4.

The one table: an answer is final only when it speaks of the document itself.
"""

from __future__ import annotations

import re
import time
from enum import Enum
from typing import Any, NamedTuple

import orjson

from gateway.spool.record import DeadLetter

MOST_REASONS = 5
LONGEST_REASON = 400


class Created(int):
    """How many items a bulk answer has, where all say that a document was created."""


class Verdict(Enum):
    """What to do next with a document."""

    INDEXED = "indexed"
    DUPLICATE = "duplicate"  # it is already there: success
    REFUSED = "refused"  # for what it is: a dead letter
    REPEATED_KEY = "repeated_key"  # written once more without the repetition, and sent again
    BUSY = "busy"  # sent again after a pause
    INDEX_TROUBLE = "index_trouble"  # its index cannot take it now: put aside, tried again


class Ruling(NamedTuple):
    """A verdict and Elasticsearch's reason for it."""

    verdict: Verdict
    type: str = ""
    reason: str = ""


_ABOUT_THE_DOCUMENT = {
    "document_parsing_exception",
    "mapper_parsing_exception",
    "strict_dynamic_mapping_exception",
    "parsing_exception",
    "x_content_parse_exception",
}
# The mapping of a template, for an index that cannot be created: no document is to blame.
_ABOUT_THE_MAPPING = "Failed to parse mapping"
# illegal_argument_exception says many things; these speak of what the document holds. Names stand in
# brackets and are looked past: a pipeline called `field` says nothing about a field.
_ABOUT_A_FIELD = re.compile(
    r"""^mapper\ \[\]                              # cannot be changed from type [long] to [ObjectMapper]
    |   ^mapper\ for\ \[\]\ conflicts
    |   ^(can't|cannot)\ (merge|update\ parameter)
    |   ^object\ mapping\ \[\]
    |   ^limit\ of\ (total|nested)\ fields
    |   ^limit\ of\ mapping\ depth
    |   ^the\ number\ of\ nested\ documents
    |   \bfield\ name\b
    |   \bimmense\ term\b
    |   \bfield\ \[\]
    |   ^if\ _id\ is\ specified
    """,
    re.IGNORECASE | re.VERBOSE,
)
# `request`: a whole body was refused for one document while others were taken.
_ABOUT_THE_INDEX = {"index_closed_exception", "request"}
# Said only after waiting for the index; what else the bulk holds has waited with it.
SAID_LATE = {"unavailable_shards_exception", "process_cluster_event_timeout_exception"}
_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_REPEATED_KEY = re.compile(r"duplicate (field|key)", re.IGNORECASE)


def rule(item: dict[str, Any]) -> Ruling:
    """Return the ruling on one item of a bulk answer, such as ``{"status": 201}``."""
    status = item.get("status")
    if status in (200, 201):
        return Ruling(Verdict.INDEXED)
    if status == 409:
        return Ruling(Verdict.DUPLICATE)
    error = item.get("error") or {}
    if not isinstance(error, dict):
        error = {"reason": str(error)}
    kind, reason = str(error.get("type", "")), _reason(error)
    return Ruling(_verdict(status, kind, reason), kind, reason)


def speaks_of_the_index(ruling: Ruling) -> bool:
    """Whether an index's trouble is its own, and not one of disks, limits or privileges that others share."""
    if ruling.type == "cluster_block_exception":  # of the cluster, or set by Elasticsearch when a disk is full?
        return ruling.reason.startswith("index [") and "FORBIDDEN" in ruling.reason
    return ruling.type in _ABOUT_THE_INDEX


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


def _verdict(status: Any, kind: str, reason: str) -> Verdict:
    if status == 413:
        return Verdict.REFUSED
    if status == 400:
        if kind in _ABOUT_THE_DOCUMENT and not reason.startswith(_ABOUT_THE_MAPPING):
            return Verdict.REPEATED_KEY if _REPEATED_KEY.search(reason) else Verdict.REFUSED
        if kind == "illegal_argument_exception" and _ABOUT_A_FIELD.search(_BRACKETS.sub("[]", reason)):
            return Verdict.REFUSED
        return Verdict.INDEX_TROUBLE
    if kind == "cluster_block_exception":
        return Verdict.INDEX_TROUBLE
    if status == 429 or status is None:
        return Verdict.BUSY
    return Verdict.INDEX_TROUBLE


def _reason(error: dict[str, Any]) -> str:
    """Return the reasons from the outermost to the cause, which says what is really wrong."""
    reasons: list[str] = []
    cause: Any = error
    while isinstance(cause, dict) and len(reasons) < MOST_REASONS:
        reason = _shortened(str(cause.get("reason", "")))
        if not any(reason in each for each in reasons):
            reasons.append(reason)
        cause = cause.get("caused_by")
    return ": ".join(reasons)


def _shortened(reason: str) -> str:
    """Leave out the middle, where Elasticsearch repeats the document's values."""
    if len(reason) <= LONGEST_REASON:
        return reason
    half = LONGEST_REASON // 2
    return f"{reason[:half]} … {reason[-half:]}"
