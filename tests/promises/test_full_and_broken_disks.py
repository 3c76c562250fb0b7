"""Promises 2, 5 and 9 on disks that are full, read-only, broken or meddled with: nothing acknowledged is lost.

The harm is real and done to a gateway of its own process: see `tests.disks` for what that needs.
"""

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests import books
from tests.disks import MIB, Disk, disks, failing, fill, remount
from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import Gateway, GatewayFactory

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
NO_ELASTICSEARCH = {"ELASTICSEARCH_URL": "http://127.0.0.1:1", "GATEWAY_DRAIN_TIMEOUT_SECS": "0.1"}
SMALL_SPOOL = {"GATEWAY_SPOOL__MIN_FREE_BYTES": "0", "GATEWAY_SPOOL__MAX_BYTES": str(8 * MIB)}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A function that mounts a small disk."""
    yield from disks(tmp_path)


class Sender:
    """Sends numbered events and remembers those that were acknowledged."""

    def __init__(self, running: Gateway) -> None:
        self.running = running
        self.acknowledged: list[str] = []
        self._next = 0

    def lines(self, count: int, pad: int = 0) -> tuple[list[str], bytes]:
        """Return the names of new events, and the events."""
        names = [f"{number:08d}" for number in range(self._next, self._next + count)]
        self._next += count
        events = [{"model_name": "m", "event_id": name, "note": "x" * pad} for name in names]
        return names, b"".join(json.dumps(event).encode() + b"\n" for event in events)

    def post(self, count: int = 10, pad: int = 0) -> str:
        """Send events over HTTP once; return why they were not taken, empty when they were."""
        names, body = self.lines(count, pad)
        answer = self.running.http.post("/v1/events", content=body)
        if answer.status_code == 200:
            self.acknowledged += names
            return ""
        assert answer.status_code in (429, 503), answer.text
        assert int(answer.headers["retry-after"]) > 0
        (error,) = answer.json()["errors"]
        return str(error["message"])

    def until_refused(self, count: int = 100, pad: int = 1000) -> str:
        """Send until it is not taken; return why."""
        for _ in range(2000):
            if why := self.post(count, pad):
                return why
        raise AssertionError("the disk is never full")

    def until_taken(self, secs: float = 20) -> None:
        """Send until it is taken again, without a restart."""
        deadline = time.monotonic() + secs
        while self.post():
            assert time.monotonic() < deadline, "room was made, but nothing is taken"
            time.sleep(0.1)

    def check_stored(self) -> dict[str, Any]:
        """Return the books; fail unless all that was acknowledged is found, each event once."""
        found = books.settled(self.running)
        stored = stored_ids(self.running)
        assert len(stored) == len(set(stored))
        assert set(self.acknowledged) <= set(stored)
        return found


def stored_ids(running: Gateway) -> list[str]:
    """Return the ids of all that is stored, through the pages of /v1/search."""
    params: dict[str, Any] = {"limit": 10_000, "index": "ml-metrics-*"}
    ids: list[str] = []
    while True:
        page = running.http.get("/v1/search", params=params).raise_for_status().json()
        ids += [hit["_source"]["event_id"] for hit in page["hits"]]
        if page["cursor"] is None:
            return ids
        params["cursor"] = page["cursor"]


def unready(running: Gateway, timeout: float = 10) -> str:
    """Return why the gateway takes nothing, as a load balancer is told."""
    deadline = time.monotonic() + timeout
    while (answer := running.http.get("/ready")).status_code == 200:
        assert time.monotonic() < deadline, "it is ready"
        time.sleep(0.02)
    assert answer.status_code == 503
    return str(answer.json()["reason"])


def ready_again(running: Gateway) -> None:
    """Wait until it takes events again by itself."""
    running.wait_ready(20)


def refused(running: Gateway) -> str:
    """Return the one sentence of a gateway that does not start."""
    deadline = time.monotonic() + 20
    while running.running:
        assert time.monotonic() < deadline, "it runs"
        time.sleep(0.05)
    assert running.exit_code == 1
    (sentence,) = running.output().splitlines()
    assert sentence.startswith("gateway: ")
    return sentence


def segments(running: Gateway) -> list[Path]:
    """Return the files of the spool, oldest first."""
    return sorted((running.data_dir / "spool").glob("[0-9]*/*.segment"), key=lambda path: path.name)


def of_any_folder(text: str) -> str:
    """Return what is said of one folder of the spool as if it were of another: each receiver has its own."""
    return re.sub(r"/spool/[0-9]+ ", "/spool/N ", text)


def until(condition: Callable[[], bool], secs: float = 20) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + secs
    while not condition():
        assert time.monotonic() < deadline, "it does not hold"
        time.sleep(0.05)


def in_the_background(call: Callable[[], object]) -> threading.Thread:
    """Start a call in a thread."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


