"""The console's benchmark measures every page, and what watching costs."""

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from benchmarks.events import lines
from benchmarks.load import HELLO, Job
from benchmarks.measure import cores
from benchmarks.processes import sender
from tests.benchmarks.test_bench import bench

RATE, SECS, STALL_SECS = 5_000, 0.4, 0.3


@pytest.mark.process
def test_a_delay_is_counted_from_when_an_event_was_due(tmp_path: Path) -> None:
    """A receiver that acknowledges late: each event has an id of its own, and waits as long as it says."""
    file = tmp_path / "events"
    file.write_bytes(b"".join(lines(50, 1)))
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            connection, _ = listener.accept()
            with connection:
                acked = 0
                while acked < RATE * SECS:
                    received.extend(connection.recv(262_144))
                    time.sleep(STALL_SECS)
                    acked = received.count(b"\n") - 1
                    connection.sendall(b'{"acked":%d}\n' % acked)

        thread = threading.Thread(target=take)
        thread.start()
        job = Job("paced ack", listener.getsockname()[1], str(file), rate=RATE, secs=SECS)
        with sender(cores(pinned=False).others, job) as ready:
            sent = ready.send()
        thread.join()
    hello, *events = received.splitlines(keepends=True)
    assert hello == HELLO
    assert len({json.loads(each)["event_id"] for each in events}) == sent.events == RATE * SECS
    assert 1000 * STALL_SECS / 2 < sent.delays_ms["p50"] <= sent.delays_ms["p99"] <= sent.delays_ms["longest"]
    assert sent.delays_ms["longest"] < 1000 * sent.secs


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_every_page_is_measured(tmp_path: Path) -> None:
    """With a few events in the store: no target is left out, and each page has its times."""
    words = ("--stored", "3000", "--events", "2000", "--repeat", "1", "--secs", "1", "--results", str(tmp_path))
    ended = bench(*words, module="benchmarks.console", timeout=140)
    assert ended.returncode == 0, ended.stderr
    (file,) = tmp_path.glob("*-console-*.json")
    result = json.loads(file.read_text())
    assert [row["what"] for row in result["targets"] if row["figure"] is None] == []
    assert result["watched"] == 3
    assert {"Overview", "Models", "Training", "Logs", "Dead letters", "Data quality"} <= {
        page["name"] for page in result["pages"]
    }
    for page in result["pages"]:
        assert 0 < page["first_paint_ms"][0] < 60_000
        assert page["panels"]
        assert f"| {page['name']} |" in ended.stdout
    assert sum(len(panel["questions"]) for page in result["pages"] for panel in page["panels"]) > 20
