"""A real Prometheus (Debian's package) that reads a gateway once a second."""

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from tests.elasticsearch_node.ports import free_port
from tests.programs import need

READY_SECS = 20.0
POLL_SECS = 0.1


def check_metrics(text: bytes) -> str:
    """Return what promtool finds wrong with metrics in Prometheus' text format: nothing, if all is right."""
    need("promtool")
    ended = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30, check=False)
    said = (ended.stdout + ended.stderr).decode()
    return said if ended.returncode == 0 or said else f"promtool ended with {ended.returncode}"


class Prometheus:
    """A server on a free port of 127.0.0.1, with its files in ``folder``; runs for as long as the block does.

    ``scraping`` and ``rules`` are what a user would have in prometheus.yml and in a file of rules; what the
    first says of how often is replaced by once a second.
    """

    def __init__(self, folder: Path, scraping: Mapping[str, Any], rules: Mapping[str, Any] | None = None) -> None:
        need("prometheus", "setpriv")
        folder.mkdir(parents=True)
        self.folder = folder
        self.log = folder / "output.txt"
        self.url = f"http://127.0.0.1:{free_port()}"
        often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config = {**scraping, "global": often}
        if rules is not None:
            (folder / "rules.yml").write_text(yaml.safe_dump(dict(rules)), encoding="utf-8")
            config["rule_files"] = ["rules.yml"]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        self._http = httpx.Client(base_url=f"{self.url}/api/v1", timeout=10, trust_env=False)

    def __enter__(self) -> Self:
        """Start it; return when it answers, AssertionError when it does not."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    # It ends with this process, however that one ends.
                    "setpriv", "--pdeathsig", "KILL", "prometheus",
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.folder / 'data'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            self.wait_until(self._answers)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._end()

    def query(self, expression: str) -> dict[tuple[str, ...], float]:
        """Return the values of an expression now, by the values of their labels in the order of the labels' names.

        Left out are the labels that Prometheus itself adds: metric, job and instance.
        """
        return {
            tuple(each["metric"][name] for name in sorted({*each["metric"]} - {"__name__", "job", "instance"})): float(
                each["value"][1]
            )
            for each in self._ask("query", query=expression)["result"]
        }

    def targets(self) -> list[dict[str, Any]]:
        """Return what it reads: `health`, `lastError`, …"""
        targets: list[dict[str, Any]] = self._ask("targets")["activeTargets"]
        return targets

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return the rules by name: `health`, `state`, …"""
        return {rule["name"]: rule for group in self._ask("rules")["groups"] for rule in group["rules"]}

    def wait_until(self, true: Callable[[], bool], timeout: float = READY_SECS) -> None:
        """Return when it is so; AssertionError with its output when that takes too long, or it ended."""
        deadline = time.monotonic() + timeout
        while not true():
            late = time.monotonic() > deadline
            assert self._process.poll() is None and not late, self.log.read_text(encoding="utf-8")[-4000:]
            time.sleep(POLL_SECS)

    def _answers(self) -> bool:
        try:
            return self._http.get("/query", params={"query": "1"}).status_code == 200
        except httpx.TransportError:
            return False

    def _ask(self, path: str, **parameters: str) -> dict[str, Any]:
        answer = self._http.get(f"/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._http.close()
