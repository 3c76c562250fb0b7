"""The gateway's own log."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gateway import logs
from gateway.settings import Log
from gateway.telemetry import Telemetry


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


def test_what_was_kept_back_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the latest is written by itself, with the number of the others; silence writes nothing."""
    file = tmp_path / "log"
    logs.configure(Log(file=file))
    log = structlog.get_logger("test")
    for number in range(5):
        log.warning("Again.", number=number)
        logging.getLogger("uvicorn.error").warning("Invalid %s.", "request")
    log.warning("Once.")
    logs.write_kept_back()
    assert len(written(file)) == 3
    monkeypatch.setattr(logs, "SAME_WITHIN_SECS", 0.0)
    for _ in range(3):
        logs.write_kept_back()
    said = [(line["event"], line.get("number"), line.get("repeated")) for line in written(file)]
    assert said == [
        ("Again.", 0, None),
        ("Invalid request.", None, None),
        ("Once.", None, None),
        ("Again.", 4, 3),
        ("Invalid request.", None, 3),
    ]


def test_what_was_kept_back_is_written_at_the_end(tmp_path: Path) -> None:
    """A process that ends leaves nothing untold."""
    file = tmp_path / "log"
    logs.configure(Log(file=file))
    log = structlog.get_logger("test")
    for number in range(3):
        log.warning("Again.", number=number)
    (handler,) = logging.getLogger().handlers
    handler.flush()  # as `logging.shutdown` does
    handler.close()
    assert [(line["number"], line.get("repeated")) for line in written(file)] == [(0, None), (2, 1)]


def test_one_source_or_reason_hides_no_other(tmp_path: Path) -> None:
    """A bad event over HTTP does not keep back what the same host's TCP lines get told, nor one reason another."""
    file = tmp_path / "log"
    logs.configure(Log(file=file))
    telemetry = Telemetry()
    for source, reason in [("http", "schema"), ("tcp", "schema"), ("tcp", "json"), ("tcp", "schema")]:
        telemetry.events_refused(
            source, "10.0.0.1:1", [reason], rule="r", path="$", message="It is wrong.", value="1.7"
        )
    said = [(line["source"], line["reason"]) for line in written(file)]
    assert said == [("http", "schema"), ("tcp", "schema"), ("tcp", "json")]


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More peers than are remembered: the first is forgotten, and what it said meanwhile is written."""
    monkeypatch.setattr(logs, "MAX_REMEMBERED", 2)
    file = tmp_path / "log"
    logs.configure(Log(file=file))
    log = structlog.get_logger("test")
    for host in (1, 1, 2, 3, 4):
        log.warning("A connection was closed.", peer=f"10.0.0.{host}:1")
    assert [line["peer"] for line in written(file)] == [f"10.0.0.{host}:1" for host in (1, 2, 1, 3, 4)]


def test_a_sender_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What a sender wrote is shown with its control characters spelled out."""
    logs.configure(Log(format="console"))
    Telemetry().events_refused("tcp", "p:1", ["json"], rule="r", path="$", message="No.", value="\x1b[2J\x9b2J")
    told = capsys.readouterr().err
    assert r"\x1b[2J\x9b2J" in told
    assert not set(told) & {"\x1b", "\x9b"}


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