# Full.


def test_somebody_elses_file_fills_the_disk(disk: Disk, gateway: GatewayFactory) -> None:
    """503 says so, TCP waits, the sink too; once there is room all of it goes on without a restart."""
    place = disk("size=40m")
    running = gateway(data_dir=place / "data", env={"GATEWAY_SPOOL__MIN_FREE_BYTES": "0"})
    sender = Sender(running)
    assert not sender.post(100)
    filler = fill(place)
    why = sender.until_refused()
    assert of_any_folder(why) == (
        f"The spool in {running.data_dir}/spool/N cannot be written (No space left on device): "
        "make room or mend the disk."
    )
    assert of_any_folder(unready(running)) == of_any_folder(why)
    names, lines = sender.lines(1000)
    waiting = in_the_background(lambda: running.send_tcp(lines, timeout=60))
    time.sleep(1.5)
    assert waiting.is_alive()
    assert of_any_folder(running.status()["spool"]["failure"]) == of_any_folder(why)
    assert running.output().count(why) == 1

    filler.unlink()

    ready_again(running)
    waiting.join(30)
    assert not waiting.is_alive()
    sender.acknowledged += names
    sender.until_taken()
    sender.check_stored()


def test_the_last_bytes_of_the_disk_are_left_alone(disk: Disk, gateway: GatewayFactory) -> None:
    """Below spool.min_free_bytes 429 names limit and setting; the sinks go on in what is left."""
    place = disk("size=64m")
    running = gateway(data_dir=place / "data", env={"GATEWAY_SPOOL__MIN_FREE_BYTES": str(24 * MIB)})
    sender = Sender(running)
    assert not sender.post(100)
    books.settled(running)
    filler = fill(place, leave=25 * MIB)
    why = sender.until_refused()
    assert of_any_folder(why).startswith(f"The disk of {running.data_dir}/spool/N has ")
    assert why.endswith(f" bytes free, fewer than {24 * MIB} (spool.min_free_bytes).")
    assert unready(running).endswith("(spool.min_free_bytes).")
    assert 'gateway_http_answers_total{status="429"} 1.0' in running.http.get("/metrics").text
    assert running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["waiting"] == 0)
    filler.unlink()
    ready_again(running)
    sender.until_taken()
    sender.check_stored()


@pytest.mark.elasticsearch
def test_the_spool_itself_fills_the_disk(disk: Disk, gateway: GatewayFactory, es: EsClient) -> None:
    """Nothing has to be deleted by hand: when Elasticsearch is back it takes what waits, and that makes room."""
    place = disk("size=20m")
    prefix = {"GATEWAY_EVENTS__INDEX_PREFIX": es.prefix, "GATEWAY_SPOOL__MIN_FREE_BYTES": "0"}
    running = gateway(data_dir=place / "data", env={**NO_ELASTICSEARCH, **prefix})
    sender = Sender(running)
    sender.until_refused()
    running.restart(env={"ELASTICSEARCH_URL": es.url})
    sender.until_taken()
    books.settled(running)
    es.refresh()
    assert es.count() == len(sender.acknowledged)


