"""What the real Elasticsearch would say to documents: the same as it then says, and nothing of it is left."""

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.errors import GatewayError
from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.client import connect
from gateway.sinks.elasticsearch.trial import Trial
from schemas import BUILT_IN
from tests.elasticsearch_node.client import EsClient
from tests.sinks.elasticsearch.odd_server import OddServer, status
from tests.sinks.elasticsearch.running import Doc, Rig, docs, running

pytestmark = pytest.mark.anyio
DAY = "ml-metrics-2024.01.15"
SOUND = b'{"@timestamp":"2024-01-15T10:00:00Z","model_name":"m","mine":1}'


def names(node: EsClient) -> list[str]:
    """Return the indices of trials that are there."""
    return sorted(node.get(f"/{node.prefix}ml-verify-trial-*/_settings", expand_wildcards="all"))


async def tried(rig: Rig, index: str, *sources: bytes) -> list[str | None]:
    """Try documents for an index."""
    return await rig.sink.trial([(index, source) for source in sources])


SOURCES = {
    "sound": SOUND,
    "scalar where an object is": b'{"labels_":1}',
    "object where a text is": b'{"model_name":{"a":1}}',
    "malformed number": b'{"prediction_confidence":"high"}',
    "object where a number is": b'{"prediction_confidence":{"a":1}}',
    "twice the same key": b'{"model_name":"a","model_name":"b"}',
    "twice, and wrong": b'{"model_name":"a","model_name":{"a":1}}',
    "a field of a user's own": b'{"mine":{"a":1}}',
    "a field without a name": b'{"":1}',
    "a date": b'{"@timestamp":"no date"}',
    "too deep": b'{"a":' * 30 + b"1" + b"}" * 30,
    "not JSON": b'{"a":',
}


@pytest.mark.parametrize("there", [True, False])
async def test_it_says_what_elasticsearch_then_says(node: EsClient, tmp_path: Path, there: bool) -> None:
    """For each document that the sink refuses the trial has the reason, and None for the others."""
    index = f"{node.prefix}{DAY}"
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        if there:
            await rig.append([Doc("first", b'{"mine":1,"labels_":{"a":1}}', index)])
        else:
            await rig.append([Doc("elsewhere", SOUND, f"{node.prefix}ml-metrics-2024.01.14")])
        await rig.settled()
        before = node.indices()
        said = dict(zip(SOURCES, await tried(rig, index, *SOURCES.values()), strict=True))
        assert node.indices() == before
        assert node.count() == 1
        for name, source in SOURCES.items():
            await rig.append([Doc(name, source, index)])
        await rig.settled()
        letters = {each["data"]: f"{each['rule']}: " for each in await rig.letters()}
    assert {name for name, reason in said.items() if reason} == {
        name for name, source in SOURCES.items() if source in letters
    }
    for name, source in SOURCES.items():
        if source in letters:
            assert str(said[name]).startswith(letters[source]), (name, said[name])
    assert said["sound"] is None
    assert "failed to parse field [model_name]" in str(said["object where a text is"])


async def test_limits_of_the_index(node: EsClient, tmp_path: Path) -> None:
    """An index that holds as many fields as it may, or that is strict, is that in the trial, too."""
    full, strict, own = (f"{node.prefix}{each}-2024.01.15" for each in ("ml-metrics", "ml-audit", "ml-labels"))
    properties = {f"f{number}": {"type": "long"} for number in range(20)}
    limits: dict[str, Any] = {"mapping": {"total_fields": {"limit": 20}}, "number_of_shards": 3}
    node.put(f"/{full}", {"mappings": {"properties": properties}, "settings": {"index": limits}})
    node.put(f"/{strict}", {"mappings": {"dynamic": "strict", "properties": {"a": {"type": "date"}}}})
    analysis = {"analyzer": {"mine": {"type": "custom", "tokenizer": "standard"}}}
    text = {"a": {"type": "text", "analyzer": "mine"}, "verify_id": {"type": "long"}}
    node.put(f"/{own}", {"mappings": {"properties": text}, "settings": {"index": {"analysis": analysis}}})
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        assert await tried(rig, full, b'{"f1":1}') == [None]
        # As many more as the trial's own template has.
        assert "Limit of total fields [28] has been exceeded while adding new fields [1]" in str(
            await tried(rig, full, b'{"f20":1}')
        )
        said = await tried(rig, strict, b'{"a":"2024-01-15"}', b'{"a":"no date"}', b'{"b":1}')
        assert said[0] is None
        assert "failed to parse field [a]" in str(said[1])
        assert str(said[2]).startswith("strict_dynamic_mapping_exception")
        said = await tried(rig, own, b'{"a":"x","verify_id":7}', b'{"verify_id":"x"}')
        assert said[0] is None
        assert "[verify_id]" in str(said[1])
    assert names(node) == []


