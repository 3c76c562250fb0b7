"""What a process and all below it have used so far, as the kernel counts it."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_secs(pid: int) -> float:
    """Return the CPU seconds, user and system, of a process tree, with those of its children that have ended."""
    # utime, stime, cutime, cstime: fields 14 to 17, counted behind the name, which may hold blanks.
    return sum(sum(map(int, _stat(each)[11:15])) for each in tree(pid)) / _TICKS


def peak_mib(pid: int) -> float:
    """Return the most memory that each process of a tree has held, summed, in MiB."""
    found = (re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{each}/status").read_text()) for each in tree(pid))
    return sum(int(each[1]) for each in found if each) / 1024


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
