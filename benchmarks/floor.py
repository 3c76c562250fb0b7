"""What each step costs at least: the same tools on the same events, and nothing else around them."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import msgspec

from benchmarks.events import lines

BLOCK = 256 * 1024
EVENTS = 50_000
TIMES = 5
ADDED = (
    b',"@timestamp":"2026-01-01T00:00:00.000Z","received_at":"2026-01-01T00:00:00.000Z","type":"model_inference",'
    b'"confidence_level":"high","latency_category":"fast","prediction_correct":true,"prediction_accuracy":1.0}\n'
)
ACTION = b'{"create":{"_index":"ml-metrics-2026.01.01","_id":"%s"}}\n'


class Needed(msgspec.Struct):
    """The fields that the gateway looks at; that the others are JSON is checked on the way."""

    model_name: str
    timestamp: str | None = None
    event_id: str | None = None
    prediction_confidence: float | None = None
    inference_time_ms: float | None = None
    prediction_class: str | int | float | bool | None = None
    true_label: str | int | float | bool | None = None
    error_message: str | None = None


def floor() -> dict[str, float]:
    """Return CPU-s for a million events of each step, the least of several tries; a sync's waiting is not in it."""
    made = lines(EVENTS, 5)
    data = b"".join(made)
    blocks = [data[first : first + BLOCK] for first in range(0, len(data), BLOCK)]
    decoder = msgspec.json.Decoder(Needed)
    enriched = [line[:-2] + ADDED for line in made]
    body = b"".join(ACTION % (b"0" * 22) + line for line in enriched)
    bodies = [body[first : first + BLOCK] for first in range(0, len(body), BLOCK)]

    def decode() -> None:
        for block in blocks:
            decoder.decode_lines(block[block.find(b"\n") + 1 : block.rfind(b"\n") + 1])

    def name() -> None:
        for line in made:
            blake2b(line[:40], digest_size=16).hexdigest()

    def write() -> None:
        b"".join(ACTION % b"0123456789012345678901" + line[:-2] + ADDED for line in made)

    with tempfile.TemporaryDirectory(prefix="bench-floor-") as folder:
        file = Path(folder) / "spool"

        def spool() -> None:
            with file.open("wb") as out:
                for block in bodies:
                    zlib.crc32(block)
                    out.write(block)
                    out.flush()
                    os.fsync(out.fileno())

        def read() -> None:
            with file.open("rb") as back:
                while block := back.read(BLOCK):
                    zlib.crc32(block)

        return {
            "receive": _least(lambda: _through_socket(blocks, receiving=True)),
            "decode": _least(lambda: _timed(decode)),
            "name": _least(lambda: _timed(name)),
            "write": _least(lambda: _timed(write)),
            "spool": _least(lambda: _timed(spool)),
            "read": _least(lambda: _timed(read)),
            "send": _least(lambda: _through_socket(bodies, receiving=False)),
        }


def _least(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(TIMES)) / EVENTS * 1e6


def _timed(work: Callable[[], None]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _through_socket(blocks: list[bytes], *, receiving: bool) -> float:
    """Return the CPU seconds of one side of a connection over loopback; receiving cuts into lines too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()

    def send() -> None:
        for block in blocks:
            near.sendall(block)
        near.shutdown(socket.SHUT_WR)

    def receive() -> None:
        while data := far.recv(BLOCK):
            if receiving:
                data.split(b"\n")

    with near, far:
        other = threading.Thread(target=send if receiving else receive)
        other.start()
        used = _timed(receive if receiving else send)
        other.join()
    return used
