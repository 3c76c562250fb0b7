"""The gateway's own log."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gateway import logs
from gateway.settings import Log


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def written(file: Path) -> list[dict[str, object]]:
    """Return the lines of a log file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_same_about_the_same_peer_is_said_once(tmp_path: Path) -> None:
    """A client that does one thing wrong a thousand times fills no disk; another client is heard."""
    file = tmp_path / "log"
    logs.configure(Log(file=file))
    log = structlog.get_logger("test")
    for port in range(1000):
        log.warning("A connection was closed.", peer=f"10.0.0.1:{port}")
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    log.warning("A connection was closed.", peer="10.0.0.2:1")
    said = [(line["event"], line.get("peer")) for line in written(file)]
    assert said == [
        ("A connection was closed.", "10.0.0.1:0"),
        ("Invalid HTTP request received.", None),
        ("A connection was closed.", "10.0.0.2:1"),
    ]


def test_what_was_kept_back_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the sentence comes again later, it says how often it was not written."""
    file = tmp_path / "log"
    monkeypatch.setattr(logs, "SAME_WITHIN_SECS", 0.05)
    logs.configure(Log(file=file))
    log = structlog.get_logger("test")
    for _ in range(5):
        log.warning("Again.")
    monkeypatch.setattr(logs, "SAME_WITHIN_SECS", 0.0)
    log.warning("Again.")
    assert [line.get("repeated") for line in written(file)] == [None, 4]


def test_a_full_disk_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log file that cannot be written costs one sentence on the console, where each line goes anyway."""
    file = tmp_path / "log"
    file.symlink_to("/dev/full")
    logs.configure(Log(file=file))
    log = structlog.get_logger("test")
    for number in range(3):
        log.warning(f"Line {number}.")
    told = capsys.readouterr().err
    assert told.count("cannot be written") == 1
    assert all(f"Line {number}." in told for number in range(3))


def test_a_stack_trace_shows_no_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """What a variable holds, such as a key, is not written when something fails."""
    logs.configure(Log(format="console"))
    key = "hush"[::-1]
    try:
        raise ValueError(str(len(key)))
    except ValueError:
        structlog.get_logger("test").exception("It failed.")
    told = capsys.readouterr().err
    assert "ValueError: 4" in told
    assert key not in told
