"""docs/backup.md: its commands make a backup and bring it back, and what it says of the events then is so."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.documents import COMMANDS, DOCS, Document, code, run
from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import Gateway, GatewayFactory
from tests.programs import need

pytestmark = [pytest.mark.process, pytest.mark.slow]
TEXT = Document(DOCS / "backup.md")
BACKUP, RESTORE = (block.text for block in TEXT.blocks(COMMANDS))
ELSEWHERE = "".join(line for line in RESTORE.splitlines(keepends=True) if not line.startswith("flock"))
NOBODY = "http://127.0.0.1:1"
ONE = {"ELASTICSEARCH_URL": NOBODY, "GATEWAY_DRAIN_TIMEOUT_SECS": "0.5"}
BOTH = {**ONE, "GATEWAY_STORE__ENABLED": "true"}


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("flock", "tar", "sync")


def paste(commands: str, folder: Path) -> str:
    """Type commands into a terminal, where nothing ends at the first that fails; return what it shows."""
    ended = subprocess.run(
        ["bash", "--norc", "-i"], input=commands, cwd=folder, env={**os.environ, "LC_ALL": "C"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50, check=False, start_new_session=True,
    )  # fmt: skip
    return ended.stdout


def send(running: Gateway, first: int, last: int, broken: int = 0) -> None:
    """Send events of these numbers, and some that are refused."""
    lines = [json.dumps({"event_id": f"e{number}", "model_name": "m"}) for number in range(first, last)]
    lines += [f"broken {first} {number}" for number in range(broken)]
    assert running.http.post("/v1/events", content="\n".join(lines)).status_code in (200, 207)


def settled(running: Gateway, *sinks: str) -> dict[str, Any]:
    """Wait until sinks and dead letters have all there is; return the status."""
    return running.wait_until(
        lambda now: (
            now["books"]["dead_letters"] == now["books"]["refused"]
            and all(now["books"]["sinks"][sink]["waiting"] == 0 for sink in sinks)
        )
    )


def stored(running: Gateway) -> list[int]:
    """Return the numbers of the events in the embedded store."""
    hits = running.http.get("/v1/search", params={"limit": 10_000}).json()["hits"]
    return sorted(int(hit["_source"]["event_id"][1:]) for hit in hits)


def indexed(es: EsClient) -> list[int]:
    """Return the numbers of the events in Elasticsearch."""
    return sorted(int(source["event_id"][1:]) for source in es.sources())


def letters(running: Gateway) -> list[bytes]:
    """Return the dead letters' bytes."""
    with closing(sqlite3.connect(running.data_dir / "state.sqlite3")) as db:
        return [bytes(data) for (data,) in db.execute("SELECT data FROM letters ORDER BY id")]


