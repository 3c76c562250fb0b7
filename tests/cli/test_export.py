"""``gateway export``: a day as a Parquet file, of a gateway that runs or of one that does not."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import ROOT, Gateway, GatewayFactory

DAY = "2026.11.20"
INDEX = f"ml-metrics-{DAY}"
KEEP = {"GATEWAY_EVENTS__MAX_AGE_DAYS": "null", "GATEWAY_STORE__RETENTION_DAYS": "null"}
EVENTS: list[dict[str, Any]] = [
    {"model_name": "Zürich 東京 😀 \u2028 \"'\\", "prediction_confidence": 0.9, "inference_time_ms": 25},
    {"model_name": "m", "prediction_class": 1, "true_label": "2", "region": None, "extra": {"a": [1, None]}},
    {"model_name": "m", "error_message": "Connection timeout", "n": 123456789012345678},
]
for _number, _event in enumerate(EVENTS):
    _event |= {"event_id": f"e{_number}", "timestamp": f"2026-11-20T1{_number}:00:00.25+01:00"}
# What the rules for predictions make of them: id, time, confidence_level, inference_time_ms, prediction_correct, error.
COLUMNS = '"@timestamp"::VARCHAR, model_name, confidence_level, inference_time_ms, prediction_correct, error_type'
VALUES = [
    ("2026-11-20 09:00:00.25", EVENTS[0]["model_name"], "high", 25.0, None, None),
    ("2026-11-20 10:00:00.25", "m", None, None, False, None),
    ("2026-11-20 11:00:00.25", "m", None, None, None, "timeout"),
]


def start(running: Gateway, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """Begin ``gateway export`` with the settings of a gateway."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY", "ELASTICSEARCH"))}
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "export", *arguments],
        cwd=running.folder,
        env={**clean, "PYTHONPATH": str(ROOT), "GATEWAY_DATA_DIR": str(running.data_dir), **running.env, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def export(running: Gateway, *arguments: str, **env: str) -> tuple[int, str, str]:
    """Run it; return exit code, stdout and stderr."""
    process = start(running, *arguments, **env)
    out, err = process.communicate(timeout=50)
    assert "Traceback" not in err
    return process.returncode, out, err


def assert_whole(file: Path) -> None:
    """The file holds the events, each once, with their types."""
    with duckdb.connect() as db:
        parquet = [str(file)]
        assert db.execute(f"SELECT {COLUMNS} FROM read_parquet($1) ORDER BY 1", parquet).fetchall() == VALUES
        sources = db.execute('SELECT _source FROM read_parquet($1) ORDER BY "@timestamp"', parquet).fetchall()
    for (source,), event in zip(sources, EVENTS, strict=True):
        document = json.loads(source)
        assert {name: document.get(name) for name in event} == event


def sent(running: Gateway, sink: str) -> None:
    """Send the events and wait until they are there."""
    running.http.post("/v1/events", content=json.dumps(EVENTS)).raise_for_status()
    running.wait_until(lambda now: now["books"]["sinks"][sink]["indexed"] == len(EVENTS))


def test_of_the_embedded_store(gateway: GatewayFactory) -> None:
    """The same file comes from the running gateway and, when it does not run, from its data directory."""
    running = gateway(env=KEEP)
    sent(running, "embedded")
    code, out, err = export(running, INDEX)
    assert (code, err) == (0, "")
    file = running.folder / f"{INDEX}.parquet"
    first, second = out.splitlines()
    assert first == f"{file.name}: 3 rows, {file.stat().st_size:,} bytes."
    assert second == f"In Python: duckdb.read_parquet('{file.name}') or pandas.read_parquet('{file.name}')."
    assert_whole(file)
    assert list((running.data_dir / "exports").iterdir()) == []
    running.http.post("/v1/events", content=b'{"check_name":"c","timestamp":"2026-11-20T12:00:00Z"}')
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == len(EVENTS) + 1)
    assert "one.parquet: 1 row, " in export(running, f"data-quality-{DAY}", "--output", "one.parquet")[1]
    (running.folder / "one.parquet").unlink()

    running.kill()
    file.write_text("what was there is replaced")
    assert export(running, INDEX)[0] == 0
    assert_whole(file)
    assert {path.name for path in running.folder.iterdir()} == {"data", "output.txt", file.name}


