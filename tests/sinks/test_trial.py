"""What the embedded store would say to documents: the same as it then says, and nothing of it is kept."""

from pathlib import Path

import orjson
import pytest

from gateway.sinks import embedded
from gateway.store.query import StoreUnavailable
from gateway.store.refusals import trial_groups
from tests.sinks.test_embedded import INDEX, TIME, TODAY, draft, numbered, running, until
from tests.store.documents import group

pytestmark = pytest.mark.anyio
SOUND = orjson.dumps({"@timestamp": TIME, "n": 1})
BROKEN = b"{"


async def test_it_says_what_the_store_then_says(tmp_path: Path) -> None:
    """A document that the store refuses has the reason, in an index that is there or not; the store stays as it is."""
    async with running(tmp_path) as rig:
        await rig.spool.append(draft(numbered(0, 3)))
        await until(lambda: rig.books() == {"indexed": 3})
        said = await rig.sink.trial([(INDEX, SOUND), (INDEX, BROKEN), (TODAY, BROKEN), (TODAY, SOUND), (INDEX, SOUND)])
        assert [reason is None for reason in said] == [True, False, False, True, True]
        assert [each.name for each in await rig.store.indices()] == [INDEX]
        assert await rig.found() == [0, 1, 2]
        await rig.spool.append(draft(group(INDEX, ("x", BROKEN))))
        await until(lambda: rig.books() == {"indexed": 3, "dead_letters": 1})
        assert rig.state.kept[0].letter.message == said[1]
        assert await rig.sink.trial([]) == []


async def test_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are tried in groups of bounded size."""
    monkeypatch.setattr(embedded, "BATCH_BYTES", 1000)
    documents = [(INDEX if at % 2 else TODAY, BROKEN if at % 50 == 0 else SOUND) for at in range(300)]
    assert max(len(places) for places, _ in trial_groups(documents, 1000)) < 40
    async with running(tmp_path) as rig:
        said = await rig.sink.trial(documents)
    assert [at for at, reason in enumerate(said) if reason] == list(range(0, 300, 50))


async def test_it_cannot_be_known(tmp_path: Path) -> None:
    """A store that is not open says so."""
    async with running(tmp_path) as rig:
        await rig.store.close()
        with pytest.raises(StoreUnavailable):
            await rig.sink.trial([(INDEX, SOUND)])
