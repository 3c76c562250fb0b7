"""The documents of records as rows, an index at a time. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from gateway.errors import GatewayError
from gateway.spool.record import Documents

# Bounds what the engine holds of one statement.
CHUNK_BYTES = 8 << 20
_ID = re.compile(rb'"_id":"((?:[^"\\]|\\.)*)"')


class DocumentError(GatewayError):
    """The store cannot take a batch for a reason that lies in its documents."""


class Rows(NamedTuple):
    """Documents of one index and their ids, position by position."""

    ids: list[bytes]
    documents: list[bytes]

    def chunks(self) -> Iterator[Rows]:
        """Cut into pieces of about `CHUNK_BYTES`, at least one document each."""
        start = size = 0
        for position, document in enumerate(self.documents):
            if size and size + len(document) > CHUNK_BYTES:
                yield Rows(self.ids[start:position], self.documents[start:position])
                start, size = position, 0
            size += len(document)
        if self.ids:
            yield Rows(self.ids[start:], self.documents[start:])


def rows(group: Documents) -> Rows:
    """Return the documents of one section of a record."""
    lines = bytes(group.data).split(b"\n")
    # All action lines at once: a call for each would cost more than the rest of this module.
    ids = _ID.findall(b"\n".join(lines[0:-1:2]))
    documents = lines[1::2]
    if len(ids) != group.count or len(documents) != group.count:
        raise DocumentError(f"A record holds {len(ids)} ids for {group.count} documents of {group.index}.")
    return Rows(ids, documents)


def by_index(groups: Iterable[Documents], without: Collection[tuple[int, int]] = ()) -> tuple[dict[str, Rows], int]:
    """Return the rows of each index, of equal ids the first alone, and how many equal ones there were.

    ``without`` leaves documents out, by the number of the group and the position in it.
    """
    found: dict[str, Rows] = {}
    for number, group in enumerate(groups):
        ids, documents = rows(group)
        if without:
            keep = [position for position in range(len(ids)) if (number, position) not in without]
            ids, documents = [ids[each] for each in keep], [documents[each] for each in keep]
        into = found.setdefault(group.index, Rows([], []))
        into.ids.extend(ids)
        into.documents.extend(documents)
    equal = 0
    for index, (ids, documents) in found.items():
        if len(set(ids)) < len(ids):
            first: dict[bytes, bytes] = {}
            for identity, document in zip(ids, documents, strict=True):
                first.setdefault(identity, document)
            equal += len(ids) - len(first)
            found[index] = Rows(list(first), list(first.values()))
    return found, equal
