"""The sender sends by schedule, whatever the receiver does."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from benchmarks.events import lines
from benchmarks.load import Job
from benchmarks.measure import cores
from benchmarks.processes import sender

RATE, SECS, STALL_SECS = 20_000, 0.5, 0.7


@pytest.mark.process
def test_a_receiver_that_stalls_does_not_move_the_schedule(tmp_path: Path) -> None:
    """An event that could not be sent in time still says when it was due: its wait is counted as latency."""
    file = tmp_path / "events"
    file.write_bytes(b"".join(lines(50, 1)))
    received = bytearray()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what is not read soon stays with the sender
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def take() -> None:
            connection, _ = listener.accept()
            with connection:
                time.sleep(STALL_SECS)
                while data := connection.recv(262_144):
                    received.extend(data)

        thread = threading.Thread(target=take)
        thread.start()
        job = Job("paced", listener.getsockname()[1], str(file), rate=RATE, secs=SECS)
        with sender(cores(pinned=False).others, job) as ready:
            sent = ready.send()
        thread.join()
    assert sent.events == RATE * SECS
    assert sent.secs > STALL_SECS  # it was held up
    due = [int(each) for each in re.findall(rb'"due_ns":(\d+)', bytes(received))]
    assert len(due) == sent.events
    assert due == pytest.approx([due[0] + number * 1e9 / RATE for number in range(len(due))], abs=2)
    assert all(json.loads(line)["model_name"] for line in received.splitlines()[:100])
