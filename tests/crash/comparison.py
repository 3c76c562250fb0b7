"""What lies in the stores at the end, event by event, against what the clients know."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import duckdb
import httpx

from schemas import BUILT_IN
from tests.crash.events import DAYS, NAMED, is_bad

PAGE = 10_000
Name = tuple[str, int]


class Client(NamedTuple):
    """What is known of the events of one name: as many were sent, as many of them acknowledged, from the first on."""

    name: str
    sent: int
    acknowledged: int


@dataclass
class Found:
    """Events of all clients as found in one place. ``examples`` names some of what is wrong."""

    indexed: int = 0
    missing: int = 0
    doubled: int = 0
    strange: int = 0  # never sent, or refused
    examples: list[str] = field(default_factory=list)

    def note(self, what: str, client: str, number: int) -> None:
        """Count what is wrong with an event."""
        setattr(self, what, getattr(self, what) + 1)
        if len(self.examples) < 20:
            self.examples.append(f"{what} {client}-{number}")


def documents(clients: Iterable[Client], names: Iterable[Name]) -> Found:
    """Compare the documents of a store: of what was acknowledged each good event is there, none twice."""
    found, counts = _counted(clients, names)
    for client, number, count in counts:
        found.indexed += count > 0
        if is_bad(number):
            if count:
                found.note("strange", client.name, number)
        elif not count and number < client.acknowledged:
            found.note("missing", client.name, number)
        if count > 1:
            found.note("doubled", client.name, number)
    return found


def letters(clients: Iterable[Client], names: Iterable[Name]) -> Found:
    """Compare the dead letters: of what was acknowledged each bad event is there."""
    found, counts = _counted(clients, names)
    for client, number, count in counts:
        found.indexed += count > 0
        if not is_bad(number):
            if count:
                found.note("strange", client.name, number)
        elif not count and number < client.acknowledged:
            found.note("missing", client.name, number)
    return found


def _counted(clients: Iterable[Client], names: Iterable[Name]) -> tuple[Found, Iterator[tuple[Client, int, int]]]:
    everyone = list(clients)
    counts = {client.name: bytearray(client.sent) for client in everyone}
    found = Found()
    for name, number in names:
        if name not in counts or number >= len(counts[name]):
            found.note("strange", name, number)
        else:
            counts[name][number] = min(counts[name][number] + 1, 255)
    return found, ((client, number, count) for client in everyone for number, count in enumerate(counts[client.name]))


def in_elasticsearch(url: str, prefix: str) -> Iterator[Name]:
    """Yield the events of all indices of a prefix."""
    indices = ",".join(f"{prefix}{base}-*" for base in _bases())
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        # Right behind a start not every shard answers yet.
        http.get("/_cluster/health", params={"wait_for_status": "yellow", "timeout": "50s"}).raise_for_status()
        http.post(f"/{indices}/_refresh").raise_for_status()
        answer = http.post(f"/{indices}/_pit", params={"keep_alive": "5m"})
        answer.raise_for_status()
        query = {
            "size": PAGE,
            "_source": ["client", "number"],
            "pit": {"id": answer.json()["id"], "keep_alive": "5m"},
            "sort": [{"_shard_doc": "asc"}],
            "track_total_hits": False,
        }
        while True:
            page = http.post("/_search", json=query)
            page.raise_for_status()
            told = page.json()
            assert not told["timed_out"]
            assert told["_shards"]["failed"] == 0, told["_shards"]
            hits = told["hits"]["hits"]
            for hit in hits:
                yield hit["_source"]["client"], hit["_source"]["number"]
            if not hits:
                http.request("DELETE", "/_pit", json={"id": told["pit_id"]})
                return
            query["search_after"] = hits[-1]["sort"]
            query["pit"] = {"id": told["pit_id"], "keep_alive": "5m"}


def in_embedded_store(url: str, prefix: str, now: datetime, folder: Path) -> Iterator[Name]:
    """Yield the events of all indices, exported one after the other; ``now`` is that of the events."""
    total = 0
    file = folder / "export.parquet"
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http, duckdb.connect() as db:
        for base in _bases():
            # The last days of the events, and what has no timestamp that can be read: none.
            for ago in range(-1, DAYS + 2):
                index = f"{prefix}{base}-{now - timedelta(days=ago):%Y.%m.%d}"
                answer = http.get(f"/v1/export/{index}")
                if answer.status_code == httpx.codes.NOT_FOUND:
                    continue
                answer.raise_for_status()
                file.write_bytes(answer.content)
                rows = db.execute(
                    "SELECT _source->>'$.client', (_source->>'$.number')::BIGINT FROM read_parquet($1)", [str(file)]
                ).fetchall()
                total += len(rows)
                yield from rows
        held = http.get("/v1/search", params={"index": "*", "limit": 1}).json()["total"]
        assert held == total, f"{total} documents were exported of {held}"


def in_dead_letters(state: Path) -> tuple[list[Name], dict[str, int]]:
    """Return the events that are dead letters, and how many there are of each reason. The gateway has ended."""
    names = []
    with closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True)) as db:
        for (data,) in db.execute("SELECT data FROM letters WHERE data IS NOT NULL AND reason <> 'cut'"):
            if named := NAMED.search(data):
                names.append((named[1].decode(), int(named[2])))
        reasons = dict(db.execute("SELECT reason, count(*) FROM letters GROUP BY reason"))
    return names, reasons


def _bases() -> list[str]:
    return sorted(set(BUILT_IN.indices))
