"""Who listens is shown what comes in, in order and once, or told how much was passed over; memory stays bounded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.errors import LimitReached, Stopping
from gateway.monitoring import tail as module
from gateway.monitoring.matching import fitting
from gateway.monitoring.tail import Listener, Tail
from gateway.spool.folder import Folder
from gateway.spool.reader import Reader
from gateway.spool.segment import Position
from gateway.store.query import Query
from tests.spool.building import draft, files, flip, spool_in

pytestmark = pytest.mark.anyio
ALL = fitting(Query())
_EVENT = re.compile(rb'event: (document|passed)\nid: (\S+)\ndata: (?:\{"documents":(\d+)\}|\{"_id":"([^"]*)".*)\n\n')


class Heard:
    """What a listener was given."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.passed = 0
        self.last: str | None = None

    def add(self, data: bytes) -> None:
        """Take what came."""
        events = _EVENT.findall(data)
        assert len(events) == data.count(b"\n\n")
        for _, name_of_event, passed, name in events:
            self.last = name_of_event.decode()
            self.passed += int(passed or 0)
            self.names += [name.decode()] * bool(name)

    async def hear(self, listener: Listener, until: Callable[[Heard], bool], secs: float = 10) -> Heard:
        """Listen until something holds."""
        async with asyncio.timeout(secs):
            while not until(self):
                data = await listener.take(1)
                assert data is not None
                self.add(data)
        return self


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECS", 0.01)
    monkeypatch.setattr(module, "MISSED_LOOK_SECS", 0.001)


def heard(count: int) -> Callable[[Heard], bool]:
    """So many were shown or passed over."""
    return lambda found: len(found.names) + found.passed >= count


def let_go(folder: Folder) -> None:
    """Be a sink that has taken everything."""
    folder.attached()
    folder.release("sink", folder.end)


async def test_what_comes(tmp_path: Path) -> None:
    """From now on, in order, each with what fits it, and nothing of what was there before."""
    async with spool_in(tmp_path / "0") as spool:
        await spool.append(draft("before"))
        tail = Tail([spool])
        with closing(tail.listen(ALL)) as listener, closing(tail.listen(fitting(Query(text="none")))) as other:
            await spool.append(draft("a", "b"))
            await spool.append(draft(refused=(b"broken",)))
            await spool.append(draft("c"))
            found = await Heard().hear(listener, heard(3))
            assert (found.names, found.passed) == (["a", "b", "c"], 0)
            assert await other.take(0.1) == b""
            assert other.id != "0:0.16.0"  # who comes back is not shown again what did not fit
        await asyncio.sleep(0.05)
        assert tail._task is None, "it reads on though nobody listens"
        await tail.close()


@pytest.mark.parametrize("done", range(7))
async def test_going_on(tmp_path: Path, done: int) -> None:
    """Behind each id, also one in the middle of a record, exactly what follows it comes, from all folders."""
    names = [("a", "b", "c"), ("d",), ("e", "f")]
    async with spool_in(tmp_path / "0") as first, spool_in(tmp_path / "1") as second:
        tail = Tail([first, second])
        events: list[tuple[bytes, str]] = []
        with closing(tail.listen(ALL)) as listener:
            begun = listener.id
            for number, each in enumerate(names):
                await (first, second)[number % 2].append(draft(*each))
            data = b""
            while data.count(b"\n\n") < 6:
                data += await listener.take(1) or b""
            events = [(each[1], each[3].decode()) for each in _EVENT.findall(data)]
        # As after a restart: one that reads the same folders.
        since = begun if done == 0 else events[done - 1][0].decode()
        with closing(Tail([first, second]).listen(ALL, since)) as again:
            found = await Heard().hear(again, heard(6 - done)) if done < 6 else Heard()
            assert await again.take(0.05) == b""
        assert sorted([name for _, name in events[:done]] + found.names) == ["a", "b", "c", "d", "e", "f"]


async def test_many_who_come_back(tmp_path: Path) -> None:
    """All that come back at once, each behind another event, are given what they missed, and then what comes."""
    async with spool_in(tmp_path / "0", max_bytes=64 << 20) as spool:
        tail = Tail([spool])
        names = [f"{number:03}" for number in range(20)]
        with closing(tail.listen(ALL)) as listener:
            ids = []
            for name in names:
                await spool.append(draft(name, pad=100_000))
                ids.append((await Heard().hear(listener, heard(1))).last)
        back = [tail.listen(ALL, since) for since in ids]
        await spool.append(draft("last"))
        for number, listener in enumerate(back):
            found = await Heard().hear(listener, heard(20 - number))
            assert (found.names, found.passed) == ([*names[number + 1 :], "last"], 0)
        await tail.close()


async def test_what_the_spool_let_go(tmp_path: Path) -> None:
    """Who comes back when sinks have taken what it missed is told how many those were, and goes on with the rest."""
    async with spool_in(tmp_path / "0", segment_bytes=64 << 10) as spool:
        tail = Tail([spool])
        with closing(tail.listen(ALL)) as listener:
            await spool.append(draft("a", "b"))
            found = await Heard().hear(listener, heard(2))
        for number in range(20):
            await spool.append(draft(f"x{number}", f"y{number}", pad=10_000))
        await spool.append(draft("last"))
        let_go(spool)
        async with asyncio.timeout(5):
            while len(files(spool.folder)) > 1:
                await asyncio.sleep(0.01)
        with closing(tail.listen(ALL, found.last)) as listener:
            await found.hear(listener, lambda found: found.names[-1] == "last")
        assert len(found.names) == len(set(found.names))
        assert len(found.names) + found.passed == 2 + 40 + 1
        assert found.passed > 0
        await tail.close()


