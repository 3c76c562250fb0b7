"""What a power cut leaves of the spool: no more than was synced.

The model: of each segment its synced length and whether its folder's entry is synced lie in a folder of
their own, so that they outlive a process that is killed: what it had not synced may yet be lost by a later
power cut. Segments only grow, so a length says it all; a write below it is an error of the gateway.

SQLite and DuckDB write from C, where nothing here can look: they are believed. That SQLite syncs each
transaction is held by a test; DuckDB syncs its log at each commit.
"""

import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

SUFFIX = ".segment"


class Disk:
    """The segments of one folder, and what is safe of them on the ``platter``."""

    def __init__(self, folder: Path, platter: Path, draw: random.Random) -> None:
        self._folder = folder.resolve()
        self._platter = platter
        self._gone = platter / "gone"
        self._gone.mkdir(parents=True, exist_ok=True)
        self._draw = draw
        # Nothing is written while the power goes.
        self._lock = threading.RLock()
        self._open, self._unlink = os.open, os.unlink

    def install(self) -> None:
        """Watch this process's calls from now on."""
        for name in ("open", "pwritev", "pwrite", "ftruncate", "fdatasync", "fsync", "unlink"):
            setattr(os, name, self._watched(getattr(os, name), getattr(self, f"_{name}_")))

    def cut(self) -> None:
        """Take back what was not synced. Whoever writes after this waits for ever: end the process."""
        self._lock.acquire()
        for path in self._folder.glob(f"*{SUFFIX}"):
            length, entered = self._read(path)
            if not entered:
                self._unlink(path)
                (self._platter / path.name).unlink(missing_ok=True)
            elif length < path.stat().st_size:
                self._tear(path, length)
        for kept in self._gone.glob(f"*{SUFFIX}"):
            path = self._folder / kept.name
            # A deletion that was not synced may be undone.
            if not path.exists() and self._draw.random() < 0.5:
                kept.rename(path)
                self._note(path, path.stat().st_size, entered=True)
        shutil.rmtree(self._gone)

    def _tear(self, path: Path, length: int) -> None:
        """Cut a file back to its synced length; some of what followed may have reached the disk, or zeros."""
        with path.open("r+b") as file:
            file.seek(length)
            tail = file.read()
            file.truncate(length)
            file.seek(length)
            chance = self._draw.random()
            if chance < 0.25:
                file.write(tail[: self._draw.randrange(len(tail))])
            elif chance < 0.4:
                file.write(bytes(len(tail)))
        self._note(path, path.stat().st_size, entered=True)

    # Each returns what to do after the real call.

    def _open_(self, path: Path, _: Any, flags: int, *__: Any) -> Callable[[], None] | None:
        if not flags & os.O_CREAT or path.exists():
            return None
        return lambda: self._note(path, 0, entered=False)

    def _pwritev_(self, path: Path, _: int, __: Any, offset: int) -> None:
        self._beyond(path, offset)

    _pwrite_ = _pwritev_

    def _ftruncate_(self, path: Path, _: int, length: int) -> None:
        self._beyond(path, length)

    def _fdatasync_(self, path: Path, file: int) -> Callable[[], None]:
        size = os.fstat(file).st_size
        return lambda: self._note(path, size, entered=self._read(path)[1])

    def _fsync_(self, path: Path, file: int) -> Callable[[], None]:
        return self._folder_synced if path == self._folder else self._fdatasync_(path, file)

    def _unlink_(self, path: Path, *_: Any, **__: Any) -> Callable[[], None] | None:
        if not path.exists():
            return None
        length, entered = self._read(path)
        if entered:
            kept = self._gone / path.name
            shutil.copyfile(path, kept)
            os.truncate(kept, min(length, kept.stat().st_size))
        return lambda: (self._platter / path.name).unlink(missing_ok=True)

    def _folder_synced(self) -> None:
        for path in self._folder.glob(f"*{SUFFIX}"):
            length, entered = self._read(path)
            if not entered:
                self._note(path, length, entered=True)
        for kept in self._gone.glob(f"*{SUFFIX}"):
            self._unlink(kept)

    def _beyond(self, path: Path, offset: int) -> None:
        if offset < self._read(path)[0]:
            raise AssertionError(f"{path} is changed at {offset}, below what was synced")

    def _note(self, path: Path, length: int, *, entered: bool) -> None:
        file = self._open(self._platter / path.name, os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(file, b"%020d %d" % (length, entered))  # in one call: a kill leaves the one or the other
        os.close(file)

    def _read(self, path: Path) -> tuple[int, bool]:
        """Return a segment's synced length, and whether its entry in the folder is synced."""
        try:
            noted = (self._platter / path.name).read_bytes().split()
        except FileNotFoundError:
            return path.stat().st_size, True  # it was there before anybody watched
        return (int(noted[0]), noted[1] == b"1") if noted else (0, False)

    def _watched(
        self, real: Callable[..., Any], before: Callable[..., Callable[[], None] | None]
    ) -> Callable[..., Any]:
        def call(first: Any, *args: Any, **options: Any) -> Any:
            path = Path(f"/proc/self/fd/{first}").readlink() if isinstance(first, int) else Path(os.fsdecode(first))
            if path != self._folder and (path.parent != self._folder or path.suffix != SUFFIX):
                return real(first, *args, **options)
            with self._lock:
                then = before(path, first, *args, **options)
                result = real(first, *args, **options)
                if then is not None:
                    then()
                return result

        return call