@pytest.mark.slow
@pytest.mark.elasticsearch
def test_only_the_sinks_disk_is_full(disk: Disk, gateway: GatewayFactory, es: EsClient) -> None:
    """Cursors and the embedded store cannot be written: both sinks say so, the spool takes and keeps everything."""
    place = disk("size=40m")
    (place / "data").mkdir()
    (place / "data" / "spool").symlink_to(disk("size=100m"))
    both = {"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix, "GATEWAY_STORE__ENABLED": "true"}
    running = gateway(data_dir=place / "data", env={**both, "GATEWAY_SPOOL__MIN_FREE_BYTES": "0"})
    sender = Sender(running)
    assert not sender.post(100)
    books.settled(running)
    filler = fill(place)
    for _ in range(20):
        assert not sender.post(500, 400)

    def retry(now: dict[str, Any]) -> bool:
        return all(each["state"] == "retrying" for each in now["sinks"].values())

    status = running.wait_until(retry, 30)
    assert "full" in status["sinks"]["elasticsearch"]["last_error"]
    assert "No space left" in status["sinks"]["embedded"]["last_error"]
    books.check(status)
    filler.unlink()
    books.settled(running)
    assert {each["state"] for each in running.status()["sinks"].values()} == {"ok"}
    es.refresh()
    assert es.count() == len(sender.acknowledged)


@pytest.mark.slow
def test_no_inodes_are_left(disk: Disk, gateway: GatewayFactory) -> None:
    """A disk with room and without inodes is full, too."""
    place = disk("size=100m,nr_inodes=60")
    running = gateway(data_dir=place / "data", env=SMALL_SPOOL)
    sender = Sender(running)
    assert not sender.post(100)
    books.settled(running)
    taken = []
    try:
        for number in range(100):
            (place / f"empty-{number}").touch()
            taken.append(place / f"empty-{number}")
    except OSError:
        pass
    assert len(taken) < 100
    why = sender.until_refused(1000, 1000)  # a new file of the spool is needed in time
    assert "No space left on device" in why
    for each in taken:
        each.unlink()
    ready_again(running)
    sender.until_taken()
    sender.check_stored()


def test_an_export_has_no_room(disk: Disk, gateway: GatewayFactory) -> None:
    """It ends with a sentence and leaves no file; events go on."""
    place = disk("size=60m")
    running = gateway(data_dir=place / "data", env={"GATEWAY_SPOOL__MIN_FREE_BYTES": "0"})
    sender = Sender(running)
    for _ in range(5):
        names, _ = sender.lines(100)
        noise = [{"model_name": "m", "event_id": name, "note": os.urandom(10_000).hex()} for name in names]
        assert running.http.post("/v1/events", json=noise).status_code == 200
        sender.acknowledged += names
    books.settled(running)
    (index,) = {each["_index"] for each in running.http.get("/v1/search?limit=1").json()["hits"]}
    filler = fill(place, leave=2 * MIB)
    answer = running.http.get(f"/v1/export/{index}")
    assert answer.status_code == 503, answer.text
    assert "No space left" in answer.text
    assert list((running.data_dir / "exports").iterdir()) == []
    assert not sender.post()
    filler.unlink()
    answer = running.http.get(f"/v1/export/{index}")
    assert answer.status_code == 200
    sender.check_stored()


# It does not work.


def test_a_sync_fails(gateway: GatewayFactory) -> None:
    """While the disk cannot sync nobody is acknowledged, and it says so; then it goes on by itself."""
    running = gateway()
    sender = Sender(running)
    assert not sender.post(100)
    with failing(running.pids, "fdatasync:error=EIO"):
        why = sender.until_refused(10)
        assert "cannot be written (Input/output error)" in why
        assert of_any_folder(unready(running)) == of_any_folder(why)
    ready_again(running)
    sender.until_taken()
    running.kill()
    running.restart()
    sender.check_stored()


def test_one_sync_fails(gateway: GatewayFactory) -> None:
    """A sync that fails once is not repeated on its file: the events go into a new one and are acknowledged."""
    running = gateway(env={**NO_ELASTICSEARCH, "GATEWAY_STORE__ENABLED": "true"})
    sender = Sender(running)
    assert not sender.post(100)
    before = segments(running)
    books.check(running.status())
    with failing(running.pids, "pwritev,pwritev2:error=EIO:when=1"):
        assert not sender.post(100)
    assert len(segments(running)) > len(before)
    running.wait_output("trying again in a new segment")
    running.kill()
    running.restart(env={"ELASTICSEARCH_URL": ""})
    sender.check_stored()


@pytest.mark.slow
def test_the_disk_becomes_read_only(gateway: GatewayFactory) -> None:
    """As a system does when it finds its disk broken: every write fails until somebody mends it."""
    running = gateway(env=NO_ELASTICSEARCH | {"GATEWAY_STORE__ENABLED": "true"})
    sender = Sender(running)
    assert not sender.post(100)
    with failing(running.pids, "pwritev,pwritev2:error=EROFS", "pwrite64:error=EROFS"):
        assert "cannot be written (Read-only file system)" in sender.until_refused(10)
        running.wait_until(lambda now: now["spool"]["failure"] is not None)
    ready_again(running)
    sender.until_taken()
    running.restart(env={"ELASTICSEARCH_URL": ""})
    sender.check_stored()


# Somebody meddles with it.


@contextmanager
def held_store(running: Gateway) -> Iterator[None]:
    """Lock the embedded store as another program would: the sink waits, the spool keeps everything."""
    running.data_dir.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(running.data_dir / "store.duckdb"):
        yield


def delete(path: Path) -> None:
    """Delete a file."""
    path.unlink()


def empty(path: Path) -> None:
    """Cut a file off at its beginning."""
    os.truncate(path, 0)


def replace_by_folder(path: Path) -> None:
    """Put a directory in a file's place."""
    path.unlink()
    path.mkdir()


def flip_bytes(path: Path) -> None:
    """Change bytes in the middle."""
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 4, len(content) // 2, 100):
        content[at] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["running", "stopped"])
