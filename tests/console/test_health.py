"""What every page tells of the gateway and its models."""

import asyncio
from typing import Any

import pytest

from gateway.console.health import Health
from gateway.monitoring.figures import Told
from gateway.summary import Model, Summary
from tests.monitoring.telling import NOW, Disk
from tests.monitoring.test_findings import good, hour_and_window, less_right

STATUS: dict[str, Any] = {
    "uptime_secs": 9000.0,
    "sources": {"tcp": {"received": 12}},
    "spool": {"oldest_secs": 0.0, "failure": None, "full": None},
    "sinks": {"embedded": {"state": "ok", "last_error": None}},
    "books": {
        "received": 12,
        "refused": 1,
        "difference": 0,
        "sinks": {"embedded": {"indexed": 7, "duplicates": 1, "waiting": 3, "damaged": 0, "skipped": 0}},
    },
}


async def told(disk: Disk, status: dict[str, Any] = STATUS) -> dict[str, Any]:
    """Return what pages are told once the figures were looked at."""
    health = Health(lambda: status, disk.figures)
    await health.judged()
    return health.now()


@pytest.mark.anyio
async def test_counts_are_of_one_moment() -> None:
    """What came in is stored, waits, or was refused."""
    now = await told(Disk())
    assert now["received"] == now["stored"] + now["waiting"] + now["refused"]
    assert now["troubles"] == []


@pytest.mark.anyio
async def test_a_model_that_gets_worse_needs_a_look() -> None:
    """What is told on every page is not that all is well, where the first page says otherwise."""
    now = await told(hour_and_window(less_right))
    assert any("accuracy fell" in each for each in now["troubles"])
    assert not any("accuracy" in each for each in (await told(hour_and_window(good)))["troubles"])


@pytest.mark.anyio
async def test_the_figures_are_waited_for_in_a_thread() -> None:
    """While the figures are copied for a scrape, what is told every second is told."""
    disk = Disk()
    health = Health(lambda: STATUS, disk.figures)
    with disk.figures._lock:
        judging = asyncio.create_task(health.judged())
        for _ in range(3):
            await asyncio.sleep(0.01)
            assert health.now()["received"] == 12
        assert not judging.done()
    await judging


@pytest.mark.anyio
async def test_who_was_heard() -> None:
    """A model that is named by refused events alone said nothing."""
    disk = Disk()
    disk.take(Told(NOW, Summary(models={("m", "1"): Model(predictions=2), ("typo", ""): Model(refused=3)}).encode()))
    judged = await Health(lambda: STATUS, disk.figures).judged()
    assert judged.heard == {"model": 1, "service": 0, "kind": 0}


@pytest.mark.anyio
async def test_trouble_of_the_gateway_comes_first() -> None:
    """A sink that does not work is worse than a model."""
    sinks = {"embedded": {"state": "stopped", "last_error": "No room."}}
    now = await told(hour_and_window(less_right), {**STATUS, "sinks": sinks})
    assert now["troubles"][0] == "embedded is stopped: No room."
