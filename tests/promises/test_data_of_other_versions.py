"""An older data directory is brought up to date and goes on; a newer one is refused and left as it is.

The older one is `tests/fixtures/data_dir_v1.tar.gz`, which the first release left behind when it was killed;
`make_data_dir_v1.py` beside it says what is in it.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.spool import record, segment, state
from gateway.store import catalog
from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import ROOT, Gateway, GatewayFactory

FIXTURES = ROOT / "tests" / "fixtures"
SENT = json.loads((FIXTURES / "data_dir_v1.json").read_text())
PREFIX = "format1-"
CONFIG = {
    "store": {"enabled": True, "retention_days": None},
    "events": {"max_age_days": None, "index_prefix": PREFIX},
}
STORED = sum(map(len, SENT["store"].values()))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A data directory of the first release."""
    with tarfile.open(FIXTURES / "data_dir_v1.tar.gz") as tar:
        tar.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old" / "data"


def assert_same(stored: list[dict[str, Any]], sent: list[dict[str, Any]]) -> None:
    """Each event was stored once, with the values it was sent with."""
    by_id = {each["event_id"]: each for each in stored}
    assert len(by_id) == len(stored)
    assert by_id.keys() == {each["event_id"] for each in sent}
    for event in sent:
        values = {name: value for name, value in event.items() if value is not None}
        assert {name: by_id[event["event_id"]].get(name) for name in values} == values


def assert_store_whole(running: Gateway) -> None:
    """The embedded store has all that was ever sent, once."""
    for index, sent in SENT["store"].items():
        found = running.http.get("/v1/search", params={"index": index, "limit": 1000}).json()
        assert found["total"] == len(sent)
        assert_same([hit["_source"] for hit in found["hits"]], sent)


def assert_letters_whole(data_dir: Path, since: list[list[str]] | None = None) -> None:
    """The dead letters are those of the first release and ``since``, with their bytes, in a file of this version."""
    with closing(sqlite3.connect(data_dir / "state.sqlite3")) as db:
        kept = [
            [reason, data.decode("latin-1")]
            for reason, data in db.execute("SELECT reason, data FROM letters WHERE index_name IS NULL")
        ]
        ((refused,),) = db.execute("SELECT data FROM letters WHERE reason = 'mapping'").fetchall()
        assert db.execute("PRAGMA user_version").fetchall() == [(state.VERSION,)]
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert sorted(kept) == sorted([*SENT["dead letters"], *(since or [])])
    assert_same([json.loads(refused)], [SENT["refused by Elasticsearch"]])


def test_the_first_releases_data_go_on(gateway: GatewayFactory, old: Path) -> None:
    """What the first release had not yet stored is stored, once, what it had refused is kept; and it goes on."""
    running = gateway(data_dir=old, config=CONFIG)
    status = running.wait_until(
        lambda now: now["books"]["sinks"]["embedded"]["waiting"] == 0 and now["books"]["dead_letters"] == 7
    )
    assert status["books"]["sinks"]["embedded"]["indexed"] == STORED
    assert status["books"]["difference"] == 0
    assert_store_whole(running)
    waited = len(SENT["not in Elasticsearch yet"])
    assert f'"not_taken":{waited}' in running.output()

    running.http.post("/v1/events", content=json.dumps(SENT["not in Elasticsearch yet"])).raise_for_status()
    running.http.post("/v1/events", content=b'{"type":"audit"}\nbroken\n')
    status = running.wait_until(
        lambda now: now["books"]["sinks"]["embedded"]["waiting"] == 0 and now["books"]["dead_letters"] == 8
    )
    assert status["books"]["sinks"]["embedded"]["duplicates"] == waited
    assert running.stop() == 0
    assert_letters_whole(old, [["json", "broken"]])


