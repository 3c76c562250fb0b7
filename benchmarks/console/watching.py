"""What three browsers that watch cost the events: their acknowledgement at a fixed rate, and the full speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect

from benchmarks.events import lines
from benchmarks.figures import Figures
from benchmarks.load import Job, Sent
from benchmarks.measure import Cores, cpu_secs
from benchmarks.processes import sender
from benchmarks.run import measure, settled
from tests.browser.view import View
from tests.gateway_process import Gateway

WATCHED = ("Overview", "Models", "Logs")
RATE = 20_000
PATIENCE_SECS = 120
WARM_UP_SECS = 1.0
DIFFERENT = 1_000  # events, sent again and again under new ids
BOTH = ("alone", "watched")


@contextmanager
def watching(gateway: Gateway, browser: Browser, paths: Sequence[str]) -> Iterator[None]:
    """Let a window look at each page, its live parts switched on, as long as the block runs."""
    views = []
    try:
        for path in paths:
            view = View(browser, gateway.url)
            views.append(view)
            view.open(path)
            for start in view.page.locator("#tail-start").all():
                start.click()
                expect(start).to_have_attribute("aria-pressed", "true")
        yield
    finally:
        for view in views:
            view.close()


@contextmanager
def _nobody() -> Iterator[None]:
    yield


class Watching:
    """Measures with and without browsers, in turn; ``figures`` has them by name, ``alone`` and ``watched``."""

    def __init__(self, gateway: Gateway, browser: Browser, paths: Sequence[str], folder: Path, where: Cores) -> None:
        self._gateway, self._browser, self._paths, self._folder, self._where = gateway, browser, paths, folder, where
        self._seed = 1000
        self.figures = Figures()

    def at_rate(self, secs: float) -> None:
        """Offer events at a rate and note how long each waited for its acknowledgement; twice for half the time."""
        self._paced(WARM_UP_SECS)
        for name in BOTH * 2:
            with self._as(name):
                cpu = cpu_secs(self._gateway.pid)
                sent = self._paced(secs / 2)
                self.figures.add(f"{RATE:,}/s {name} cores", (cpu_secs(self._gateway.pid) - cpu) / sent.secs)
                for share, delay in sent.delays_ms.items():
                    self.figures.add(f"{RATE:,}/s {name} {share} ms", delay)

    def at_full_speed(self, events: int, repeat: int) -> None:
        """Offer as much as is taken."""
        self._full("warm-up", events // 5)
        for _ in range(repeat):
            for name in BOTH:
                with self._as(name):
                    self._full(name, events)

    def _as(self, name: str) -> AbstractContextManager[None]:
        return watching(self._gateway, self._browser, self._paths) if name == "watched" else _nobody()

    def _paced(self, secs: float) -> Sent:
        received = self._gateway.status()["books"]["received"]
        file = str(self._file(DIFFERENT))
        job = Job("paced ack", self._gateway.tcp_port, file, rate=RATE, secs=secs, patience_secs=PATIENCE_SECS)
        with sender(self._where.others, job) as ready:
            sent = ready.send()
        settled(self._gateway, received + sent.events, PATIENCE_SECS)
        return sent

    def _full(self, name: str, events: int) -> None:
        job = Job("ack", self._gateway.tcp_port, str(self._file(events)), patience_secs=PATIENCE_SECS)
        run = measure(f"full speed {name}", self._gateway, None, job, refused=0, where=self._where)
        self.figures.add_run(run)
        self.figures.add(f"{run.name} taken rate", run.accepted_per_sec)

    def _file(self, events: int) -> Path:
        """Return a file of events that no other file has."""
        self._seed += 1
        path = self._folder / f"{self._seed}.ndjson"
        path.write_bytes(b"".join(lines(events, self._seed)))
        return path
