"""Promises 2 and 3 over TCP: what was acknowledged is there after kill -9, and what is sent again is there once."""

import json
import random

import pytest

from tests.books import settled
from tests.gateway_process import Gateway, GatewayFactory

LINES = [b'{"model_name":"m","event_id":"%d","n":%d,"x":"%s"}\n' % (n, n, b"x" * (n % 700)) for n in range(30_000)]


def send_until_killed(running: Gateway, first: int, kill_at: int | None) -> int:
    """Send lines from ``first`` on; return how many are acknowledged in all.

    The gateway is killed when ``kill_at`` lines are on their way, acknowledged or not.
    """
    acked, heard = first, b""
    unsent = memoryview(b"".join(LINES[first:]))
    with running.connect_tcp() as connection:
        connection.sendall(b'{"ack":true}\n')
        connection.settimeout(0.01)
        unsent_then = 0 if kill_at is None else len(unsent) - len(b"".join(LINES[first:kill_at]))
        while acked < len(LINES):
            if kill_at is not None and len(unsent) <= unsent_then:
                running.kill()
                kill_at = None
            try:
                if unsent:
                    unsent = unsent[connection.send(unsent[:20_000]) :]
            except TimeoutError:
                pass
            except OSError:
                unsent = memoryview(b"")
            try:
                part = connection.recv(1 << 20)
            except TimeoutError:
                continue
            except ConnectionResetError:
                break
            if not part:
                break
            *messages, heard = (heard + part).split(b"\n")
            for each in messages:
                said = json.loads(each)
                assert said.get("rejected", []) == []
                acked = max(acked, first + said.get("acked", 0))
    return acked


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_killed_and_sent_again(gateway: GatewayFactory) -> None:
    """Whoever sends again all that was not acknowledged before a kill -9 has each event stored once."""
    chance = random.Random(5)
    running = gateway()
    acked = 0
    for _ in range(4):
        before = acked
        acked = send_until_killed(running, acked, before + chance.randrange(2_000, 7_000))
        assert acked >= before
        if running.running:
            running.kill()
        running.restart()
        assert running.status()["books"]["accepted"] >= acked
    assert 0 < acked < len(LINES), "the kills came too late, or too early, to tell anything"
    assert send_until_killed(running, acked, None) == len(LINES)
    books = settled(running)
    assert books["refused"] == books["dead_letters"]
    answer = running.http.get(
        "/v1/aggregate", params={"index": "ml-metrics-*", "metric": ["count", "sum:n", "min:n", "max:n"]}
    )
    found = answer.json()["buckets"][0]
    assert found["count"] == len(LINES)
    assert (found["min:n"], found["max:n"]) == (0, len(LINES) - 1)
