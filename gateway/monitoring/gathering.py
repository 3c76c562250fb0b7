"""Figures of documents by themselves: those that are to be taken from what their record told, or come after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from gateway.summary import Summary, summary_of
from gateway.summary.gathering import Unit
from schemas import Registry


def gatherer(registry: Registry, unit: Unit) -> Callable[[Sequence[tuple[str, bytes]]], Summary]:
    """Return what makes a summary of documents, each with the name of its index; ``unit``: of logs' durations."""

    def gather(documents: Sequence[tuple[str, bytes]]) -> Summary:
        groups: dict[str, list[bytes]] = defaultdict(list)
        for index, document in documents:
            if base := registry.split(index)[1]:
                groups[base].append(document)
        return summary_of(groups.items(), unit)

    return gather
