"""``python -m benchmarks.ids``: what Elasticsearch's own work costs with ``_id``s of several forms.

The same documents in bulks of 5,000, from the loader that ``make bench`` compares the gateway with, each form into an
index of its own, in turn and in another order each time; the first turn warms up. Prints CPU-s of Elasticsearch for a
million documents and documents/s.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.events import Shape, lines
from benchmarks.expected import documents
from benchmarks.load import Sent
from benchmarks.machine import ROOT
from benchmarks.measure import cpu_secs
from benchmarks.processes import elasticsearch
from tests.elasticsearch_node.client import EsClient, new_prefix

BULK = "5000"
EVENTS, TURNS = 200_000, 5
PER_MS = 100  # events that are received within a millisecond

Form = Callable[[int, int], bytes | None]
"""From a time in ms and the number of the event; None: Elasticsearch makes it."""

FORMS: dict[str, Form] = {
    "as a hash": lambda _now, _number: os.urandom(15),
    "time, then a hash": lambda now, _number: now.to_bytes(6, "big") + os.urandom(9),
    "time, process, counter": lambda now, number: now.to_bytes(6, "big") + b"12345" + number.to_bytes(4, "big"),
    "by Elasticsearch": lambda _now, _number: None,
}


def measure(url: str, events: int, turns: int) -> dict[str, list[tuple[float, float]]]:
    """Return CPU-s a million and documents/s of each turn by form; the first of the ``turns`` does not count."""
    found: dict[str, list[tuple[float, float]]] = {form: [] for form in FORMS}
    seeds = count(1)
    with tempfile.TemporaryDirectory(prefix="bench-ids-") as folder, closing(EsClient(url, new_prefix())) as client:
        (node,) = client.get("/_nodes/process")["nodes"].values()
        pid, file = int(node["process"]["id"]), Path(folder) / "bulk.ndjson"
        try:
            for turn in range(turns):
                for form in random.sample(list(FORMS), len(FORMS)):
                    file.write_bytes(_named(documents(lines(events, next(seeds), Shape()), client.prefix), form))
                    cpu = cpu_secs(pid)
                    sent = _loaded(url, file)
                    if turn:
                        found[form].append(((cpu_secs(pid) - cpu) / events * 1e6, sent.events / sent.secs))
        finally:
            client.clean()
    return found


def _named(bulk: bytes, form: str) -> bytes:
    told = bulk.splitlines()
    began, named = int(time.time() * 1000), []
    for number, (action, document) in enumerate(zip(told[::2], told[1::2], strict=True)):
        index = f"{json.loads(action)['create']['_index']}-{list(FORMS).index(form)}"
        made = FORMS[form](began + number // PER_MS, number)
        identity = {} if made is None else {"_id": urlsafe_b64encode(made).decode()}
        named += [json.dumps({"create": {"_index": index, **identity}}).encode(), document]
    return b"\n".join(named) + b"\n"


def _loaded(url: str, file: Path) -> Sent:
    command = [sys.executable, "-m", "benchmarks.direct", url, str(file), BULK]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate("go\n")
    if process.returncode:
        raise RuntimeError("the direct loader failed: see above")
    return Sent(**json.loads(said.partition("\n")[2]))


def main() -> None:
    """Measure and print."""
    with elasticsearch() as url:
        for form, each in measure(url, EVENTS, TURNS).items():
            costs, rates = zip(*each, strict=True)
            print(f"{form:24} {median(costs):5.1f} ({min(costs):.1f} to {max(costs):.1f}) {median(rates):8,.0f} /s")


if __name__ == "__main__":
    main()
