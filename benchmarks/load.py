"""The sender, a process of its own so that its work is not counted as the gateway's.

``python -m benchmarks.load tcp|http PORT EVENTS SEED SECS`` makes all lines, prints ``ready``, waits for a line on
standard input, sends, and prints how many seconds it took until every connection was answered. The threads only hand
finished bytes to the kernel, so that the sender is not what is measured.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.events import lines

HOST = "127.0.0.1"
CONNECTIONS = 8
EVENTS_A_REQUEST = 500


def send_tcp(port: int, share: list[bytes], secs: float) -> None:
    """Send all lines over one connection and wait until the gateway has closed it."""
    data = b"".join(share)
    with socket.create_connection((HOST, port), secs) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


def send_http(port: int, share: list[bytes], secs: float) -> None:
    """Send requests one after the other over one connection; raise RuntimeError for an event that is not accepted."""
    connection = http.client.HTTPConnection(HOST, port, timeout=secs)
    for first in range(0, len(share), EVENTS_A_REQUEST):
        batch = share[first : first + EVENTS_A_REQUEST]
        connection.request("POST", "/v1/events", b"".join(batch), {"content-type": "application/x-ndjson"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200 or json.loads(said)["accepted"] != len(batch):
            raise RuntimeError(f"the answer to {len(batch)} events was {answer.status} {said[:300]!r}")
    connection.close()


SEND = {"tcp": send_tcp, "http": send_http}


def main() -> None:
    """Send what the arguments say."""
    source, port, events, seed, secs = sys.argv[1], *map(int, sys.argv[2:])
    made = lines(events, seed)
    shares = [made[first::CONNECTIONS] for first in range(min(CONNECTIONS, events))]
    print("ready", sum(map(len, made)), flush=True)
    if not sys.stdin.readline():
        return  # who started it is gone
    started = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for done in [pool.submit(SEND[source], port, share, secs) for share in shares]:
            done.result()
    print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
