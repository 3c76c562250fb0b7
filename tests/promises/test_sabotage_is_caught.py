"""A crash test that cannot fail proves nothing: with one mistake put into the gateway, each time it must."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.crash import driver
from tests.crash.lane import Lane
from tests.crash.lives import Result
from tests.crash.weather import Weather
from tests.elasticsearch_node.node import ElasticsearchNode

SEED = 1  # two power cuts among the first eight lives
SECS, KILLS = 25, 8  # of each gateway
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def crash(
    folder: Path, sabotages: Sequence[str], node: ElasticsearchNode | None = None
) -> tuple[Result, dict[str, Result]]:
    """Run the very same crash test without and with each mistake, side by side; return what became of them."""
    url = None if node is None else node.url
    names = {sabotage: "sound" if sabotage is None else sabotage.replace(" ", "-") for sabotage in (None, *sabotages)}
    now = datetime.now(UTC)
    lanes = [
        Lane(name, folder, seed=SEED, now=now, rate=40, elasticsearch=url, prefix=f"{name}-", sabotage=sabotage)
        for sabotage, name in names.items()
    ]
    weather = None if node is None else Weather(node, SEED, pause_secs=4)
    sound, *others = driver.run(lanes, secs=SECS, kills=KILLS * len(lanes), rests=0, weather=weather)
    return sound, dict(zip(sabotages, others, strict=True))


def test_with_the_embedded_store(tmp_path: Path) -> None:
    """The test passes without a mistake and fails with one."""
    lose = ["no sync", "no sync of the folder", "acknowledged before the write", "refused events forgotten"]
    sound, found = crash(tmp_path, [*lose, "always a new identity"])
    assert sound.sound, sound.problems
    assert {name: found[name].missing > 0 for name in lose} == dict.fromkeys(lose, True)
    assert found["always a new identity"].doubled


def test_with_elasticsearch(tmp_path: Path, elasticsearch_node: ElasticsearchNode) -> None:
    """So it does with an Elasticsearch that is in trouble itself."""
    sound, found = crash(tmp_path, ["409 is an error", "cursor before the answer"], elasticsearch_node)
    assert sound.sound, sound.problems
    assert any("dead letters of sinks" in each for each in found["409 is an error"].problems)
    assert found["cursor before the answer"].missing
