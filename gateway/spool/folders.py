"""All folders of a spool: that of the owner, those of the receivers, and those of receivers that are no more.

``spool/0`` is the owner's, who writes replays, and everything else where there is no receiver; ``spool/1`` and so on
are the receivers'. Of a receiver that is no more the folder is read to its end; then one small file is left of it,
with the running counts, since the books go on.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog

from gateway.settings import Spool as SpoolSettings
from gateway.spool.appender import Appender
from gateway.spool.folder import Folder, segment_bytes
from gateway.spool.reader import Reader
from gateway.spool.record import Counts
from gateway.spool.segment import Position, segments_in
from gateway.spool.spool import Observer, Spool

log = structlog.get_logger(__name__)


class Folders:
    """What an operator asks of the spool as a whole."""

    def __init__(self, path: Path, settings: SpoolSettings, observe: Observer, receivers: int = 0) -> None:
        """Open all folders of ``path``; raise OSError or `FormatVersionError`. Blocks."""
        count = receivers + 1
        self.max_bytes = settings.max_bytes
        self.own = Spool(path / "0", settings, observe, count)
        self.of_receivers = [_opened(path / str(number), settings, count) for number in range(1, count)]
        left = sorted(int(each.name) for each in path.iterdir() if each.name.isdigit() and int(each.name) >= count)
        self._left = [_opened(path / str(each), settings, count) for each in left if not _is_gone(path / str(each))]
        for folder in self._left:
            log.info("A folder of the spool has no receiver any more: it is read to its end.", folder=folder.name)
        self.all = [self.own, *self.of_receivers, *self._left]
        for folder in self.all:
            folder.together = self.all

    @property
    def counts(self) -> dict[str, Counts]:
        """The running counts of all folders by source."""
        if len(self.all) == 1:
            return self.own.counts
        sums: dict[str, Counts] = {}
        for folder in self.all:
            for source, counts in folder.counts.items():
                sums[source] = sums.get(source, Counts()).plus(counts)
        return sums

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return sum(folder.bytes for folder in self.all)

    @property
    def segments(self) -> int:
        """Number of files."""
        return sum(folder.segments for folder in self.all)

    @property
    def failure(self) -> str | None:
        """Why a folder cannot be written, None when all can."""
        return next((folder.failure for folder in self.all if folder.failure), None)

    def full(self) -> str | None:
        """Return why nothing can be taken now, None when there is room."""
        return self.own.full()

    def oldest_secs(self) -> float:
        """Return how long ago the oldest record that is still needed was written."""
        return max(folder.oldest_secs() for folder in self.all)

    def attached(self) -> None:
        """Say that all readers are known: from now on what none of them needs is deleted."""
        for folder in self.all:
            folder.attached()

    async def stop(self) -> None:
        """Take nothing more, finish what was taken. May be called again."""
        for folder in self.all:
            await folder.stop()


def _opened(path: Path, settings: SpoolSettings, count: int) -> Folder:
    """Return a folder of another process; what a crash left at its end is dealt with here."""
    size = segment_bytes(settings, count)
    appender = Appender(path, size, lambda text: log.warning(text))
    if int(path.name) >= count and not _holds_only_counts(appender):
        with suppress(OSError):  # such as a full disk: the next start does it
            appender.write([])  # opens a segment with the counts alone: those before it go when they are read
        appender.close()
    return Folder(path, settings, appender, size)


def _holds_only_counts(appender: Appender) -> bool:
    """Whether there is one file at most, with nothing behind the record that opens it."""
    segments = segments_in(appender.folder)
    reader = Reader(appender.folder, Position(), None, 0)
    return not segments or (
        len(segments) == 1 and bool(reader.read(appender.end, 1)) and reader.position >= appender.end
    )


def _is_gone(path: Path) -> bool:
    """Whether nothing was ever written to a folder: then it is removed."""
    with suppress(OSError):
        path.rmdir()
    return not path.exists()
