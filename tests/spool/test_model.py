"""A spool and its readers against a model that is a list: whatever happens, in whatever order."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.spool.books import Cursor
from gateway.spool.reader import Reader
from gateway.spool.record import Counts
from gateway.spool.segment import FILE_HEADER, path_of
from gateway.spool.spool import Spool
from tests.spool.building import MIB, draft, files, flip, names_of, unobserved
from tests.spool.building import settings as spool_settings

READERS = st.sampled_from(["one", "two"])


class Sink:
    """A reader, how many documents it has behind it, and what of that it has committed."""

    def __init__(self) -> None:
        self.cursor = Cursor(base=0)
        self.committed = self.cursor
        self.reader: Reader


class SpoolMachine(RuleBasedStateMachine):
    """Appends, crashes, reads, commits and damages."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = Path(tempfile.mkdtemp())
        self.folder = self.place / "0"
        self.documents: list[str] = []
        self.where: list[tuple[Path, int, int, set[str]]] = []
        self.damaged: set[str] = set()
        self.sinks = {"one": Sink(), "two": Sink()}

    def teardown(self) -> None:
        """Check that a reader of what is left gets all, then clean up."""
        self.append(1, 0)
        for name in self.sinks:
            while self.sinks[name].cursor.accepted < len(self.documents):
                assert self.take(name, MIB), "a reader does not come to the end"
        self.runner.run(self.spool.stop())
        self.runner.close()
        shutil.rmtree(self.place)

    @initialize()
    def open(self) -> None:
        """Open the folder; readers go on from what they committed."""

        async def new() -> Spool:
            return Spool(self.folder, spool_settings(max_bytes=16 * MIB), unobserved)

        self.spool = self.runner.run(new())
        for name, sink in self.sinks.items():
            assert not self.spool.outlives(sink.committed)
            sink.cursor = sink.committed
            sink.reader = self.spool.reader(name, sink.committed)
        self.spool.attached()

    @rule(count=st.integers(0, 3), pad=st.sampled_from([0, 100, 5000, 40_000]))
    def append(self, count: int, pad: int) -> None:
        """Append a record."""
        wanted = [f"{len(self.documents) + number}" for number in range(count)]
        before = self.spool.end
        self.runner.run(self.spool.append(draft(*wanted, pad=pad, refused=(b"refused",))))
        self.documents += wanted
        after = self.spool.end
        start = before.offset if before.segment == after.segment else FILE_HEADER.size
        self.where.append((path_of(self.folder, after.segment), start, after.offset, set(wanted)))

    @rule(junk=st.binary(max_size=200), kind=st.sampled_from(["stop", "kill"]))
    def reopen(self, junk: bytes, kind: str) -> None:
        """Open again after a stop, or after a kill that left a part of a record behind."""
        self.runner.run(self.spool.stop())
        if kind == "kill" and files(self.folder):
            with files(self.folder)[-1].open("ab") as file:
                file.write(junk)
        self.open()

    @rule(name=READERS, max_bytes=st.sampled_from([1, 300, 10_000, MIB]))
    def read(self, name: str, max_bytes: int) -> None:
        """Read once."""
        self.take(name, max_bytes)

    def take(self, name: str, max_bytes: int) -> bool:
        """Read once; what is given follows on what was given before, and what is missing was damaged."""
        sink = self.sinks[name]
        items = sink.reader.read(self.spool.end, max_bytes)
        for item in items:
            at = sink.cursor.accepted
            lost = self.documents[at : at + item.damaged]
            given = names_of(item.record)
            assert set(lost) <= self.damaged
            assert self.documents[at + len(lost) : at + len(lost) + len(given)] == given
            header = item.record.header
            assert at + len(lost) + len(given) == header.accepted
            sink.cursor = sink.cursor.advanced(position=item.after, sequence=header.sequence, accepted=header.accepted)
        return bool(items)

    @rule(name=READERS)
    def commit(self, name: str) -> None:
        """Commit what was read, and let go of it."""
        sink = self.sinks[name]
        sink.committed = sink.cursor
        self.spool.release(name, sink.committed.position)

    @rule(data=st.data(), mask=st.integers(1, 255))
    def damage(self, data: Any, mask: int) -> None:
        """Change a byte of a record, and append another behind it."""
        self.settle()
        there = [each for each in self.where if each[0].exists()]
        if not there:
            return
        path, start, stop, names = data.draw(st.sampled_from(there))
        flip(path, data.draw(st.integers(start, stop - 1)), mask)
        self.damaged |= names
        self.append(1, 0)

    @invariant()
    def bounded(self) -> None:
        """The bytes on disk are those the spool knows of, and what both readers have taken goes."""
        if not hasattr(self, "spool"):
            return
        self.settle()
        on_disk = sum(path.stat().st_size for path in files(self.folder))
        assert self.spool.bytes in (on_disk, on_disk + FILE_HEADER.size * (not on_disk))
        records = len(self.where)
        counts = Counts(len(self.documents) + records, len(self.documents), records)
        assert ({"tcp": counts} if records else {}) == self.spool.counts

    def settle(self) -> None:
        """Wait for deletions."""

        async def nothing() -> None:
            await asyncio.get_running_loop().run_in_executor(self.spool._thread, lambda: None)

        self.runner.run(nothing())


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
