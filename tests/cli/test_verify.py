"""``gateway verify``: a round trip through every listener and sink that leaves production indices alone."""

from __future__ import annotations

import os
import pty
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest
import trustme
from typer.testing import CliRunner

from gateway import cli
from gateway.cli import verify as command
from tests.elasticsearch_node.client import EsClient
from tests.elasticsearch_node.ports import free_port
from tests.gateway_process import ROOT, Gateway, GatewayFactory

pytestmark = pytest.mark.process
EVENT = b'{"model_name":"m","prediction_confidence":0.9}'


def started(folder: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """Begin ``gateway verify`` in a folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY", "ELASTICSEARCH"))}
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "verify", *arguments],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def verify(running: Gateway, *arguments: str, **env: str) -> tuple[int, list[str], list[str]]:
    """Run it with the settings of a gateway, or others; return exit code, stdout and stderr."""
    config = () if running.config_file is None else ("--config", str(running.config_file))
    process = started(running.folder, *config, *arguments, **{**running.env, **env})
    out, err = process.communicate(timeout=50)
    assert "Traceback" not in err
    return process.returncode, [re.sub(r"\d+\.\d\d s$", "N s", line) for line in out.splitlines()], err.splitlines()


def in_process(running: Gateway, monkeypatch: pytest.MonkeyPatch, **env: str) -> tuple[int, list[str], list[str]]:
    """The same with less patience."""
    monkeypatch.setattr(command, "ARRIVAL_SECS", 1.5)
    monkeypatch.setattr(command, "TCP_SECS", 1.5)
    monkeypatch.chdir(running.folder)
    for name in [each for each in os.environ if each.startswith(("GATEWAY", "ELASTICSEARCH"))]:
        monkeypatch.delenv(name)
    words = ["verify"] if running.config_file is None else ["verify", "--config", str(running.config_file)]
    ended = CliRunner().invoke(cli.app, words, env={**running.env, **env})
    return ended.exit_code, ended.stdout.splitlines(), ended.stderr.splitlines()


def stored(running: Gateway) -> list[tuple[str, str]]:
    """Return index and id of all that the gateway's store holds."""
    hits = running.http.get("/v1/search", params={"limit": "10000"}).json()["hits"]
    return sorted((hit["_index"], hit["_id"]) for hit in hits)


def fill(running: Gateway, *sinks: str) -> None:
    """Put three events into the production indices."""
    running.http.post("/v1/events", content=b"\n".join([EVENT] * 3)).raise_for_status()
    running.wait_until(lambda now: all(now["books"]["sinks"][sink]["indexed"] == 3 for sink in sinks))


def counts(es: EsClient) -> dict[str, int]:
    """Return how many documents each index of a test has."""
    return {index: es.count(index) for index in es.indices()}


def test_embedded_store(gateway: GatewayFactory) -> None:
    """An event over TCP and one over HTTP arrive and are removed, their table too; the rest stays as it is."""
    running = gateway()
    fill(running, "embedded")
    before = stored(running)
    code, out, err = verify(running)
    version = running.status()["version"]
    assert (code, err) == (0, [])
    assert sorted(out[3:5]) == ["✓ http → embedded: arrived within N s", "✓ tcp → embedded: arrived within N s"]
    assert out[:3] + out[5:] == [
        f"✓ gateway: {running.url} is ready, version {version}",
        f"✓ tcp: 127.0.0.1:{running.tcp_port} took an event",
        f"✓ http: {running.url}/v1/events took an event",
        "✓ cleaned up: the events are removed again",
    ]
    assert len(before) == 3
    assert stored(running) == before
    books = running.status()["books"]
    assert (books["accepted"], books["difference"]) == (5, 0)
    assert running.stop() == 0
    with duckdb.connect(running.data_dir / "store.duckdb") as db:
        tables = db.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'").fetchall()
    assert tables == [(before[0][0],)]


def test_again_and_again(gateway: GatewayFactory) -> None:
    """The store takes verifications after its table was dropped."""
    running = gateway()
    for _ in range(3):
        assert verify(running)[0] == 0
    assert stored(running) == []


def test_both_sinks_under_traffic(gateway: GatewayFactory, es: EsClient) -> None:
    """Each event is found in both sinks, at once although Elasticsearch shows documents late, and removed from both."""
    config = {
        "events": {"index_prefix": es.prefix},
        "store": {"enabled": True},
        "elasticsearch": {"urls": [es.url], "refresh_interval": "60s"},
        "http": {"api_keys": [{"key": "blue-key", "tenant": "blue"}]},
    }
    running = gateway(config=config)
    running.http.headers["authorization"] = "Bearer blue-key"
    fill(running, "embedded", "elasticsearch")
    before = counts(es)
    assert list(before.values()) == [3]
    ended = threading.Event()
    sent = 3

    def traffic() -> None:
        nonlocal sent
        while not ended.is_set():
            running.http.post("/v1/events", content=b"\n".join([EVENT] * 50)).raise_for_status()
            sent += 50

    sender = threading.Thread(target=traffic)
    sender.start()
    began = time.monotonic()
    try:
        code, out, err = verify(running)
    finally:
        ended.set()
        sender.join()
    assert (code, err) == (0, [])
    assert time.monotonic() - began < 15
    for sink in ("embedded", "elasticsearch"):
        for via in ("tcp", "http"):
            assert f"✓ {via} → {sink}: arrived within N s" in out
    assert out[-1] == "✓ cleaned up: the events are removed again"
    running.wait_until(lambda now: all(sink["waiting"] == 0 for sink in now["books"]["sinks"].values()))
    after = counts(es)
    # Elasticsearch keeps the empty index of today.
    (empty,) = after.keys() - before.keys()
    assert re.fullmatch(rf"{es.prefix}ml-verify-\d{{4}}\.\d\d\.\d\d", empty)
    assert after.pop(empty) == 0
    assert sum(after.values()) == sent
    assert {index for index, _ in stored(running)} == set(after)


def test_leftovers_of_earlier_days(gateway: GatewayFactory, es: EsClient) -> None:
    """Indices of verifications of earlier days go; an index that only bears the name, and every other, stays."""
    old, last, foreign, other = (
        f"{es.prefix}{name}"
        for name in ("ml-verify-2024.01.01", "ml-verify-2024.01.02", "ml-verify-2024.01.03", "ml-metrics-2024.01.01")
    )
    ours = {"mappings": {"_meta": {"managed_by": "ml-log-gateway"}}}
    for index in (old, last, other):
        es.put(f"/{index}", ours)
    es.put(f"/{foreign}", {"mappings": {"_meta": {"managed_by": "me"}}})
    es.post(f"/{old}/_doc?refresh=true", {"verify_id": "broken-off"})
    es.put(f"/{last}/_settings", {"index.blocks.read_only": True})
    running = gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    try:
        code, out, err = verify(running)
    finally:
        es.put(f"/{last}/_settings", {"index.blocks.read_only": None})
    assert (code, err) == (0, [])
    assert out[-1].startswith(f"! not cleaned up: elasticsearch: Elasticsearch answered 403 to DELETE /{last}")
    assert out[-1].endswith(f"What is left lies in {es.prefix}ml-verify-* and harms nothing.")
    assert {foreign, other, last} < set(es.indices())
    assert verify(running)[1][-1] == "✓ cleaned up: the events are removed again"
    assert not {old, last} & set(es.indices())
    assert {foreign, other} < set(es.indices())


def test_several_at_the_same_time(gateway: GatewayFactory, es: EsClient) -> None:
    """They do not see or remove each other's events, also through two gateways into one Elasticsearch."""
    env = {"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix, "GATEWAY_STORE__ENABLED": "true"}
    gateways = [gateway(env=env) for _ in range(2)]
    processes = [started(running.folder, **running.env) for running in gateways * 2]
    for process in processes:
        out, err = process.communicate(timeout=50)
        assert (process.returncode, err) == (0, ""), out
    assert sum(counts(es).values()) == 0
    assert [stored(running) for running in gateways] == [[], []]


def test_no_gateway(tmp_path: Path) -> None:
    """Without a gateway there is one sentence with the address and what to do."""
    port = free_port()
    process = started(tmp_path, GATEWAY_HTTP__PORT=str(port))
    out, err = process.communicate(timeout=50)
    assert (process.returncode, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith(f"✗ No gateway answers at http://127.0.0.1:{port} (")
    assert "gateway serve" in line


def test_every_mistake_in_the_settings(tmp_path: Path) -> None:
    """Wrong settings are told, each with its name; wrong words are exit code 2."""
    process = started(tmp_path, GATEWAY_HTTP__PORT="many", GATEWAY_TCP__PRT="1")
    _, err = process.communicate(timeout=50)
    assert process.returncode == 1
    assert sorted(line[:12] for line in err.splitlines()) == ["✗ http.port:", "✗ tcp.prt is"]
    process = started(tmp_path, "--sinks")
    process.communicate(timeout=50)
    assert process.returncode == 2


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"])
def test_something_else_at_the_http_port(tmp_path: Path, answer: bytes) -> None:
    """What is not a gateway is told to be none."""
    with foreign(answer) as port:
        process = started(tmp_path, GATEWAY_HTTP__PORT=str(port))
        _, err = process.communicate(timeout=50)
    (line,) = err.splitlines()
    assert process.returncode == 1
    assert f"127.0.0.1:{port}" in line
    assert "--url" in line


def test_not_ready(gateway: GatewayFactory) -> None:
    """A gateway that takes no events says why."""
    running = gateway(env={"GATEWAY_SPOOL__MIN_FREE_BYTES": str(10**18)}, ready=False)
    wait_for(running)
    code, out, (line,) = verify(running)
    assert (code, out) == (1, [])
    assert line.startswith("✗ The gateway answered 503 to GET /ready: ")
    assert "spool.min_free_bytes" in line


@contextmanager
def foreign(answer: bytes) -> Iterator[int]:
    """Some other server, that answers whatever comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_nothing_at_the_tcp_port(gateway: GatewayFactory) -> None:
    """That step fails and names address and setting; the others are gone through."""
    running = gateway()
    port = str(free_port())
    code, out, (line,) = verify(running, GATEWAY_TCP__PORT=port)
    assert code == 1
    assert line.startswith(f"✗ tcp: 127.0.0.1:{port} does not take an event as the gateway does (Connection refused):")
    assert "tcp.port" in line
    assert "✓ http → embedded: arrived within N s" in out
    assert out[-1] == "✓ cleaned up: the events are removed again"


def test_something_else_at_the_tcp_port(gateway: GatewayFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers is told at once, one that swallows everything when nothing arrives."""
    running = gateway()
    with foreign(b"220 mail.example ESMTP\r\n") as port:
        code, _, (line,) = verify(running, GATEWAY_TCP__PORT=str(port))
    assert code == 1
    assert f"127.0.0.1:{port} does not take an event as the gateway does (something else answers there)" in line
    with foreign(b"") as port:
        code, out, (line,) = in_process(running, monkeypatch, GATEWAY_TCP__PORT=str(port))
    assert code == 1
    assert line.startswith("✗ tcp → embedded: did not arrive within 1.5 s. The sink works, and nothing waits for it:")
    assert "listens at this address" in line
    assert any(each.startswith("✓ http → embedded") for each in out)
    assert stored(running) == []


def test_tcp_switched_off(gateway: GatewayFactory) -> None:
    """A listener that is not wanted is left out, which is no failure."""
    running = gateway(config={"tcp": {"enabled": False}})
    code, out, err = verify(running)
    assert (code, err, out[1]) == (0, [], "- tcp: switched off (tcp.enabled)")


def test_http_takes_nothing(gateway: GatewayFactory) -> None:
    """Why an event is not taken is told as the gateway says it; without an event there is nothing to look for."""
    running = gateway(config={"tcp": {"enabled": False}, "limits": {"bytes_per_sec": 1, "burst_bytes": 1}})
    running.http.post("/v1/events", content=EVENT)
    code, out, (line,) = verify(running)
    assert (code, len(out)) == (1, 2)
    assert line.startswith("✗ http: The gateway answered 429 to POST /v1/events: ")
    assert "limits.bytes_per_sec" in line


@pytest.mark.parametrize(("key", "told"), [("wrong", "This key is not one of http.api_keys"), ("", "A key is needed")])
def test_keys(gateway: GatewayFactory, key: str, told: str) -> None:
    """A wrong key, or none, is one sentence that names the setting; with the right one all is well."""
    running = gateway(env={"GATEWAY_HTTP__API_KEYS": "schlüssel"})
    code, out, (line,) = verify(running, GATEWAY_HTTP__API_KEYS=key)
    assert (code, out) == (1, [])
    assert told in line
    assert "http.api_keys" in line
    assert verify(running)[0] == 0


def test_a_sink_that_is_down(gateway: GatewayFactory, es: EsClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not arrive is told with the sink's own error; the events are stored when it is back."""
    env = {"ELASTICSEARCH_URL": "http://127.0.0.1:1", "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix}
    running = gateway(env={**env, "GATEWAY_STORE__ENABLED": "true", "GATEWAY_DRAIN_TIMEOUT_SECS": "0.1"})
    code, out, (line,) = in_process(running, monkeypatch)
    assert code == 1
    assert line.startswith("✗ tcp, http → elasticsearch: did not arrive within 1.5 s. The sink is retrying: Elastic")
    assert "127.0.0.1:1 cannot be reached" in line
    assert "safe in the spool" in line
    assert sum(each.startswith(("✓ tcp → embedded", "✓ http → embedded")) for each in out) == 2
    assert [each for each in out if each[0] == "!"] == [
        f"! what arrives later stays in {es.prefix}ml-verify-* and harms nothing."
    ]
    assert stored(running) == []
    running.restart(env={"ELASTICSEARCH_URL": es.url})
    running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["indexed"] == 2)
    assert sorted(source["via"] for source in es.sources()) == ["http", "tcp"]


def test_every_address_without_a_key(gateway: GatewayFactory) -> None:
    """Beyond loopback a gateway without a key lets nobody delete: verify says so, and what to do; the trip is well."""
    running = gateway(env={"GATEWAY_HTTP__HOST": "0.0.0.0", "GATEWAY_TCP__HOST": "0.0.0.0"})
    code, out, err = verify(running)
    assert (code, err) == (0, [])
    assert out[-1].startswith("! not cleaned up: The gateway answered 403 to DELETE /v1/verify/")
    assert "set http.api_keys" in out[-1]
    assert out[-1].endswith("What is left lies in ml-verify-* and harms nothing.")
    assert len(stored(running)) == 2
    running.restart(env={"GATEWAY_HTTP__API_KEYS": "a-key"})
    assert verify(running)[1][-1] == "✓ cleaned up: the events are removed again"
    # From elsewhere, by another name.
    code, out, err = verify(running, "--url", f"http://localhost:{running.http_port}")
    assert (code, err) == (0, [])
    assert out[1] == f"✓ tcp: localhost:{running.tcp_port} took an event"


def test_ipv6(gateway: GatewayFactory) -> None:
    """Addresses of IPv6 are asked, and written in brackets."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    running = gateway(env={"GATEWAY_HTTP__HOST": "::1", "GATEWAY_TCP__HOST": "::"}, ready=False)
    wait_for(running, "::1")
    code, out, err = verify(running)
    assert (code, err) == (0, [])
    assert out[0].startswith(f"✓ gateway: http://[::1]:{running.http_port} is ready")
    assert out[1] == f"✓ tcp: [::1]:{running.tcp_port} took an event"


def wait_for(running: Gateway, host: str = "127.0.0.1") -> None:
    """Return when the HTTP port is open, whatever it speaks."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, running.http_port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, running.output_tail()
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority for the whole file."""
    return trustme.CA()


def tls(folder: Path, authority: trustme.CA, client_ca: trustme.CA | None = None) -> dict[str, Any]:
    """Write a certificate for another name than localhost, as servers have; return the settings of a listener."""
    folder.mkdir()
    server = authority.issue_cert("gateway.example")
    files = {name: str(folder / f"{name}.pem") for name in ("certificate", "key", "client_ca")}
    server.private_key_pem.write_to_path(files["key"])
    server.cert_chain_pems[0].write_to_path(files["certificate"])
    (client_ca or authority).cert_pem.write_to_path(files["client_ca"])
    return files if client_ca else {name: files[name] for name in ("certificate", "key")}


def test_tls(gateway: GatewayFactory, tmp_path: Path, authority: trustme.CA) -> None:
    """TLS on both listeners: the configured certificate is trusted, without its authority and under any name."""
    files = tls(tmp_path / "tls", authority)
    port = free_port()
    running = gateway(config={"tcp": {"tls": files, "tls_port": port}, "http": {"tls": files}}, ready=False)
    wait_for(running)
    code, out, err = verify(running)
    assert (code, err) == (0, [])
    assert out[0].startswith(f"✓ gateway: https://127.0.0.1:{running.http_port} is ready")
    assert out[2] == f"✓ tcp with TLS: 127.0.0.1:{port} took an event"
    for name in ("tcp", "tcp with TLS", "http"):
        assert f"✓ {name} → embedded: arrived within N s" in out


def test_another_certificate(gateway: GatewayFactory, tmp_path: Path, authority: trustme.CA) -> None:
    """A listener that shows another certificate than the configured one fails."""
    port = free_port()
    running = gateway(config={"tcp": {"tls": tls(tmp_path / "tls", authority), "tls_port": port}})
    other = tls(tmp_path / "other", trustme.CA())
    code, out, (line,) = verify(running, GATEWAY_TCP__TLS__CERTIFICATE=other["certificate"])
    assert code == 1
    assert line.startswith(f"✗ tcp with TLS: 127.0.0.1:{port} does not take an event")
    assert "certificate" in line
    assert "✓ tcp → embedded: arrived within N s" in out


@pytest.mark.parametrize("own", [True, False])
def test_client_certificates(gateway: GatewayFactory, tmp_path: Path, authority: trustme.CA, own: bool) -> None:
    """Where the gateway's own certificate is not one for clients too, TLS is left out, with a way to try it."""
    port = free_port()
    settings = tls(tmp_path / "tls", authority, authority if own else trustme.CA())
    running = gateway(config={"tcp": {"tls": settings, "tls_port": port}})
    code, out, err = verify(running)
    assert (code, err) == (0, [])
    if own:
        assert out[2] == f"✓ tcp with TLS: 127.0.0.1:{port} took an event"
    else:
        assert out[2].startswith("- tcp with TLS: left out, for tcp.tls.client_ca asks for a client's certificate")
        assert f"openssl s_client -connect 127.0.0.1:{port} " in out[2]
    assert ("✓ tcp with TLS → embedded: arrived within N s" in out) is own


def test_a_plain_listener_where_tls_is_expected(
    gateway: GatewayFactory, tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What speaks no TLS, or nothing at all, at the TLS port fails."""
    running = gateway(config={"tcp": {"tls": tls(tmp_path / "tls", authority), "tls_port": free_port()}})
    for port in (str(gateway().tcp_port), str(free_port())):
        code, _, (line,) = in_process(running, monkeypatch, GATEWAY_TCP__TLS_PORT=port)
        assert code == 1
        assert f"127.0.0.1:{port} does not take an event as the gateway does" in line
        assert "tcp.tls_port" in line


def test_narrow_terminal(tmp_path: Path) -> None:
    """On a terminal no line is longer than it is wide, and what is wrapped is set in."""
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "cols", "80"], stdin=theirs, check=True)
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY", "ELASTIC", "COLUMNS"))
    }
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "verify"],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": str(ROOT), "GATEWAY_HTTP__PORT": str(free_port())},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        timeout=50,
        check=False,
    )
    os.close(theirs)
    lines = os.read(ours, 65536).decode().splitlines()
    os.close(ours)
    assert ended.returncode == 1
    assert max(map(len, lines)) <= 80
    assert [line[:2] for line in lines] == ["✗ "] + ["  "] * (len(lines) - 1)


def test_the_calls(gateway: GatewayFactory, es: EsClient) -> None:
    """`/v1/verify` says which sink has what, or why that is not known, and takes no odd id."""
    env = {"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix, "GATEWAY_STORE__ENABLED": "true"}
    running = gateway(env=env)
    event = b'{"type":"gateway_verification","verify_id":"mine-1234","via":"http","event_id":"mine-1234-http"}'
    running.http.post("/v1/events", content=event).raise_for_status()
    for sink in ("embedded", "elasticsearch"):
        running.wait_until(lambda now, sink=sink: now["books"]["sinks"][sink]["indexed"] == 1)  # type: ignore[misc]
    there = {"arrived": ["http"], "error": None}
    assert running.http.get("/v1/verify/mine-1234").json() == {"sinks": {"embedded": there, "elasticsearch": there}}
    assert running.http.get("/v1/verify/mine-12345").json()["sinks"]["elasticsearch"]["arrived"] == []
    (index,) = es.indices()
    es.put(f"/{index}/_settings", {"index.blocks.write": True})
    answer = running.http.delete("/v1/verify/mine-1234").json()["sinks"]
    assert answer["embedded"] == {"removed": 1, "error": None}
    assert answer["elasticsearch"]["removed"] is None
    assert "answered 403 to DELETE" in answer["elasticsearch"]["error"]
    assert es.count() == 1
    for odd in ("*", "short", "x" * 65, "mine_1234"):
        for method in ("GET", "DELETE"):
            answer = running.http.request(method, f"/v1/verify/{odd}")
            assert answer.status_code == 400
            assert answer.json() == {"error": "The id of a verification has 8 to 64 letters, digits and hyphens."}
