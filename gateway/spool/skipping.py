"""Which part of the spool a sink that is not required gives up for others to go on, without I/O. Keeps promise 10."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.spool.segment import Position


def first_place(
    name: str, needs: Mapping[str, Position], sizes: Mapping[int, int], excess: int, lack: int, *, ahead: int
) -> Position | None:
    """Return `place` for the bytes by which the spool is too large, or else for those that the disk lacks.

    So much more is wanted ``ahead``, where there is as much.
    """
    # The last file goes with the next write, which a full disk does not let happen.
    closed = dict(sorted(sizes.items())[:-1])
    for more in (ahead, 0):
        found = place(name, needs, sizes, excess + more) or place(name, needs, closed, lack + more)
        if found is not None:
            return found
    return None


def place(name: str, needs: Mapping[str, Position], sizes: Mapping[int, int], wanted: int) -> Position | None:
    """Return the end of the segment up to which a reader has to move for ``wanted`` bytes to become free.

    ``needs`` is where each reader stands. None when nothing is wanted, or that is not enough: another reader still
    needs what this one would give up.
    """
    others = [position for each, position in needs.items() if each != name]
    free = 0
    for segment, size in sorted(sizes.items()):
        end = Position(segment, size)
        if wanted <= 0 or any(position < end for position in others):
            return None
        if needs[name] < end:
            free += size
            if free >= wanted:
                return end
    return None