async def test_more_than_can_be_followed(tmp_path: Path) -> None:
    """What is far behind is passed over and counted: what is newest is shown soon, and never out of order."""
    total = 0
    async with spool_in(tmp_path / "0", max_bytes=256 << 20) as spool:
        tail = Tail([spool])
        with closing(tail.listen(ALL)) as listener:
            found = Heard()
            for _ in range(40):
                names = [f"{number:06}" for number in range(total, total + 2000)]
                total += 2000
                await spool.append(draft(*names, pad=500))
                await asyncio.sleep(0.002)
                while data := await listener.take(0):
                    found.add(data)
            await spool.append(draft("last"))
            await found.hear(listener, lambda found: "last" in found.names[-1:], 5)
        assert len(found.names) + found.passed == total + 1
        assert found.names == sorted(set(found.names))
        assert found.passed > 10_000
        await tail.close()


async def test_large_records_are_shown(tmp_path: Path) -> None:
    """A record larger than what one look takes is shown in parts, whole when nothing follows it."""
    async with spool_in(tmp_path / "0", max_bytes=64 << 20) as spool:
        tail = Tail([spool])
        with closing(tail.listen(ALL)) as listener:
            names = [f"{number:05}" for number in range(12_000)]
            await spool.append(draft(*names, pad=600))  # more than is let wait
            found = await Heard().hear(listener, heard(12_000))
        assert found.names == names
        await tail.close()


async def test_who_reads_slowly(tmp_path: Path) -> None:
    """One that takes nothing holds a bounded number of bytes and nobody up; later it learns what it missed."""
    async with spool_in(tmp_path / "0", max_bytes=128 << 20) as spool:
        tail = Tail([spool])
        with closing(tail.listen(ALL)) as slow, closing(tail.listen(ALL)) as quick:
            found, late = Heard(), Heard()
            for batch in range(30):
                await spool.append(draft(*(f"{batch:03}-{number}" for number in range(1000)), pad=500))
                await found.hear(quick, heard((batch + 1) * 1000))
            assert found.passed == 0
            assert slow._size <= module.QUEUE_BYTES + 1000
            await spool.append(draft("last"))
            await late.hear(slow, lambda found: "last" in found.names[-1:])
            assert len(late.names) + late.passed == 30_001
            assert late.passed > 10_000
        await tail.close()


async def test_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that cannot be read are passed over and counted; they are left to the sinks."""
    async with spool_in(tmp_path / "0") as spool:
        tail = Tail([spool])
        begin = "0:0.16.0"
        await spool.append(draft("a"))
        middle = spool.end.offset
        await spool.append(draft("b", "c"))
        await spool.append(draft("d"))
        flip(files(spool.folder)[0], middle + 80)
        with closing(tail.listen(ALL, begin)) as listener:
            found = await Heard().hear(listener, heard(4))
        assert (found.names, found.passed) == (["a", "d"], 2)
        assert not (tmp_path / "damaged").exists()
        await tail.close()


@pytest.mark.parametrize("since", ["0:9999999999999999999.16.5", "7:1.16.5", "0:5.999999.3", "0:1.16.99999999"])
async def test_an_id_of_elsewhere(tmp_path: Path, since: str) -> None:
    """An id of another gateway, or a made up one, does no harm: what comes next is shown."""
    async with spool_in(tmp_path / "0") as spool:
        await spool.append(draft("a"))
        tail = Tail([spool])
        with closing(tail.listen(ALL, since)) as listener:
            await asyncio.sleep(0.1)
            await spool.append(draft("b"))
            found = await Heard().hear(listener, lambda found: "b" in found.names)
        assert found.names in (["a", "b"], ["b"])
        await tail.close()


@pytest.mark.parametrize("since", ["x", "0:1.2", "0:1.2.-3", "0:1.2.3;", "٠:1.2.3", ",", "0:" + "9" * 20 + ".1.1"])
async def test_what_is_no_id(tmp_path: Path, since: str) -> None:
    """It is refused."""
    async with spool_in(tmp_path / "0") as spool:
        with pytest.raises(ValueError, match=re.escape(since)):
            Tail([spool]).listen(ALL, since)


async def test_bounds(tmp_path: Path) -> None:
    """So many may listen and no more, none once it is closed, and all end with it."""
    async with spool_in(tmp_path / "0") as spool:
        tail = Tail([spool])
        listeners = [tail.listen(ALL) for _ in range(module.LISTENERS)]
        with pytest.raises(LimitReached, match="32"):
            tail.listen(ALL)
        listeners.pop().close()
        tail.listen(ALL)
        ending = [asyncio.create_task(each.take(10)) for each in listeners]
        await tail.close()
        assert await asyncio.wait_for(asyncio.gather(*ending), 1) == [None] * len(ending)
        with pytest.raises(Stopping):
            tail.listen(ALL)


async def test_it_has_no_claim_on_the_spool(tmp_path: Path) -> None:
    """What sinks have taken is deleted though somebody listens who does not read."""
    async with spool_in(tmp_path / "0", segment_bytes=64 << 10) as spool:
        tail = Tail([spool])
        with closing(tail.listen(ALL)):
            for number in range(20):
                await spool.append(draft(f"x{number}", pad=20_000))
            let_go(spool)
            async with asyncio.timeout(5):
                while len(files(spool.folder)) > 1:
                    await asyncio.sleep(0.01)
        assert Reader(spool.folder, Position(), None, 0).read(spool.end, 1)
        await tail.close()
