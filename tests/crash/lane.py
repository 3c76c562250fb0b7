"""A lane: one gateway with its stores, the clients that send to it, and what ends its lives."""

import random
import statistics
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests import books
from tests.crash import comparison
from tests.crash.clients import Client, HttpClient, LibraryClient, TcpClient
from tests.crash.faults import FAULTS
from tests.crash.lives import Lives, Result
from tests.gateway_process import Gateway, GatewayError

FINISH_SECS = 120.0
SETTINGS = {
    "spool": {"segment_bytes": 65_536, "max_bytes": 8 << 20},
    "elasticsearch": {"max_batch_events": 100, "request_timeout_secs": 4},
    "drain_timeout_secs": 2,
}


class Lane:
    """``elasticsearch`` is the address of one, or None for the embedded store alone.

    ``clients`` makes others than the usual clients, given the ports of TCP and HTTP. ``rate`` is in events
    a second, of each of the larger clients.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        seed: int,
        now: datetime,
        elasticsearch: str | None = None,
        embedded: bool = False,
        prefix: str = "",
        rate: float = 100.0,
        sabotage: str | None = None,
        clients: Callable[[int, int], list[Client]] | None = None,
    ) -> None:
        self.name = name
        self._folder = folder / name
        self._draw = random.Random(seed)
        self._now = now
        self._elasticsearch = elasticsearch
        self._embedded = embedded or elasticsearch is None
        self._prefix = prefix
        env = {"GATEWAY_EVENTS__INDEX_PREFIX": prefix, "GATEWAY_STORE__ENABLED": str(self._embedded).lower()}
        if elasticsearch is not None:
            env["ELASTICSEARCH_URL"] = elasticsearch
        self.gateway = Gateway(self._folder, env=env, config=SETTINGS)
        tcp, http = self.gateway.tcp_port, self.gateway.http_port
        self.clients: list[Client] = [
            TcpClient("tcp-1", tcp, rate, now, seed),
            TcpClient("tcp-2", tcp, rate / 4, now, seed),
            HttpClient("http-1", http, rate, now, seed),
            HttpClient("http-2", http, rate / 4, now, seed),
            LibraryClient("library", tcp, rate / 4, now, seed),
        ]
        if clients is not None:
            self.clients = clients(tcp, http)
        self.result = Result(name, restarts=-1)  # the first start is none
        self.lives = Lives(self.gateway, self._folder / "platter", seed, self.result, self._meets, sabotage)
        self.last_status: dict[str, Any] = {}
        self.calm: list[tuple[float, float]] = []  # bytes of memory early and late in each calm stretch
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name=f"{name} watcher", daemon=True)

    def start(self) -> None:
        """Let the clients send; nobody listens yet."""
        for client in self.clients:
            client.start()
        self._watcher.start()

    def torment(self, secs: float, kills: int, give_up: threading.Event) -> None:
        """End life after life for ``secs``, and longer until there were ``kills``, at most half as long again."""
        began, first = time.monotonic(), self.result.kills
        while not give_up.is_set():
            past, done = time.monotonic() - began, self.result.kills - first
            if past > 1.5 * secs or (past > secs and done >= kills):
                return
            self.lives.life(max(0.5, (secs - past) / max(1, kills - done)), give_up)

    def rest(self, secs: float, give_up: threading.Event) -> None:
        """Leave a gateway alone for ``secs``, but for some freezes, and note its memory."""
        self.lives.begin()
        samples: list[int] = []
        until = time.monotonic() + secs
        while time.monotonic() < until and not give_up.wait(1.0):
            if not self.gateway.running:
                break
            samples.append(_resident_bytes(self.gateway.pid))
            if self._draw.random() < 0.02:
                self.lives.freeze()
        if self.gateway.running:
            self.lives.kill()
        else:
            self.result.complain(f"the gateway ended by itself with {self.gateway.exit_code}")
        third = len(samples) // 3
        if third:
            self.calm.append((statistics.median(samples[third : 2 * third]), statistics.median(samples[2 * third :])))

    def finish(self) -> Result:
        """Let clients and sinks end what they began, and compare. Bounded."""
        result = self.result
        try:
            self.lives.begin()
            for client in self.clients:
                client.finish()
            self.gateway.wait_ready()
            self._settle()
        except (GatewayError, AssertionError, httpx.HTTPError) as error:
            self.result.complain(str(error)[:4000])
        for client in self.clients:
            client.give_up()
            client.join(30)
            result.problems += client.problems
        known = self._known()
        result.sent = sum(client.sent for client in known)
        result.acknowledged = sum(client.acknowledged for client in known)
        try:
            self._compare()
        except (GatewayError, AssertionError, httpx.HTTPError) as error:
            self.result.complain(f"nothing could be compared: {str(error)[:2000]}")
        self._over.set()
        self._watcher.join(30)
        return result

    def close(self) -> None:
        """End everything, whatever it does."""
        self._over.set()
        for client in self.clients:
            client.give_up()
        self.gateway.close()

    def _meets(self, name: str) -> bool:
        """Whether a fault can be met in this lane."""
        fault = FAULTS[name]
        if fault.target.startswith(("gateway.store", "gateway.sinks.embedded")):
            return self._embedded
        sink = fault.target.startswith(("gateway.sinks.elasticsearch", "aiohttp")) or fault.needs == "block"
        return self._elasticsearch is not None or not sink

    # What is seen.

    def _known(self) -> list[comparison.Client]:
        """Return what the clients know; several of one name send the same events."""
        known: dict[str, comparison.Client] = {}
        for each in self.clients:
            other = known.get(each.name, comparison.Client(each.name, 0, 0))
            known[each.name] = comparison.Client(
                each.name, max(each.sent, other.sent), max(each.acknowledged, other.acknowledged)
            )
        return list(known.values())

    def _watch(self) -> None:
        """Look at the memory, and at the books, all along."""
        while not self._over.wait(0.3):
            gateway, result = self.gateway, self.result
            if not gateway.running:
                continue
            try:
                result.peak_bytes = max(result.peak_bytes, _resident_bytes(gateway.pid))
                promised = sum(client.acknowledged for client in self._known())
                status = gateway.http.get("/status", timeout=2).raise_for_status().json()
                held = books.check(status)
                if held["received"] < promised:
                    self.result.complain(
                        f"the books have less than the {promised} events that were acknowledged: {held}"
                    )
            except (OSError, httpx.HTTPError):
                continue
            except AssertionError as error:
                self.result.complain(f"the books do not balance: {error}")

    def _settle(self) -> None:
        """Return when all is acknowledged and taken, and the books balance; raise AssertionError."""
        until = time.monotonic() + FINISH_SECS
        for client in self.clients:
            client.join(max(0.1, until - time.monotonic()))
            if client.is_alive():
                self.result.complain(
                    f"{client.name}: {client.sent - client.acknowledged} events are never acknowledged"
                )
        until = time.monotonic() + FINISH_SECS
        wanted = self._embedded + (self._elasticsearch is not None)
        before = None
        while True:
            self.last_status = self.gateway.status()
            held = self.last_status["books"]
            taken = len(held["sinks"]) == wanted and not any(each["waiting"] for each in held["sinks"].values())
            if taken and held == before:
                break
            if time.monotonic() > until:
                raise AssertionError(f"the sinks do not take everything: {self.last_status}")
            before = held
            time.sleep(1.0)
        for sink, mine in books.check(self.last_status)["sinks"].items():
            if lost := {name: mine[name] for name in ("dead_letters", "skipped", "damaged") if mine[name]}:
                self.result.complain(f"{sink} did not take {lost}")

    def _compare(self) -> None:
        result, known, found = self.result, self._known(), {}
        if self._embedded:
            names = comparison.in_embedded_store(self.gateway.url, self._prefix, self._now, self._folder)
            found["embedded store"] = comparison.documents(known, names)
        if self._elasticsearch is not None:
            names = comparison.in_elasticsearch(self._elasticsearch, self._prefix)
            found["Elasticsearch"] = comparison.documents(known, names)
        code = self.gateway.stop(30)
        if code:
            self.result.complain(f"the gateway ended with {code}")
        refused, reasons = comparison.in_dead_letters(self.gateway.data_dir / "state.sqlite3")
        found["dead letters"] = comparison.letters(known, refused)
        if unasked := {reason: reasons[reason] for reason in ("mapping", "sink") if reason in reasons}:
            self.result.complain(f"dead letters of sinks: {unasked}")
        result.dead = found["dead letters"].indexed
        for place, each in found.items():
            result.missing += each.missing
            result.doubled += each.doubled
            if place != "dead letters":
                result.indexed = each.indexed if not result.indexed else min(result.indexed, each.indexed)
            if each.examples:
                self.result.complain(f"{place}: {', '.join(each.examples)}")
        if "Traceback" in self.gateway.output():
            self.result.complain(f"there is a stack trace in {self.gateway.log}: {_trace(self.gateway.output())}")


def _resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def _trace(output: str) -> str:
    at = output.index("Traceback")
    return output[max(0, at - 500) : at + 3000]
