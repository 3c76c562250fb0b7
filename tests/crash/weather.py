"""What befalls an Elasticsearch while a gateway writes to it; at the end all is mended."""

import contextlib
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable

import httpx

from tests.elasticsearch_node.node import ElasticsearchNode, NodeError


class Weather(threading.Thread):
    """Kills, stops, freezes and blocks a node of its own at drawn moments until `clear`."""

    def __init__(self, node: ElasticsearchNode, seed: int, pause_secs: float) -> None:
        super().__init__(name="weather", daemon=True)
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self._node = node
        self._draw = random.Random(f"{seed} weather")
        self._pause = pause_secs
        self._over = threading.Event()
        self._http = httpx.Client(base_url=node.url, timeout=30, trust_env=False)

    def run(self) -> None:
        """Let it happen."""
        turns: dict[Callable[[], None], float] = {
            self._kill: 3, self._restart: 1, self._freeze: 2, self._block: 3, self._forget_templates: 2,
        }  # fmt: skip
        while not self._over.wait(self._draw.uniform(0.5, 1.5) * self._pause):
            turn = self._draw.choices(list(turns), list(turns.values()))[0]
            with contextlib.suppress(httpx.HTTPError):
                turn()
            self.done[turn.__name__.strip("_")] += 1
            self._mend()

    def clear(self) -> None:
        """End it, and return when the node takes documents again."""
        self._over.set()
        if self.is_alive():
            self.join()
        self._mend()
        self._http.close()

    def _kill(self) -> None:
        self._node.kill()
        self._over.wait(self._draw.uniform(0, 3))

    def _restart(self) -> None:
        self._node.stop()
        self._over.wait(self._draw.uniform(0, 3))

    def _freeze(self) -> None:
        self._node.signal(signal.SIGSTOP)
        try:
            self._over.wait(self._draw.uniform(1, 8))
        finally:
            self._node.signal(signal.SIGCONT)

    def _block(self) -> None:
        indices = self._indices()
        for index in self._draw.sample(indices, min(len(indices), 2)):
            self._http.put(f"/{index}/_settings", json={"index.blocks.write": True})
        self._over.wait(self._draw.uniform(1, 6))

    def _forget_templates(self) -> None:
        self._http.delete("/_index_template/ml-log-gateway-*").raise_for_status()

    def _indices(self) -> list[str]:
        return sorted(each["index"] for each in self._http.get("/_cat/indices", params={"format": "json"}).json())

    def _mend(self) -> None:
        """Start the node if need be, and lift blocks."""
        for _ in range(3):
            try:
                if not self._node.running:
                    self._node.start()
                if indices := self._indices():
                    self._http.put("/_all/_settings", json={"index.blocks.write": None}).raise_for_status()
                    del indices
                return
            except (NodeError, httpx.HTTPError) as error:
                trouble = repr(error)
        self.problems.append(f"Elasticsearch could not be mended: {trouble[:2000]}")