@pytest.fixture
def es_of_the_fixture(elasticsearch_url: str) -> Iterator[EsClient]:
    """The indices that the older directory's events go to, gone before and after."""
    client = EsClient(elasticsearch_url, PREFIX)
    with (Path(tempfile.gettempdir()) / "format1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the names are in the events: another session on this node has the same
        client.clean()
        yield client
        client.clean()
    client.close()


def test_what_the_first_release_had_not_sent_is_sent(
    gateway: GatewayFactory, old: Path, es_of_the_fixture: EsClient
) -> None:
    """Documents in its spool and parked ones arrive in Elasticsearch, once, and the books balance."""
    running = gateway(data_dir=old, config=CONFIG, env={"ELASTICSEARCH_URL": es_of_the_fixture.url})
    try:
        status = running.wait_until(
            lambda now: all(now["books"]["sinks"][name]["waiting"] == 0 for name in ("embedded", "elasticsearch"))
        )
        assert_same(es_of_the_fixture.sources(), SENT["not in Elasticsearch yet"])
        assert_store_whole(running)
        books = status["books"]["sinks"]["elasticsearch"]
        sent = SENT["indexed in Elasticsearch"] + len(SENT["not in Elasticsearch yet"])
        assert (books["indexed"], books["duplicates"], books["dead_letters"]) == (sent, 0, 1)
        assert status["books"]["difference"] == 0
        assert running.stop() == 0
        assert_letters_whole(old)
    finally:
        running.close()


def newer_segment(data_dir: Path) -> tuple[Path, int]:
    """Give a segment a version that nobody knows."""
    (path,) = (data_dir / "spool" / "0").iterdir()
    head = struct.pack("<8sI", segment.FILE_MAGIC, 99)
    _write(path, 0, head + struct.pack("<I", zlib.crc32(head)))
    return path, segment.FILE_VERSION


def newer_record(data_dir: Path) -> tuple[Path, int]:
    """Give the first record of a segment a version that nobody knows."""
    (path,) = (data_dir / "spool" / "0").iterdir()
    start = segment.FILE_HEADER.size
    head = bytearray(path.read_bytes()[start : start + record.HEADER.size])
    head[4] = 99
    _write(path, start, bytes(head) + struct.pack("<I", zlib.crc32(head)))
    return path, record.VERSION


def newer_state(data_dir: Path) -> tuple[Path, int]:
    """Give SQLite's file a version that nobody knows."""
    with closing(sqlite3.connect(data_dir / "state.sqlite3")) as db:
        db.execute("PRAGMA user_version = 99")
    return data_dir / "state.sqlite3", state.VERSION


def newer_store(data_dir: Path) -> tuple[Path, int]:
    """Give DuckDB's file a version that nobody knows, and a log that is not yet part of it."""
    script = (
        "import duckdb, os, sys; db = duckdb.connect(sys.argv[1]);"
        "db.execute('UPDATE gateway.format SET version = 99'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, data_dir / "store.duckdb"], check=True)
    assert (data_dir / "store.duckdb.wal").stat().st_size > 0
    return data_dir / "store.duckdb", catalog.VERSION


def _write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("made_newer", [newer_segment, newer_record, newer_state, newer_store])
@pytest.mark.process
def test_newer_data_are_refused_and_left_alone(
    old: Path, tmp_path: Path, free_port: Callable[[], int], made_newer: Callable[[Path], tuple[Path, int]]
) -> None:
    """`serve` and `check --connect` say in one sentence which file is newer and what to do; no byte changes."""
    path, known = made_newer(old)
    before = _hashes(old)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY", "ELASTIC"))}
    environment |= {"PYTHONPATH": str(ROOT), "GATEWAY_DATA_DIR": str(old)}
    environment |= {"GATEWAY_TCP__PORT": str(free_port()), "GATEWAY_HTTP__PORT": str(free_port())}
    for words, start in ((["serve"], "gateway: "), (["check", "--connect"], "✗ data directory: ")):
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip
        assert ended.returncode == 1
        assert ended.stderr == (
            f"{start}{path} has format version 99, this gateway reads up to {known}: "
            "start a newer version, or name another data_dir.\n"
        )
        assert _hashes(old) == before


@pytest.mark.slow
def test_a_kill_while_the_dead_letters_are_brought_up_to_date(old: Path, tmp_path: Path) -> None:
    """Killed at any moment of it, the file is of one version or the next; the next start ends it, nothing is lost."""
    with closing(sqlite3.connect(old / "state.sqlite3")) as db:
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)"
            " INSERT INTO letters SELECT NULL, 'made/' || i, i, 'tcp', 'peer', NULL, 'schema', '$.f' || (i % 50),"
            " 'rule ' || (i % 7), 'message', x'00ff', 2, NULL FROM n"
        )
        db.commit()
        names = ",".join(row[1] for row in db.execute("PRAGMA table_info(letters)"))
        rows = db.execute(f"SELECT {names} FROM letters ORDER BY id").fetchall()

    def start(file: Path) -> subprocess.Popen[bytes]:
        script = (
            "import sys; from pathlib import Path; from gateway.spool.state import State;"
            "sys.stdout.write('x'); sys.stdout.flush(); State(Path(sys.argv[1]), 0).close()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script, file], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert process.stdout is not None
        process.stdout.read(1)
        process.stdout.close()
        return process

    def copy(name: str) -> Path:
        shutil.copy(old / "state.sqlite3", tmp_path / name)
        return tmp_path / name

    began = time.monotonic()
    assert start(copy("whole.sqlite3")).wait() == 0
    secs = time.monotonic() - began
    versions = []
    for number in range(8):
        file = copy(f"killed-{number}.sqlite3")
        process = start(file)
        time.sleep(secs * number / 8)
        process.kill()
        process.wait()
        with closing(sqlite3.connect(file)) as db:
            ((version,),) = db.execute("PRAGMA user_version").fetchall()
            indices = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE tbl_name = 'letters'")}
        assert ("letters_by_rule" in indices, "letters_by_reason" in indices) == (version >= 2, version == 1)
        versions.append(version)
        assert start(file).wait() == 0
        with closing(sqlite3.connect(file)) as db:
            assert db.execute("PRAGMA user_version").fetchall() == [(state.VERSION,)]
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute(f"SELECT {names} FROM letters ORDER BY id").fetchall() == rows
            assert db.execute("SELECT DISTINCT events, bytes_kept FROM letters").fetchall() == [(1, 1)]
    assert 1 in versions, "no kill came before the end"
