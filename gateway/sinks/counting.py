"""What is told to the figures of records that the embedded store took, or some documents of which it did not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from gateway.monitoring.figures import Told
from gateway.spool.reader import Item
from gateway.store.rows import rows


def whole(item: Item) -> Told:
    """Tell a record of which all documents were new."""
    return Told(item.record.header.written_us / 1e6, item.record.summary())


def told(
    items: list[Item], there: Mapping[str, Collection[bytes]], without: Collection[tuple[int, int]]
) -> Iterator[Told]:
    """Tell records without the documents whose ids were ``there``, by index, or came before in these records.

    ``without``: documents that were refused, by number of the group and position in it.
    """
    known = {index: set(ids) for index, ids in there.items()}
    number = 0
    for item in items:
        left_out = []
        for group in item.record.documents():
            ids = known.setdefault(group.index, set())
            for position, (identity, document) in enumerate(zip(*rows(group), strict=True)):
                refused = (number, position) in without
                if refused or identity in ids:
                    left_out.append((group.index, document))
                if not refused:
                    ids.add(identity)
            number += 1
        yield whole(item)._replace(left_out=left_out, none=len(left_out) == item.record.header.documents)
