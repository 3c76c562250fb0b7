"""Clients that send until they are stopped, each event again until it is acknowledged.

Each numbers its events from 0 and sends them in order, so that what is acknowledged is always a beginning.
Now and then they send again what was acknowledged, as they do when an acknowledgement is lost on its way.
"""

import json
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx

import gateway_client
from tests.crash.events import is_bad, line

PATIENCE_SECS = 10.0
RETRY_SECS = 0.05
FORGETS = 0.05  # of the answers
REPEATS = 0.25  # of the connections
GOES_AWAY = 0.01  # of the times that it sends
HELLO = b'{"ack":true}\n'


class Client(threading.Thread):
    """``sent`` events were sent at least once, ``acknowledged`` of them are promised to be on disk."""

    def __init__(self, name: str, port: int, rate: float, now: datetime, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.sent = 0
        self.acknowledged = 0
        self.problems: list[str] = []
        self._port = port
        self._rate = rate
        self._now = now
        self._draw = random.Random(f"{seed} {name}")
        self._finishing = threading.Event()
        self._giving_up = threading.Event()

    def finish(self) -> None:
        """Send nothing new; the thread ends when all that was sent is acknowledged."""
        self._finishing.set()

    def give_up(self) -> None:
        """End, whatever is not acknowledged yet."""
        self._giving_up.set()

    def run(self) -> None:
        """Send."""
        while not self._done():
            try:
                self._send_some()
            except (OSError, httpx.HTTPError):
                self._giving_up.wait(RETRY_SECS)
            except Exception as error:
                self._complain(f"ended by {error!r}")
                return

    def _send_some(self) -> None:
        """Send events until done, or raise OSError or `httpx.HTTPError`."""
        raise NotImplementedError

    def _done(self) -> bool:
        return self._giving_up.is_set() or (self._finishing.is_set() and self.acknowledged == self.sent)

    def _next(self, first: int) -> range:
        """Return the numbers to send now, beginning with ``first``; at the end no new ones."""
        numbers = range(first, first + self._draw.randint(1, max(2, int(self._rate / 2))))
        if self._finishing.is_set():
            numbers = range(first, min(numbers.stop, self.sent))
        self.sent = max(self.sent, numbers.stop)
        return numbers

    def _lines(self, numbers: range) -> bytes:
        return b"".join(line(self.name, number, self._now) + b"\n" for number in numbers)

    def _complain(self, text: str) -> None:
        if len(self.problems) < 10:
            self.problems.append(f"{self.name}: {text}")


class HttpClient(Client):
    """NDJSON by POST, again until the answer is 200, 207, or 400 for a batch of which nothing is good."""

    def _send_some(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=PATIENCE_SECS, trust_env=False) as http:
            while not self._done():
                numbers = self._next(self.acknowledged)
                answer = http.post("/v1/events", content=self._lines(numbers))
                if answer.status_code in (429, 503):
                    self._giving_up.wait(RETRY_SECS)
                    continue
                self._compare(numbers, answer)
                if self._draw.random() > FORGETS:
                    self.acknowledged = numbers.stop
                self._giving_up.wait(len(numbers) / self._rate)

    def _compare(self, numbers: range, answer: httpx.Response) -> None:
        bad = [at for at, number in enumerate(numbers) if is_bad(number)]
        told = answer.json()
        refused = [error["index"] for error in told["errors"]]
        status = 200 if not bad else 207 if len(bad) < len(numbers) else 400
        expected = status, len(numbers) - len(bad), len(bad), bad
        if expected != (answer.status_code, told["accepted"], told["rejected"], refused):
            self._complain(f"answer to {numbers}, bad ones at {bad}: {answer.status_code} {answer.text[:500]}")


class TcpClient(Client):
    """JSON lines with acknowledgements; now and then it goes away and comes back."""

    _told = 0  # events before this number are acknowledged on the present connection or an earlier one

    def _send_some(self) -> None:
        # The number of the first line behind the hello.
        begin = unsent = self.acknowledged
        if self._draw.random() < REPEATS:
            begin = unsent = max(0, begin - self._draw.randint(1, int(self._rate / 2)))
        self._told = begin
        heard = time.monotonic()
        with socket.create_connection(("127.0.0.1", self._port), PATIENCE_SECS) as connection:
            connection.sendall(HELLO)
            answers = _Lines(connection)
            ready = False
            while not self._done() and self._draw.random() > GOES_AWAY:
                pause = RETRY_SECS
                if ready and unsent < self._told + 3 * self._rate and (numbers := self._next(unsent)):
                    connection.sendall(self._lines(numbers))
                    unsent = numbers.stop
                    pause = len(numbers) / self._rate
                for told in answers.within(pause):
                    heard = time.monotonic()
                    if ready:
                        self._take(told, begin, unsent)
                    elif told != {"ack": "ready"}:
                        raise AssertionError(f"the answer to the hello is {told}")
                    ready = True
                if time.monotonic() > heard + PATIENCE_SECS:
                    raise TimeoutError("no acknowledgement")

    def _take(self, told: Any, begin: int, unsent: int) -> None:
        before, self._told = self._told, begin + told["acked"]
        if not before < self._told <= unsent:
            raise AssertionError(f"{told} acknowledges up to {self._told}, of {before} to {unsent}")
        bad = [number for number in range(before, self._told) if is_bad(number)]
        refused = [begin + each["line"] - 1 for each in told["rejected"]]
        if bad[: len(refused)] != refused or len(bad) != len(refused) + told.get("omitted", 0):
            self._complain(f"refused {refused}, bad are {bad}: {told}")
        self.acknowledged = max(self.acknowledged, self._told)


class LibraryClient(Client):
    """`gateway_client`, which does all this by itself, in the order in which it was given the events."""

    def _send_some(self) -> None:
        with gateway_client.Client(port=self._port, on_rejected=lambda event, why: None) as gateway:
            while not self._done():
                for number in self._next(self.sent):
                    gateway.send(self._event(number))
                self._giving_up.wait(RETRY_SECS if self._finishing.is_set() else 0.25)
                stats = gateway.stats
                self.acknowledged = stats.acknowledged + stats.rejected

    def _event(self, number: int) -> dict[str, Any]:
        try:
            event: dict[str, Any] = json.loads(line(self.name, number, self._now))
        except ValueError:  # nobody can give it what is no JSON
            event = {"client": self.name, "number": number}
        return event


class _Lines:
    """JSON lines as they come."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def within(self, secs: float) -> Iterator[Any]:
        """Yield what comes within ``secs``; raise OSError when the other side is gone."""
        until = time.monotonic() + secs
        while (left := until - time.monotonic()) > 0:
            if select.select([self._connection], [], [], left)[0]:
                data = self._connection.recv(65_536)
                if not data:
                    raise ConnectionResetError("the gateway went away")
                *lines, self._rest = (self._rest + data).split(b"\n")
                yield from map(json.loads, lines)
