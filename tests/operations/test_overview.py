"""What the gateway says by itself of its own state."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.operations.overview import Overview
from gateway.settings import Spool
from gateway.spool import folder as folder_module
from gateway.spool.folders import Folders
from gateway.spool.letters import LetterBox
from gateway.spool.state import State
from gateway.telemetry import Telemetry

pytestmark = [pytest.mark.anyio, pytest.mark.waits]


async def test_a_full_spool_is_told_in_the_log_and_its_end_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders over TCP see only that nothing moves: the log says why, once, and when it is over."""
    state = State(tmp_path / "state.sqlite3", 1 << 20)
    spool = Folders(tmp_path / "spool", Spool(min_free_bytes=1 << 60), lambda **_: None)
    try:
        boxes = [LetterBox(spool.own, state)]
        watching = asyncio.create_task(Overview(spool, state, list, dict, Telemetry(), boxes, list).watch())
        with capture_logs() as logs:
            await asyncio.sleep(2.5)
            assert len(logs) == 1
            monkeypatch.setattr(folder_module, "free_bytes", lambda folder: 1 << 61)
            async with asyncio.timeout(10):
                while len(logs) < 2:
                    await asyncio.sleep(0.1)
        watching.cancel()
    finally:
        await spool.stop()
    state.close()
    assert [each["log_level"] for each in logs] == ["warning", "info"]
    assert "spool.min_free_bytes" in logs[0]["full"]