@pytest.mark.parametrize("harm", [delete, empty, replace_by_folder, flip_bytes])
def test_a_file_of_the_spool_is_harmed(harm: Callable[[Path], None], when: str, gateway: GatewayFactory) -> None:
    """What was in it is lost and counted as damaged, with an error in the log; all else is stored."""
    small = {"GATEWAY_SPOOL__SEGMENT_BYTES": "65536", "GATEWAY_DRAIN_TIMEOUT_SECS": "0.1"}
    running = gateway(start=False, env=small)
    with held_store(running):
        running.start()
        running.wait_ready()
        running.wait_until(lambda now: now["sinks"]["embedded"]["state"] == "retrying")
        sender = Sender(running)
        for _ in range(40):
            assert not sender.post(10, 1000)
        if when == "stopped":
            running.stop()
        victim = segments(running)[2]
        within = {name.decode() for name in re.findall(rb'"event_id": ?"(\d+)"', victim.read_bytes())}
        harm(victim)
        if when == "stopped":
            running.start()
            running.wait_ready()
        assert not sender.post()
    found = books.settled(running)
    lost = set(sender.acknowledged) - set(stored_ids(running))
    assert lost == within if harm is not flip_bytes else set() < lost < within
    assert found["sinks"]["embedded"]["damaged"] == len(lost)
    assert '"level":"error"' in running.output()
    assert "are damaged: they are set aside" in running.output() or "are missing in the spool" in running.output()


