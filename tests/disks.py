"""Disks that are small, full, read-only or broken, for tests of what the gateway does then.

Mounting needs root; who is not root runs pytest within ``unshare -Urm``. Breaking needs ``strace``.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.programs import missing, need

MIB = 1 << 20


def mount(folder: Path, options: str) -> Path:
    """Mount an empty disk in memory on a folder, made when missing."""
    need("mount")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        missing(f"mounting needs root, or pytest within `unshare -Urm`: {done.stderr.strip()}")
    return folder


def remount(folder: Path, options: str) -> None:
    """Change a mounted disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def unmount(folder: Path) -> None:
    """Take a disk away, also from who still uses it."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False)


Disk = Callable[[str], Path]


def disks(folder: Path) -> Iterator[Disk]:
    """Give a function that mounts a disk with options such as ``size=20m``; all of them go with the test."""
    mounted: list[Path] = []

    def disk(options: str) -> Path:
        mounted.append(mount(folder / f"disk-{len(mounted) + 1}", options))
        return mounted[-1]

    yield disk
    for each in mounted:
        unmount(each)


def fill(folder: Path, leave: int = 0) -> Path:
    """Let somebody else's file take what is free but ``leave`` bytes; return the file."""
    disk = os.statvfs(folder)
    filler = folder / "somebody-elses-file"
    left = disk.f_bavail * disk.f_frsize - leave
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while left > 0:
            left -= file.write(bytes(min(left, MIB))) or 0
    return filler


@contextmanager
def failing(pids: list[int], *faults: str, file: Path | None = None) -> Iterator[None]:
    """Let calls of running processes fail, each fault in strace's words, such as ``fdatasync:error=EIO``.

    With a ``file`` only calls that name it.
    """
    need("strace")
    words = [word for fault in faults for word in ("-e", f"inject={fault}")]
    words += [] if file is None else ["-P", str(file)]
    names = ",".join(fault.partition(":")[0] for fault in faults)
    whose = [word for pid in pids for word in ("-p", str(pid))]
    command = ["strace", "-f", "-qq", *whose, "-e", f"trace={names}", *words, "-o", "/dev/null"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        try:
            for pid in pids:
                wait_traced(pid, strace)
            yield
        finally:
            strace.send_signal(signal.SIGINT)  # it lets go of the processes, which go on unharmed


def wait_traced(pid: int, strace: "subprocess.Popen[str]") -> None:
    """Return when every thread of the process is watched."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            while "TracerPid:\t0" in (task / "status").read_text():
                if strace.poll() is not None:
                    assert strace.stderr is not None
                    missing(f"this machine permits no strace: {strace.stderr.read()}")
