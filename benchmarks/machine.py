"""On what the figures were measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def machine(data: Path) -> dict[str, Any]:
    """Return processor, memory, kernel, file system below ``data``, versions and commit, and how busy it is now."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(_field(Path("/proc/meminfo"), "MemTotal").split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "file_system": _file_system(data),
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "python": platform.python_version(),
        "packages": _packages(),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
    }


def _field(file: Path, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", file.read_text(), re.MULTILINE)
    return found[1].strip() if found else "unknown"


def _file_system(path: Path) -> str:
    """Return the kind of file system that holds a path: a sync to memory (tmpfs) costs nothing."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(where, kind) for where, kind in mounts if path.resolve().is_relative_to(where)]
    return max(holding, key=lambda each: len(each[0]))[1]


def _packages() -> dict[str, str]:
    names = (re.split(r"[^\w.-]", each)[0] for each in requires("ml-log-gateway") or () if "extra ==" not in each)
    return {name: version(name) for name in sorted(names)}


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        return ""
