"""Promise 6: the books balance at every moment, also while the gateway is killed, and say what came in.

That a damaged record is counted is held by `test_damage_is_contained.py`; `tests.crash` looks at the books all along.
"""

import json
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from tests import books
from tests.gateway_process import Gateway, GatewayFactory

GOOD, BAD, AGAIN = 700, 300, 200
KILLS = 3


def event(number: int, confidence: float = 0.5) -> bytes:
    """Return an event with an identity; a confidence above 1 is refused."""
    return json.dumps({"model_name": "books", "event_id": str(number), "prediction_confidence": confidence}).encode()


def looking(running: Gateway, over: threading.Event, seen: list[dict[str, int]], wrong: list[str]) -> None:
    """Look at the books as fast as they come; note what does not balance, or falls."""
    while not over.is_set():
        try:
            seen.append(books.check(running.status()))
        except httpx.HTTPError:
            time.sleep(0.01)
        except AssertionError as error:
            wrong.append(str(error))


def while_looked_at(running: Gateway, send: Callable[[], None]) -> list[dict[str, int]]:
    """Send while three look at the books; return what they saw, all of it balanced."""
    over = threading.Event()
    seen: list[dict[str, int]] = []
    wrong: list[str] = []
    watchers = [threading.Thread(target=looking, args=(running, over, seen, wrong)) for _ in range(3)]
    for each in watchers:
        each.start()
    try:
        send()
    finally:
        over.set()
        for each in watchers:
            each.join()
    assert wrong == []
    return seen


@pytest.mark.timeout(120)
def test_at_every_moment(gateway: GatewayFactory) -> None:
    """Good, bad and repeated events over TCP and HTTP, with kills between: each is in the books, where it belongs."""
    running = gateway()

    def post(events: list[bytes]) -> None:
        answer = running.http.post("/v1/events", content=b"\n".join(events))
        assert answer.json()["accepted"] + answer.json()["rejected"] == len(events)

    def send() -> None:
        for turn in range(KILLS + 1):
            numbers = range(turn * (GOOD + BAD), (turn + 1) * (GOOD + BAD))
            events = [event(number, 2.0 if number % 10 < 3 else 0.5) for number in numbers]
            for start in range(0, len(events), 50):
                post(events[start : start + 50])
            told = running.send_tcp(b'{"ack":true}\n' + b"\n".join(events[-AGAIN:]) + b"\n")
            assert json.loads(told.splitlines()[-1])["acked"] == AGAIN
            if turn < KILLS:
                running.kill()
                running.restart()

    seen = while_looked_at(running, send)
    assert len(seen) > 20
    held = books.settled(running)
    turns = KILLS + 1
    again = turns * AGAIN
    assert held["received"] == turns * (GOOD + BAD) + again
    assert held["refused"] == turns * BAD + again * BAD // (GOOD + BAD)
    (mine,) = held["sinks"].values()
    assert mine["indexed"] == turns * GOOD
    assert mine["duplicates"] == again * GOOD // (GOOD + BAD)