@pytest.mark.slow
def test_a_file_of_the_spool_cannot_be_read_for_a_while(gateway: GatewayFactory) -> None:
    """Nobody passes over it: the sink says what is wrong and goes on when it can be read."""
    running = gateway(start=False, env={"GATEWAY_SPOOL__SEGMENT_BYTES": "65536"})
    with held_store(running):
        running.start()
        running.wait_ready()
        sender = Sender(running)
        for _ in range(20):
            assert not sender.post(10, 1000)
        victim = segments(running)[1]
        fault = failing(running.pids, "open,openat:error=EACCES", file=victim)
        fault.__enter__()
    status = running.wait_until(lambda now: "Permission denied" in now["sinks"]["embedded"]["last_error"], 40)
    assert status["sinks"]["embedded"]["state"] == "retrying"
    books.check(status)
    fault.__exit__(None, None, None)
    assert sender.check_stored()["sinks"]["embedded"]["damaged"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("what", ["data", "spool", "file"])
def test_the_data_directory_is_deleted(what: str, gateway: GatewayFactory) -> None:
    """Nothing is acknowledged that nobody will find again."""
    running = gateway()
    sender = Sender(running)
    assert not sender.post()
    books.settled(running)
    if what == "file":  # the one that is written to: the next one is made, and nothing was only in this one
        (segment,) = segments(running)
        segment.unlink()
        sender.until_taken()
        assert segments(running)
        sender.check_stored()
        return
    shutil.rmtree(running.data_dir if what == "data" else running.data_dir / "spool")
    assert "cannot be written (No such file or directory)" in sender.post()
    assert "No such file" in unready(running)
    books.check(running.status())
    running.kill()
    running.restart()
    assert not sender.post()
    books.settled(running)


def test_a_second_gateway(gateway: GatewayFactory) -> None:
    """It is refused in one sentence, and the first one is not disturbed."""
    running = gateway()
    sender = Sender(running)
    assert not sender.post()
    assert "is in use by another gateway" in refused(gateway(data_dir=running.data_dir, ready=False))
    assert not sender.post()
    sender.check_stored()


def overwrite_header(path: Path) -> None:
    """Overwrite the first page."""
    with path.open("r+b") as file:
        file.write(os.urandom(4096))


def overwrite_rest(path: Path) -> None:
    """Overwrite all but the first page."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def halve(path: Path) -> None:
    """Lose the second half."""
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.slow
@pytest.mark.elasticsearch
@pytest.mark.parametrize("harm", [overwrite_header, overwrite_rest, halve, empty, delete])
def test_the_state_is_damaged(harm: Callable[[Path], None], gateway: GatewayFactory, es: EsClient) -> None:
    """It is set aside; what the spool still holds is sent again, and nothing is there twice."""
    running = gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    sender = Sender(running)
    assert not sender.post(200)
    assert running.http.post("/v1/events", content=b"no JSON").status_code == 400
    books.settled(running)
    running.stop()
    state = running.data_dir / "state.sqlite3"
    harm(state)
    running.restart()
    assert not sender.post(50)
    found = books.settled(running)
    assert found["received"] == 251
    assert es.count() == 250
    aside = [path.name for path in running.data_dir.iterdir() if ".damaged-" in path.name]
    assert bool(aside) == ("it is set aside" in running.output()) == (harm not in (empty, delete))
    running.restart()
    assert running.output().count("it is set aside") == bool(aside)
    books.settled(running)


@pytest.mark.slow
@pytest.mark.elasticsearch
def test_the_log_of_the_state_is_lost(gateway: GatewayFactory, es: EsClient) -> None:
    """As after a copy that forgot it: the place goes back, what is there is sent again and recognised."""
    running = gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    sender = Sender(running)
    assert not sender.post(200)
    books.settled(running)
    running.kill()
    for end in ("-wal", "-shm"):
        (running.data_dir / f"state.sqlite3{end}").unlink()
    running.restart()
    assert not sender.post(50)
    sink = books.settled(running)["sinks"]["elasticsearch"]
    assert (sink["indexed"], sink["duplicates"]) == (250, 0)
    assert es.count() == 250


@pytest.mark.slow
@pytest.mark.parametrize("cure", ["moved away", "backup"])
@pytest.mark.parametrize("harm", [overwrite_header, overwrite_rest, halve])
def test_the_store_is_damaged(harm: Callable[[Path], None], cure: str, gateway: GatewayFactory) -> None:
    """Events are taken meanwhile; when it is moved away, or a backup put in its place, it goes on without a restart."""
    running = gateway()
    sender = Sender(running)
    assert not sender.post(200)
    books.settled(running)
    running.stop()
    store = running.data_dir / "store.duckdb"
    backup = shutil.copy(store, running.folder / "backup")
    harm(store)
    running.restart()
    assert not sender.post(50)
    status = running.wait_until(lambda now: now["sinks"]["embedded"]["state"] == "retrying")
    assert "move a damaged file and its .wal away" in status["sinks"]["embedded"]["last_error"]
    books.check(status)
    store.rename(running.folder / "damaged")
    if cure == "backup":
        shutil.copy(backup, store)
    sender.check_stored()


def test_an_empty_store(gateway: GatewayFactory) -> None:
    """As a full disk or a crash may leave it when it is made for the first time: it is made again."""
    running = gateway(start=False)
    running.data_dir.mkdir()
    (running.data_dir / "store.duckdb").write_bytes(b"")
    running.start()
    running.wait_ready()
    sender = Sender(running)
    assert not sender.post()
    sender.check_stored()


# It does not start.


@pytest.mark.slow
def test_a_start_on_a_read_only_disk(disk: Disk, gateway: GatewayFactory) -> None:
    """One sentence; the events of before are there when it can be written again."""
    place = disk("size=60m")
    running = gateway(data_dir=place / "data", env={"GATEWAY_SPOOL__MIN_FREE_BYTES": "0"})
    sender = Sender(running)
    assert not sender.post()
    running.stop()
    remount(place, "ro")
    other = gateway(data_dir=running.data_dir, ready=False)
    assert refused(other) == (
        f"gateway: The data directory {running.data_dir} cannot be written (Read-only file system): make it writable, "
        "or set GATEWAY_DATA_DIR to another."
    )
    remount(place, "rw")
    running.restart()
    sender.check_stored()


@pytest.mark.slow
@pytest.mark.parametrize("path", ["data", "data/spool", "data/spool/0", "data/state.sqlite3"])
def test_a_start_where_something_else_lies(path: str, gateway: GatewayFactory) -> None:
    """A file where a directory should be, or the other way round: one sentence that names it."""
    running = gateway(start=False)
    wrong = running.folder / path
    wrong.parent.mkdir(parents=True, exist_ok=True)
    if wrong.suffix:
        wrong.mkdir()
    else:
        wrong.write_text("")
    running.start()
    assert str(wrong) in refused(running)


@pytest.mark.slow
def test_a_start_on_a_full_disk_after_a_kill(disk: Disk, gateway: GatewayFactory) -> None:
    """It starts, waits for room and goes on; what the kill left unfinished needs no copy for that."""
    place = disk("size=40m")
    running = gateway(data_dir=place / "data", env={"GATEWAY_SPOOL__MIN_FREE_BYTES": "0"})
    sender = Sender(running)
    assert not sender.post(100)
    running.kill()
    with segments(running)[-1].open("ab") as torn:
        torn.write(b"half a record" * 1000)
    filler = fill(place)
    running.start()
    running.wait_output("they cannot be copied aside")
    running.wait_until(lambda now: "sinks" in now)
    sender.until_refused()
    filler.unlink()
    ready_again(running)
    sender.until_taken()
    sender.check_stored()


@pytest.mark.slow
def test_a_start_on_a_full_disk_after_a_stop(disk: Disk, gateway: GatewayFactory) -> None:
    """One sentence, and nothing is lost."""
    place = disk("size=40m")
    running = gateway(data_dir=place / "data", env={"GATEWAY_SPOOL__MIN_FREE_BYTES": "0"})
    sender = Sender(running)
    assert not sender.post(100)
    running.stop()
    filler = fill(place)
    other = gateway(data_dir=running.data_dir, ready=False)
    assert "state.sqlite3 cannot be used" in refused(other)
    filler.unlink()
    running.restart()
    sender.until_taken()
    sender.check_stored()