def test_of_elasticsearch(gateway: GatewayFactory, es: EsClient, tmp_path: Path) -> None:
    """With Elasticsearch as the only sink the file comes from there, with and without a running gateway."""
    running = gateway(env={**KEEP, "ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    sent(running, "elasticsearch")
    es.refresh()
    index, file = es.prefix + INDEX, tmp_path / "out.parquet"
    assert export(running, index, "--output", str(file))[::2] == (0, "")
    assert_whole(file)
    file.unlink()
    assert running.stop() == 0
    assert export(running, index, "--output", str(file), GATEWAY_DATA_DIR=str(tmp_path / "none"))[::2] == (0, "")
    assert_whole(file)
    assert not (tmp_path / "none").exists()

    code, _, err = export(running, f"{es.prefix}ml-metrics-2026.11.21", "--output", str(file))
    assert code == 1
    assert err == f"gateway: There is no index '{es.prefix}ml-metrics-2026.11.21': the nearest are {index}.\n"
    assert_whole(file)


def test_mistakes(gateway: GatewayFactory, tmp_path: Path) -> None:
    """Each is one sentence, and leaves no file."""
    running = gateway(env=KEEP)
    sent(running, "embedded")
    out = tmp_path / "out"
    out.mkdir()
    code, _, err = export(running, "ml-metrics-2026.11.21", "--output", str(out / "x.parquet"))
    assert code == 1
    assert err == (
        "gateway: The gateway answered 404 to GET /v1/export/ml-metrics-2026.11.21: "
        f"There is no index 'ml-metrics-2026.11.21': the nearest are {INDEX}.\n"
    )
    code, _, err = export(running, INDEX, "--output", str(out / "none" / "x.parquet"))
    assert (code, err) == (1, f"gateway: {out}/none/x.parquet cannot be written: No such file or directory.\n")
    for pattern in ("ml-metrics-*", "../x", ""):
        code, _, err = export(running, pattern, "--output", str(out / "x.parquet"))
        assert code == 2
        assert "name one index" in err
    code, _, err = export(running, INDEX, "--url", "http://127.0.0.1:1", "--output", str(out / "x.parquet"))
    assert code == 1
    assert err.startswith("gateway: No gateway answers at http://127.0.0.1:1")
    with (out / "x.parquet.partial").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        code, _, err = export(running, INDEX, "--output", str(out / "x.parquet"))
        assert code == 1
        assert err == f"gateway: {out}/x.parquet.partial is being written by another export: wait for it.\n"
    (out / "x.parquet.partial").unlink()
    assert list(out.iterdir()) == []


def test_where_nobody_answers(gateway: GatewayFactory, free_port: Callable[[], int], tmp_path: Path) -> None:
    """A gateway that holds the data directory and listens elsewhere is not gone around; nor is a directory made."""
    running = gateway(env=KEEP)
    sent(running, "embedded")
    elsewhere = {"GATEWAY_HTTP__PORT": str(free_port())}
    code, _, err = export(running, INDEX, **elsewhere)
    assert code == 1
    assert "is in use by another gateway" in err
    assert len(err.splitlines()) == 1
    code, _, err = export(running, INDEX, GATEWAY_DATA_DIR=str(tmp_path / "none"), **elsewhere)
    assert (code, len(err.splitlines())) == (1, 1)
    assert "store.duckdb is not there" in err
    assert not (tmp_path / "none").exists()


def large(running: Gateway, events: int) -> None:
    """Fill an index with what does not compress, so that its file is beyond what sockets hold."""
    for start in range(0, events, 500):
        lines = [
            json.dumps({"event_id": f"{n}", "timestamp": "2026-11-20T10:00:00Z", "model_name": os.urandom(4000).hex()})
            for n in range(start, start + 500)
        ]
        running.http.post("/v1/events", content="\n".join(lines)).raise_for_status()
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == events, timeout=40)


def test_callers_that_do_not_read(gateway: GatewayFactory) -> None:
    """Two that take nothing are the most; others are told to wait, events go on, and nothing of them stays."""
    running = gateway(env=KEEP)
    large(running, 4000)
    idle = []
    for _ in range(2):
        caller = socket.create_connection(("127.0.0.1", running.http_port))
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.sendall(f"GET /v1/export/{INDEX} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        assert b"200 OK" in caller.recv(1000)
        idle.append(caller)
    answer = running.http.get(f"/v1/export/{INDEX}")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    assert "2 exports are under way" in answer.json()["error"]
    assert running.http.post("/v1/events", content=b'{"model_name":"m"}').status_code == 200
    assert running.http.get("/v1/search").status_code == 200
    for caller in idle:
        caller.close()
    deadline = time.monotonic() + 10
    while (answer := running.http.get(f"/v1/export/{INDEX}")).status_code == 429:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert answer.headers["content-disposition"] == f'attachment; filename="{INDEX}.parquet"'
    assert int(answer.headers["content-length"]) == len(answer.content) > 10 << 20
    assert list((running.data_dir / "exports").iterdir()) == []


@pytest.mark.slow
def test_kills(gateway: GatewayFactory) -> None:
    """A kill of either side leaves no file under the final name; what it leaves elsewhere is gone the next time."""
    running = gateway(env=KEEP)
    large(running, 8000)
    file = running.folder / "out.parquet"
    partial = running.folder / "out.parquet.partial"
    for _ in range(5):
        process = start(running, INDEX, "--output", str(file))
        while not (partial.exists() and partial.stat().st_size > 1 << 20):
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.communicate()
        assert not file.exists()
    for _ in range(10):
        process = start(running, INDEX, "--output", str(file))
        while not (partial.exists() and partial.stat().st_size):
            assert process.poll() is None
            time.sleep(0.001)
        running.signal(signal.SIGSTOP)
        if list((running.data_dir / "exports").iterdir()):
            break
        running.signal(signal.SIGCONT)  # too late, all was given
        process.communicate()
        file.unlink()
    running.kill()
    assert list((running.data_dir / "exports").iterdir()) != []
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.startswith("gateway: The gateway broke off its answer")
    assert len(err.splitlines()) == 1
    assert not file.exists()
    assert not partial.exists()
    running.restart()
    assert not (running.data_dir / "exports").exists()
    assert export(running, INDEX, "--output", str(file))[0] == 0
    assert duckdb.execute(f"SELECT count(*), count(DISTINCT _id) FROM '{file}'").fetchall() == [(8000, 8000)]
