"""The lives of one gateway: how each begins, and what ends it."""

import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.crash.faults import FAULTS
from tests.gateway_process import Gateway, GatewayError

# How lives end, of ten in a drawn order.
ENDS = ("kill",) * 3 + ("power cut",) * 2 + ("fault",) * 4 + ("term",)
UNREADY = 0.25  # of those that end by no fault, while the gateway starts
READY_SECS = 30.0
FREEZES = 0.1  # of those that end by a kill, shortly before
FAULT_SECS = 4.0  # for a fault to be reached
MARCH_SECS = 15.0  # where each is to be reached
BLOCK_SECS = 3.0
LOG_BYTES = 4 << 20


@dataclass
class Result:
    """What became of a lane. ``peak_bytes`` is the largest resident set of any of its gateways."""

    lane: str
    sent: int = 0
    acknowledged: int = 0
    indexed: int = 0
    dead: int = 0
    missing: int = 0
    doubled: int = 0
    peak_bytes: int = 0
    kills: int = 0
    restarts: int = 0
    problems: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.missing or self.doubled or self.problems)

    def complain(self, text: str) -> None:
        """Note what is wrong; of what begins alike the first three are enough."""
        if len(self.problems) < 30 and sum(each[:25] == text[:25] for each in self.problems) < 3:
            self.problems.append(text)


class Lives:
    """One after the other, on the same data. ``has`` tells whether a fault can be met.

    What is drawn for the nth life depends on the seed and n alone, not on what the ones before came to.
    """

    def __init__(
        self, gateway: Gateway, platter: Path, seed: int, result: Result, has: Callable[[str], bool],
        sabotage: str | None = None,
    ) -> None:  # fmt: skip
        self._gateway = gateway
        self._platter = platter
        self._seed = seed
        self._number = 0
        self._draw = random.Random(seed)
        self._start_secs = 1.0  # from a start until it served, last time
        self._result = result
        self._faults = [each for each in FAULTS if has(each)]
        self._sabotage = sabotage
        self._ends: list[str] = []

    def begin(self, fault: str | None = None, most: int = 60) -> None:
        """Start a gateway, which dies at a fault if one is named."""
        gateway = self._gateway
        if gateway.log.exists() and gateway.log.stat().st_size > LOG_BYTES:
            gateway.log.write_bytes(b"")
        launcher = [sys.executable, "-m", "tests.crash.launcher", "--seed", str(self._draw.randrange(1 << 30))]
        launcher += ["--spool", str(gateway.data_dir / "spool" / "0"), "--platter", str(self._platter)]
        if self._sabotage:
            launcher += ["--sabotage", self._sabotage]
        if fault:
            most = min(most, FAULTS[fault].most)
            launcher += ["--fault", fault, "--call", str(self._draw.choice([1, self._draw.randint(1, most)]))]
            if self._draw.random() < 0.4:
                launcher.append("--power")
        gateway.program = launcher
        gateway.start()
        self._result.restarts += 1

    def life(self, secs: float, give_up: threading.Event) -> None:
        """Let a gateway live for about ``secs``, and end it."""
        self._draw = draw = random.Random(f"{self._seed} {self._number}")
        if self._number % len(ENDS) == 0:
            self._ends = draw.sample(ENDS, len(ENDS))
        end = self._ends[self._number % len(ENDS)]
        self._number += 1
        self._result.ends[end] += 1
        fault = draw.choice(self._faults) if end == "fault" else None
        share = draw.uniform(0, 2)
        unready = not fault and draw.random() < UNREADY
        lasting = share * (self._start_secs if unready else max(0.2, secs - self._start_secs))
        self.begin(fault)
        if not unready:
            self._wait_ready(give_up)
        if self._wait(max(lasting, FAULT_SECS) if fault else lasting, give_up):
            self._ended(fault)
        elif end == "term" or (fault and self._draw.random() < 0.5):
            self._term(fault)
        elif end == "power cut":
            self._gateway.signal(signal.SIGUSR1)
            if self._wait(30, threading.Event()):
                self._result.kills += 1
            else:
                self._result.complain("the power cut did not end the gateway")
                self.kill()
        else:
            if self._draw.random() < FREEZES:
                self.freeze()
            self.kill()

    def _term(self, fault: str | None) -> None:
        """Ask for an end."""
        self._gateway.signal(signal.SIGTERM)
        if not self._wait(20, threading.Event()):
            self._result.complain(f"the gateway did not end within 20 s of SIGTERM: {self._gateway.output_tail()}")
            self.kill()
        # It may end before it listens to signals.
        elif self._gateway.exit_code not in (0, -signal.SIGTERM):
            self._ended(fault)

    def _ended(self, fault: str | None) -> None:
        """It ended by itself: by its fault, or else it should not have."""
        if fault and self._gateway.exit_code == -signal.SIGKILL:
            self._result.fired[fault] += 1
            self._result.kills += 1
        else:
            self._result.complain(f"the gateway ended with {self._gateway.exit_code}: {self._gateway.output_tail()}")

    def kill(self) -> None:
        """End a life by SIGKILL."""
        self._gateway.kill()
        self._result.kills += 1

    def _wait(self, secs: float, give_up: threading.Event) -> bool:
        """Wait, and return whether the gateway ended meanwhile."""
        until = time.monotonic() + secs
        while self._gateway.running:
            if time.monotonic() > until or give_up.is_set():
                return False
            time.sleep(0.005)
        return True

    def _wait_ready(self, give_up: threading.Event) -> None:
        """Return when the gateway serves, or has ended."""
        began = time.monotonic()
        while self._gateway.running and not give_up.wait(0.02) and time.monotonic() < began + READY_SECS:
            with suppress(httpx.HTTPError):
                if self._gateway.http.get("/ready", timeout=5).is_success:
                    self._start_secs = time.monotonic() - began
                    return

    def freeze(self) -> None:
        """Hold the gateway up for a while, as a busy machine does."""
        self._gateway.signal(signal.SIGSTOP)
        time.sleep(self._draw.uniform(0.2, 3))
        self._gateway.signal(signal.SIGCONT)

    def march(self, block: Callable[[bool], None], give_up: threading.Event) -> list[str]:
        """Die once at each fault, in a drawn order; return those that were not met.

        ``block`` keeps the present indices from taking documents, or no longer.
        """
        missed = []
        for name in self._draw.sample(self._faults, len(self._faults)):
            if give_up.is_set():
                break
            blocked = FAULTS[name].needs == "block"
            if blocked:
                block(True)
            self.begin(name, most=6)
            if FAULTS[name].needs == "term":
                with suppress(GatewayError):
                    self._gateway.wait_ready()
                self._gateway.signal(signal.SIGTERM)
            met = self._wait(BLOCK_SECS if blocked else MARCH_SECS, give_up)
            if blocked:
                block(False)
                met = self._wait(MARCH_SECS, give_up)
            if met:
                self._ended(name)
            else:
                missed.append(name)
                self.kill()
        return missed
