"""Against a real Elasticsearch: the gateway and a direct loader in turn, on one server, into the same index."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from itertools import count

from benchmarks.events import Shape
from benchmarks.expected import documents
from benchmarks.load import Job, Sent
from benchmarks.machine import ROOT
from benchmarks.measure import cpu_secs
from benchmarks.processes import POLL_SECS, Wrong, elasticsearch, sender, sink
from benchmarks.run import settled, started
from benchmarks.suite import Suite
from tests.elasticsearch_node.client import EsClient, new_prefix
from tests.gateway_process import Gateway

SIZES = (5_000, 2_000, 10_000)
WARM_UPS = 2
TIMES = 4  # as many events as the suite's: the last batch's wait for more is to weigh little


def real(suite: Suite) -> None:
    """Measure documents/s of both, and the gateway's latency with a relay that sees Elasticsearch's answers."""
    suite.say("elasticsearch: start")
    with elasticsearch() as url, closing(EsClient(url, new_prefix())) as client:
        try:
            _throughput(suite, client)
            _latency(suite, client)
        finally:
            client.clean()


def _throughput(suite: Suite, client: EsClient) -> None:
    seeds = count(100)  # other events each time, since what is there already would be answered faster
    env = {"ELASTICSEARCH_URL": client.url, "GATEWAY_EVENTS__INDEX_PREFIX": client.prefix}
    with started(suite.unpinned, env) as (gateway, _):
        for _ in range(WARM_UPS):
            _through_gateway(suite, gateway, client, next(seeds))
            _directly(suite, client, SIZES[0], next(seeds))
        total = 2 * WARM_UPS
        for turn in range(max(1, suite.repeat - 1)):
            for size in SIZES:
                suite.say(f"elasticsearch: directly in bulks of {size:,} and through the gateway, turn {turn + 1}")
                sent = _directly(suite, client, size, next(seeds))
                suite.figures.add(f"elasticsearch directly, {size:,} rate", sent.events / sent.secs)
                suite.figures.add("elasticsearch direct loader cpu", sent.cpu_secs / sent.events * 1e6)
                rate, cost = _through_gateway(suite, gateway, client, next(seeds))
                suite.figures.add("elasticsearch rate", rate)
                suite.figures.add("elasticsearch cpu", cost)
                total += 2
        total *= TIMES * suite.events
        if (found := client.count()) != total:
            raise Wrong(f"{total} documents were sent, Elasticsearch has {found}")
    best = max(suite.figures.median(f"elasticsearch directly, {size:,} rate") or 0 for size in SIZES)
    suite.figures.add("elasticsearch ratio", *(each / best for each in suite.figures.values["elasticsearch rate"]))


def _through_gateway(suite: Suite, gateway: Gateway, client: EsClient, seed: int) -> tuple[float, float]:
    events = TIMES * suite.events
    file = suite.file(Shape(), events, seed)
    before = gateway.status()["books"]["received"]
    there = _indexed(client)
    job = Job("tcp", gateway.tcp_port, str(file), patience_secs=suite.patience(events))
    with sender(suite.unpinned.others, job) as ready:
        cpu, began = cpu_secs(gateway.pid), time.perf_counter()
        ready.send()
        deadline = began + job.patience_secs
        while _indexed(client) < there + events:
            if time.perf_counter() > deadline:
                raise Wrong(f"Elasticsearch has not got {events} documents within {job.patience_secs:g} s")
            time.sleep(POLL_SECS)
        secs = time.perf_counter() - began
        settled(gateway, before + events)
        cost = (cpu_secs(gateway.pid) - cpu) / events * 1e6
    file.unlink()
    return events / secs, cost


def _directly(suite: Suite, client: EsClient, size: int, seed: int) -> Sent:
    events = TIMES * suite.events
    file = suite.file(Shape(), events, seed)
    file.write_bytes(documents(file.read_bytes().splitlines(), client.prefix))
    command = [sys.executable, "-m", "benchmarks.direct", client.url, str(file), str(size)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            said, _ = process.communicate("go\n", timeout=suite.patience(events))
        finally:
            process.kill()
    ready, _, sent = said.partition("\n")
    if process.returncode or ready != "ready":
        raise Wrong("the direct loader failed: see above")
    file.unlink()
    return Sent(**json.loads(sent))


def _indexed(client: EsClient) -> int:
    """Return how many documents were indexed, whether or not a search finds them yet."""
    found = client.get(f"/{client.prefix}*/_stats/indexing", filter_path="_all.primaries.indexing.index_total")
    return int(found.get("_all", {}).get("primaries", {}).get("indexing", {}).get("index_total", 0))


def _latency(suite: Suite, client: EsClient) -> None:
    suite.say("elasticsearch: latency")
    with sink(suite.unpinned.others, client.url) as relay:
        env = {"ELASTICSEARCH_URL": relay.url, "GATEWAY_EVENTS__INDEX_PREFIX": client.prefix}
        with started(suite.unpinned, env) as (gateway, _):
            warm = Job("tcp", gateway.tcp_port, str(suite.file(Shape(), 1000, 4)))
            with sender(suite.unpinned.others, warm) as ready:
                ready.send()
            settled(gateway, 1000)
            suite.paced("1,000/s to Elasticsearch", gateway, relay, 1_000, suite.unpinned)
