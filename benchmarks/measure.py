"""What a process and all below it have used so far, as the kernel counts it; and on which cores they run."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
SAMPLE_SECS = 0.1


def cpu_secs(pid: int) -> float:
    """Return the CPU seconds, user and system, of a process tree, with those of its children that have ended."""
    # utime, stime, cutime, cstime: fields 14 to 17, counted behind the name, which may hold blanks.
    return sum(sum(map(int, _stat(each)[11:15])) for each in tree(pid)) / _TICKS


def pss_mib(pid: int) -> float:
    """Return the memory that a process tree holds now, what is shared divided by its users (PSS), in MiB."""
    total = 0
    for each in tree(pid):
        try:
            found = _PSS.search(Path(f"/proc/{each}/smaps_rollup").read_text())
        except OSError:  # it has ended
            continue
        total += int(found[1]) if found else 0
    return total / 1024


class PeakMemory:
    """The most that a process tree held while this was open, as far as ten looks a second see it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.mib = pss_mib(pid)

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECS):
            self.mib = max(self.mib, pss_mib(self._pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(_stat(int(folder.name))[1])
        except OSError:  # it has ended
            continue
    found = [pid]
    for each in found:  # which grows
        found += [child for child, parent in parents.items() if parent == each]
    return found


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@dataclass(frozen=True)
class Cores:
    """Where what is measured runs, and where all the rest does."""

    measured: frozenset[int]
    others: frozenset[int]

    @property
    def pinned(self) -> bool:
        """Whether what is measured has one core, and shares it with nothing of ours."""
        return len(self.measured) == 1 and not self.measured & self.others


def cores(*, pinned: bool) -> Cores:
    """Return the last core for what is measured and the others for the rest; all for both where there is but one."""
    every = frozenset(os.sched_getaffinity(0))
    if not pinned or len(every) == 1:
        return Cores(every, every)
    last = frozenset({max(every)})
    return Cores(last, every - last)


@contextmanager
def on(chosen: frozenset[int]) -> Iterator[None]:
    """Let processes that are started here run on these cores only; they pass it on to their own."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
