"""Whether a document that is there already (409) is the one that is sent, or of another event. Keeps promises 3 and 6.

What was sent before, by a request without an answer or by an earlier start that had not yet moved its cursor, is sent
again. It is asked for when the stored one was received: if just then, it is the one that is sent, and counts as
indexed; a client that sends an event twice does so at two times. Where that cannot be told, as with a key that may not
read, it counts as indexed too, unless the same id was counted so before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from gateway.sinks.elasticsearch.bulk import Bulk, Document
from gateway.sinks.elasticsearch.client import RequestFailed, request
from gateway.sinks.elasticsearch.verdicts import Ruling, Verdict, rule

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

ASKED_AT_ONCE = 500
# Ids that were counted are remembered: two equal events may be received within one millisecond.
MOST_IDS = 100_000
_PATH = "/_mget?_source_includes=received_at&filter_path=docs._id,docs._source"


class Sent(NamedTuple):
    """A document as it was sent."""

    action: bytes
    source: bytes


class Doubt:
    """Asks Elasticsearch."""

    def __init__(self, client: AsyncElasticsearch) -> None:
        self._client = client
        self._counted: dict[int, None] = {}

    def counted(self, actions: Sequence[bytes]) -> None:
        """Remember documents that were indexed and may come again."""
        self._counted.update(dict.fromkeys(map(hash, actions)))
        while len(self._counted) > MOST_IDS:
            del self._counted[next(iter(self._counted))]

    def all_created(self, part: Bulk, *, again: bool) -> None:
        """Remember the documents of a bulk that may come again; ``again``: it was sent before."""
        if again or any(each.taken.in_doubt for each in part.parts):
            self.counted([each.action for each in part.documents()])

    async def rulings(self, documents: list[Document], items: list[dict[str, Any]], *, again: bool) -> list[Ruling]:
        """Return the rulings on the documents of a bulk, given the items of its answer."""
        found = list(map(rule, items))
        before = {
            at: Sent(each.action, each.source) for at, each in enumerate(documents) if again or each.taken.in_doubt
        }
        await self.rule(found, before)
        return found

    async def rule(self, rulings: list[Ruling], sent: Mapping[int, Sent]) -> None:
        """Change the rulings on documents, by their places, that may have been sent before: their own are indexed."""
        self.counted([each.action for at, each in sent.items() if rulings[at].verdict is Verdict.INDEXED])
        there = [at for at in sent if rulings[at].verdict is Verdict.DUPLICATE]
        for begin in range(0, len(there), ASKED_AT_ONCE):
            part = there[begin : begin + ASKED_AT_ONCE]
            for at, received in zip(part, await self._received([sent[at] for at in part]), strict=True):
                action, source = sent[at]
                if hash(action) not in self._counted and received in (None, _received_at(source)):
                    self.counted([action])
                    rulings[at] = Ruling(Verdict.INDEXED)

    async def _received(self, documents: Sequence[Sent]) -> list[Any]:
        """Return when the stored documents were received, as they have it; None where that cannot be told."""
        places = [orjson.loads(each.action)["create"] for each in documents]
        try:
            answer = await request(self._client, "POST", _PATH, body={"docs": places})
            found = [each.get("_source", {}).get("received_at") for each in answer["docs"]]
        except (RequestFailed, AttributeError, KeyError, TypeError):
            found = []
        return found if len(found) == len(documents) else [None] * len(documents)


def _received_at(source: bytes) -> Any:
    return orjson.loads(source).get("received_at")
