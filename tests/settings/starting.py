"""What the tests of settings share: events, and listeners that are waited for."""

from __future__ import annotations

import socket
import time

from tests.gateway_process import Gateway

EVENT = b'{"model_name":"m"}'


def refused(host: str, port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection((host, port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def listening(process: Gateway, host: str, port: int) -> None:
    """Return when somebody listens there."""
    deadline = time.monotonic() + 30
    while refused(host, port):
        assert time.monotonic() < deadline, process.output_tail()
        time.sleep(0.05)
