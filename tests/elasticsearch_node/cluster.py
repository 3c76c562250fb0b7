"""Several Elasticsearch nodes on this machine that form one cluster."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.elasticsearch_node.node import TRANSPORT_OFFSET, VERSION, ElasticsearchNode, NodeError
from tests.elasticsearch_node.ports import free_port


class ElasticsearchCluster:
    """Nodes of one cluster, each with its data in a folder of its own below ``folder``."""

    def __init__(self, folder: Path, *, size: int = 3, version: str = VERSION, heap: str = "400m") -> None:
        names = [f"node-{number}" for number in range(1, size + 1)]
        ports = [free_port(also=TRANSPORT_OFFSET) for _ in names]
        settings = {
            "cluster.name": f"tests-{ports[0]}",
            "cluster.initial_master_nodes": ",".join(names),
            "discovery.type": "multi-node",
            "discovery.seed_hosts": ",".join(f"127.0.0.1:{port + TRANSPORT_OFFSET}" for port in ports),
        }
        self.nodes = [
            ElasticsearchNode(
                folder / name / "data", port=port, version=version, heap=heap, settings={**settings, "node.name": name}
            )
            for name, port in zip(names, ports, strict=True)
        ]

    @property
    def urls(self) -> list[str]:
        """The addresses of all nodes, running or not."""
        return [node.url for node in self.nodes]

    def start(self, timeout: float = 180) -> Self:
        """Start all nodes at once, since none is ready before most are there; raise NodeError."""
        try:
            with ThreadPoolExecutor(len(self.nodes)) as pool:
                list(pool.map(lambda node: node.start(timeout), self.nodes))
        except NodeError:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop all nodes."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: node.stop(), self.nodes))

    def master(self) -> ElasticsearchNode:
        """Return the elected master."""
        answer = httpx.get(f"{self.running()[0].url}/_cat/master?h=node", timeout=60, trust_env=False)
        return next(node for node in self.nodes if node.settings["node.name"] == answer.text.strip())

    def running(self) -> list[ElasticsearchNode]:
        """Return the nodes that run."""
        return [node for node in self.nodes if node.running]

    def wait_green(self, timeout: float = 120) -> None:
        """Return when every node is there and every shard has its copies; raise NodeError."""
        params = {"wait_for_status": "green", "wait_for_nodes": str(len(self.nodes)), "timeout": f"{timeout:g}s"}
        url = f"{self.running()[0].url}/_cluster/health"
        health = httpx.get(url, params=params, timeout=timeout + 30, trust_env=False).json()
        if health["timed_out"]:
            raise NodeError(f"the cluster is not green after {timeout:g} s: {health}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