def test_all_that_was_there_is_there_again(gateway: GatewayFactory, es: EsClient) -> None:
    """Unsent events, dead letters and the embedded store come back, once, and the gateway goes on from there."""
    running = gateway(env={**BOTH, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    send(running, 0, 100, broken=3)
    settled(running, "embedded")
    assert "failed to get lock" in run(BACKUP, running, fails=True)
    assert not list(running.folder.glob("data.tar*"))
    assert running.stop() == 0
    run(BACKUP, running)

    running.restart()
    send(running, 100, 150, broken=2)
    settled(running, "embedded")
    running.kill()
    run(RESTORE, running)
    assert (running.folder / "data.before" / "store.duckdb").exists()
    running.restart(env={"ELASTICSEARCH_URL": es.url})
    status = settled(running, "embedded", "elasticsearch")
    assert stored(running) == indexed(es) == list(range(100))
    assert (status["books"]["received"], status["books"]["dead_letters"], status["books"]["difference"]) == (103, 3, 0)
    assert letters(running) == [f"broken 0 {number}".encode() for number in range(3)]

    send(running, 50, 200, broken=1)
    status = settled(running, "embedded", "elasticsearch")
    assert stored(running) == indexed(es) == list(range(200))
    for sink in ("embedded", "elasticsearch"):
        books = status["books"]["sinks"][sink]
        assert (books["indexed"], books["duplicates"]) == (200, 50)
    assert len(letters(running)) == 4
    assert running.stop() == 0


def test_an_older_backup_than_elasticsearch(gateway: GatewayFactory, es: EsClient) -> None:
    """What Elasticsearch took since the backup is sent again and counts as what it is; nothing is there twice."""
    running = gateway(env={**ONE, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    send(running, 0, 100)
    assert running.stop() == 0
    run(BACKUP, running)
    running.restart(env={"ELASTICSEARCH_URL": es.url})
    send(running, 100, 150)
    settled(running, "elasticsearch")
    running.kill()
    assert indexed(es) == list(range(150))

    run(RESTORE, running)
    running.restart()
    books = settled(running, "elasticsearch")["books"]
    assert (books["sinks"]["elasticsearch"]["indexed"], books["sinks"]["elasticsearch"]["duplicates"]) == (100, 0)
    assert (books["received"], books["difference"]) == (100, 0)
    send(running, 140, 160)
    books = settled(running, "elasticsearch")["books"]
    assert (books["sinks"]["elasticsearch"]["indexed"], books["sinks"]["elasticsearch"]["duplicates"]) == (110, 10)
    assert indexed(es) == list(range(160))


def test_a_snapshot_of_a_running_gateway(gateway: GatewayFactory) -> None:
    """All files as they are at one moment, under load: every event acknowledged until then is there, once."""
    running = gateway(env=BOTH)
    for moment in range(3):
        for batch in range(20):
            first = moment * 1000 + batch * 10
            send(running, first, first + 10, broken=1)
        # A process that is stopped changes nothing: what is copied now is of one moment, as in a snapshot of the disk.
        running.signal(signal.SIGSTOP)
        shutil.copytree(running.data_dir, running.folder / f"snapshot-{moment}")
        running.signal(signal.SIGCONT)
    for moment in range(3):
        other = gateway(data_dir=running.folder / f"snapshot-{moment}", env=BOTH)
        status = settled(other, "embedded")
        expected = [at * 1000 + number for at in range(moment + 1) for number in range(200)]
        assert stored(other) == expected
        assert (status["books"]["dead_letters"], status["books"]["difference"]) == (20 * (moment + 1), 0)
        assert status["books"]["sinks"]["elasticsearch"]["waiting"] == len(expected)
        other.close()


def test_a_backup_cut_short(gateway: GatewayFactory) -> None:
    """A kill while it is written leaves the backup from before under its name; the next one is whole."""
    running = gateway()
    send(running, 0, 10)
    settled(running, "embedded")
    assert running.stop() == 0
    run(BACKUP, running)
    before = (running.folder / "data.tar.gz").read_bytes()
    (running.data_dir / "spool" / "damaged").mkdir()
    (running.data_dir / "spool" / "damaged" / "large.bytes").write_bytes(os.urandom(40 << 20))
    partial = running.folder / "data.tar.gz.partial"
    for least in (1, 1 << 20, 8 << 20):
        process = subprocess.Popen(
            ["bash", "-euc", BACKUP], cwd=running.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        while not (partial.exists() and partial.stat().st_size >= least):
            assert process.poll() is None
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert (running.folder / "data.tar.gz").read_bytes() == before
    run(BACKUP, running)
    run(RESTORE, running)
    assert (running.data_dir / "spool" / "damaged" / "large.bytes").stat().st_size == 40 << 20
    running.restart()
    settled(running, "embedded")
    assert stored(running) == list(range(10))


def test_pasted_at_the_wrong_moment(gateway: GatewayFactory) -> None:
    """Whatever runs or is left over, nothing is overwritten, what it says is in the table, and the way on works."""
    running = gateway()
    folder, before, partial = running.folder, running.folder / "data.before", running.folder / "data.tar.gz.partial"
    advice = {words: code(words)[0] for words, _ in TEXT.table("can be pasted again:")}
    locked, missing, moved, started = advice.values()
    send(running, 0, 10)
    settled(running, "embedded")
    assert running.stop() == 0
    run(BACKUP, running)
    backup = (folder / "data.tar.gz").read_bytes()

    running.restart()
    partial.write_bytes(b"cut short")
    assert locked in paste(BACKUP, folder)
    assert (folder / "data.tar.gz").read_bytes() == backup
    assert locked in paste(RESTORE, folder)
    assert started in paste(ELSEWHERE, folder)
    assert not before.exists()
    send(running, 10, 20)
    settled(running, "embedded")
    assert stored(running) == list(range(20))
    assert running.stop() == 0
    assert not (running.data_dir / "data").exists()

    store = (running.data_dir / "store.duckdb").read_bytes()
    (folder / "data.tar.gz").write_bytes(backup[: len(backup) // 2])
    paste(RESTORE, folder)
    (folder / "data.tar.gz").write_bytes(backup)
    before.mkdir()
    (before / "older").touch()
    assert moved in paste(RESTORE, folder)
    assert [each.name for each in before.iterdir()] == ["older"]
    assert (running.data_dir / "store.duckdb").read_bytes() == store

    shutil.rmtree(before)
    running.data_dir.rename(before)  # as a restore leaves it that ends between its last two commands
    assert missing in paste(RESTORE, folder)
    assert not running.data_dir.exists()
    paste(ELSEWHERE, folder)
    assert (before / "store.duckdb").read_bytes() == store
    running.restart()
    settled(running, "embedded")
    assert stored(running) == list(range(10))


def test_a_directory_on_another_disk(tmp_path: Path) -> None:
    """Where `data`, or what lies in it, is a link, the backup holds what is behind it."""
    disk = tmp_path / "disk" / "spool"
    disk.mkdir(parents=True)
    (disk / "lock").touch()
    (disk / "segment").write_bytes(b"events")
    (tmp_path / "data").symlink_to(disk)
    (disk / "spool").symlink_to(tmp_path / "more")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "segment").write_bytes(b"more")
    paste(BACKUP, tmp_path)
    shutil.rmtree(tmp_path / "disk")
    shutil.rmtree(tmp_path / "more")
    (tmp_path / "data").unlink()
    paste(ELSEWHERE, tmp_path)
    assert (tmp_path / "data" / "segment").read_bytes() == b"events"
    assert (tmp_path / "data" / "spool" / "segment").read_bytes() == b"more"


def test_a_spool_that_is_older_than_the_rest(gateway: GatewayFactory, es: EsClient, tmp_path: Path) -> None:
    """Where only the spool was put back, it is read from its beginning: nothing is left out, nothing is there twice."""
    running = gateway(env={**BOTH, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    send(running, 0, 50)
    settled(running, "embedded")
    assert running.stop() == 0
    shutil.copytree(running.data_dir / "spool", tmp_path / "spool")
    running.restart(env={"ELASTICSEARCH_URL": es.url})
    for number in range(50, 60):
        send(running, number, number + 1)
    settled(running, "embedded", "elasticsearch")
    assert running.stop() == 0

    shutil.rmtree(running.data_dir / "spool")
    shutil.copytree(tmp_path / "spool", running.data_dir / "spool")
    running.restart()
    send(running, 60, 70)
    books = settled(running, "embedded", "elasticsearch")["books"]
    assert stored(running) == indexed(es) == list(range(70))
    for sink in ("embedded", "elasticsearch"):
        assert (books["sinks"][sink]["indexed"], books["sinks"][sink]["duplicates"]) == (10, 50)
    assert books["difference"] == 0
    assert "reading it from the beginning" in running.output()
