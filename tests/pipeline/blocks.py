"""What tests of the pipeline share: a digest with plain settings, and what it makes of lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.pipeline.block import Block, Refusal
from gateway.pipeline.clock import Clock
from gateway.pipeline.digest import Digest
from gateway.pipeline.enrich import Enrichers
from gateway.pipeline.items import Found, Steps
from gateway.settings import Enrichment
from gateway.spool.record import Draft
from schemas import BUILT_IN, Registry

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC).timestamp()
MAX_LINE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Stored:
    """One document as the spool gets it."""

    index: str
    id: str
    document: dict[str, Any]


def to_the_end(work: Steps[Found]) -> Found:
    """Take all steps of a work at once; return what it found."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            found: Found = end.value
            return found


def new_digest(
    *,
    enrichment: dict[str, Any] | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
    default_kind: str | None = None,
    index_prefix: str = "",
    naive_timezone: str = "UTC",
    max_age_days: int | None = 90,
    registry: Registry = BUILT_IN,
    quick: bool = True,
) -> Digest:
    """Return a digest with the contract's defaults where nothing else is said."""
    return Digest(
        Clock(naive_timezone, max_age_days, 600),
        Enrichers(Enrichment(**(enrichment or {}))),
        max_line_bytes=max_line_bytes,
        default_kind=default_kind,
        index_prefix=index_prefix,
        registry=registry,
        quick=quick,
    )


def new_block(*lines: bytes | dict[str, Any] | list[Any], **fields: Any) -> Block:
    """Return a block of lines; what is not bytes is written as JSON."""
    return Block(
        "tcp", "1.2.3.4:5", [each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines], **fields
    )


def draft_of(block: Block, digest: Digest | None = None, now: float = NOON) -> tuple[Draft, list[Refusal]]:
    """Digest a block to its end; return the draft and the refusals."""
    work = (digest or new_digest()).block(block, now)
    while work.step():
        pass
    return work.draft(), work.refusals


def stored_in(draft: Draft) -> list[Stored]:
    """Return the documents of a draft, read back from their bulk lines."""
    found = []
    for group in draft.documents:
        lines = bytes(group.data).split(b"\n")
        assert lines.pop() == b""
        assert len(lines) == 2 * group.count
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            create = json.loads(action)["create"]
            assert create["_index"] == group.index
            found.append(Stored(create["_index"], create["_id"], json.loads(document)))
    return found


def store(
    *lines: bytes | dict[str, Any] | list[Any], digest: Digest | None = None, now: float = NOON, **fields: Any
) -> list[Stored]:
    """Digest lines that are all good; return their documents."""
    draft, refusals = draft_of(new_block(*lines, **fields), digest, now)
    assert refusals == []
    return stored_in(draft)


def refuse(
    line: bytes | dict[str, Any] | list[Any], digest: Digest | None = None, now: float = NOON, **fields: Any
) -> Refusal:
    """Digest one bad event; return its refusal."""
    draft, refusals = draft_of(new_block(line, **fields), digest, now)
    assert draft.documents == []
    assert len(refusals) == 1
    return refusals[0]
