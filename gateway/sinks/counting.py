"""What follows for cursor and figures from records that the embedded store takes, but for some documents."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from gateway.monitoring.figures import Figures, Told
from gateway.spool.books import Cursor
from gateway.spool.reader import Item
from gateway.store.catalog import Count
from gateway.store.rows import rows


def behind(cursor: Cursor, items: list[Item]) -> Cursor:
    """Return the cursor behind the items, without what becomes of their documents."""
    last = items[-1]
    return cursor.advanced(
        position=last.after,
        sequence=last.record.header.sequence,
        accepted=last.record.header.accepted,
        damaged=cursor.damaged + sum(item.damaged for item in items),
    )


def counted(
    figures: Figures | None, folder: str, items: list[Item], without: Collection[tuple[int, int]] = ()
) -> Count | None:
    """Return what counts the records of a folder once it is known what was there; None without figures.

    ``without``: documents that were refused, by number of the group and position in it.
    """
    if figures is None:
        return None
    return lambda there, duplicates: figures.change(
        folder, _told(items, there, without) if duplicates or without else map(_whole, items)
    )


def _whole(item: Item) -> Told:
    """Tell a record of which all documents were new."""
    return Told(item.record.header.written_us / 1e6, item.record.summary())


def _told(
    items: list[Item], there: Mapping[str, Collection[bytes]], without: Collection[tuple[int, int]]
) -> Iterator[Told]:
    """Tell records without the documents whose ids were ``there``, by index, or came before in these records."""
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
        yield _whole(item)._replace(left_out=left_out, none=len(left_out) == item.record.header.documents)
