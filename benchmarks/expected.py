"""What the gateway makes of events: the documents that a direct loader sends, and that peers are compared with."""

from __future__ import annotations

import time
from functools import cache

from gateway.pipeline.block import Block
from gateway.pipeline.configured import make_digest
from gateway.pipeline.digest import Digest
from gateway.settings import Settings
from schemas import BUILT_IN


@cache
def _digest(prefix: str) -> Digest:
    return make_digest(Settings.model_validate({"events": {"index_prefix": prefix}}), BUILT_IN)


def documents(made: list[bytes], prefix: str = "") -> bytes:
    """Return action and document lines, as the gateway sends them to an Elasticsearch."""
    digestion = _digest(prefix).block(Block("tcp", "benchmark", [line.rstrip(b"\n") for line in made]), time.time())
    while digestion.step():
        pass
    return b"".join(bytes(group.data) for group in digestion.draft().documents)