async def test_closed_and_blocked(node: EsClient, tmp_path: Path) -> None:
    """A document for an index that takes none now is refused by the trial; its neighbours are not."""
    closed, blocked, frozen, sound = (f"{node.prefix}ml-metrics-2024.01.{day}" for day in (11, 12, 13, 14))
    for index in (closed, blocked, frozen, sound):
        node.put(f"/{index}")
    node.post(f"/{closed}/_close")
    node.put(f"/{blocked}/_block/write")
    node.put(f"/{frozen}/_settings", {"index.blocks.read_only": True})
    try:
        async with running(tmp_path, node.url, prefix=node.prefix) as rig:
            targets = (sound, closed, blocked, frozen, sound)
            said = await rig.sink.trial([(index, SOUND) for index in targets])
    finally:
        node.put(f"/{frozen}/_settings", {"index.blocks.read_only": None})
    assert said == [
        None,
        f"The index {closed} is closed.",
        f"The index {blocked} is blocked (index.blocks.write).",
        f"The index {frozen} is blocked (index.blocks.read_only).",
        None,
    ]


async def test_many_and_large(node: EsClient, tmp_path: Path) -> None:
    """However many documents there are each gets its reason, in requests no larger than max_batch_bytes."""
    index = f"{node.prefix}{DAY}"
    sources = [orjson.dumps({"model_name": {"a": 1} if at % 7 == 0 else "m", "pad": "x" * 500}) for at in range(500)]
    async with running(tmp_path, node.url, prefix=node.prefix, max_batch_bytes=20_000) as rig:
        said = await tried(rig, index, *sources)
    assert [at for at, reason in enumerate(said) if reason] == list(range(0, 500, 7))


async def test_pipelines_see_nothing(node: EsClient, tmp_path: Path) -> None:
    """A pipeline of the target, which may do anything, does not run."""
    index = f"{node.prefix}{DAY}"
    node.put(f"/{index}", {"settings": {"index": {"default_pipeline": "not-there", "final_pipeline": "nor-this"}}})
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        assert await tried(rig, index, SOUND) == [None]


async def test_leftovers_of_a_crash(node: EsClient, tmp_path: Path) -> None:
    """What a killed gateway left is deleted by the next trial; another's that is under way is not."""
    stem = f"{node.prefix}ml-verify-trial-"
    old, fresh = f"{stem}{int(time.time()) - 3600}-aa", f"{stem}{int(time.time())}-bb"
    for index in (old, fresh, f"{stem}mine"):
        node.put(f"/{index}", {"settings": {"index": {"hidden": True}}})
    async with running(tmp_path, node.url, prefix=node.prefix) as rig:
        assert await tried(rig, f"{node.prefix}{DAY}", SOUND) == [None]
    assert names(node) == [fresh, f"{stem}mine"]


async def test_given_up(node: EsClient, tmp_path: Path) -> None:
    """Who stops waiting leaves nothing behind either."""
    async with running(tmp_path, node.url, prefix=node.prefix, max_batch_bytes=200) as rig:
        trial = asyncio.create_task(tried(rig, f"{node.prefix}{DAY}", *[SOUND] * 200))
        while not names(node):
            await asyncio.sleep(0.01)
        trial.cancel()
        await asyncio.gather(trial, return_exceptions=True)
        assert trial.cancelled()
    assert names(node) == []


async def test_elasticsearch_is_away(tmp_path: Path) -> None:
    """That is said in one sentence."""
    async with running(tmp_path, "http://127.0.0.1:1") as rig:
        with pytest.raises(GatewayError, match=r"^Elasticsearch at 127.0.0.1:1 cannot be reached"):
            await tried(rig, DAY, SOUND)


@pytest.mark.parametrize(
    ("number", "sentence"), [(403, r"lacks a privilege"), (429, r"answered 429"), (503, r"answered 503")]
)
async def test_it_cannot_be_known(odd: OddServer, number: int, sentence: str) -> None:
    """A missing privilege, or a server that is busy, is no verdict on a document."""
    client = connect(Elasticsearch(urls=(odd.url,)))
    trial = Trial(client, Elasticsearch(urls=(odd.url,)), "", BUILT_IN)
    try:
        odd.always = status(number)
        with pytest.raises(GatewayError, match=sentence):
            await trial._rulings("ml-verify-trial-x", [SOUND, docs(1)[0].source])
    finally:
        await client.close()
