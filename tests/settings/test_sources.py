"""The settings of listeners, set in the file of a running gateway and seen from outside."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trustme

from tests.elasticsearch_node.ports import free_port
from tests.gateway_process import ROOT, GatewayFactory
from tests.settings.starting import EVENT, listening, refused


def test_addresses(gateway: GatewayFactory) -> None:
    """Each listener is at its own address and at no other."""
    process = gateway(config={"tcp": {"host": "127.0.0.2"}, "http": {"host": "127.0.0.3"}}, ready=False)
    listening(process, "127.0.0.2", process.tcp_port)
    listening(process, "127.0.0.3", process.http_port)
    assert refused("127.0.0.1", process.tcp_port)
    assert refused("127.0.0.1", process.http_port)


def test_tcp_switched_off(gateway: GatewayFactory) -> None:
    """Nobody listens, and HTTP goes on."""
    process = gateway(config={"tcp": {"enabled": False}})
    assert refused("127.0.0.1", process.tcp_port)
    assert set(process.status()["sources"]) == {"http"}


def test_certificates(gateway: GatewayFactory, tmp_path: Path) -> None:
    """Both listeners show the certificate, and hear only who shows one of the authority."""
    authority, files = trustme.CA(), {name: tmp_path / name for name in ("certificate", "key", "client_ca")}
    server = authority.issue_cert("127.0.0.1")
    server.cert_chain_pems[0].write_to_path(files["certificate"])
    server.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(files["client_ca"])
    tls = {name: str(file) for name, file in files.items()}
    port = free_port()
    process = gateway(config={"tcp": {"tls_port": port, "tls": tls}, "http": {"tls": tls}}, ready=False)
    listening(process, "127.0.0.1", port)
    stranger, friend = (ssl.create_default_context(cafile=files["client_ca"]) for _ in range(2))
    authority.issue_cert("friend").configure_cert(friend)
    url = process.url.replace("http:", "https:")
    listening(process, "127.0.0.1", process.http_port)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/health", verify=stranger, trust_env=False)
    for who in (stranger, friend):
        with (
            suppress(ssl.SSLError, ConnectionError),
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            who.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            secured.sendall(EVENT + b"\n")
            secured.unwrap()  # returns when the gateway has read it, or has hung up
    with httpx.Client(base_url=url, verify=friend, trust_env=False) as client:
        deadline = time.monotonic() + 10
        while not (accepted := client.get("/status").json()["books"]["accepted"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert accepted == 1


def test_bounds_of_tcp(gateway: GatewayFactory) -> None:
    """A longer line is refused, one connection more is closed."""
    process = gateway(config={"tcp": {"max_line_bytes": 100, "max_connections": 1}})
    process.send_tcp(EVENT + b"\n" + EVENT + b" " * 100 + b"\n")
    process.wait_until(lambda now: (now["books"]["accepted"], now["books"]["refused"]) == (1, 1))
    with process.connect_tcp() as first, process.connect_tcp() as second:
        first.sendall(EVENT)
        assert second.recv(1) == b""


def test_key_required(gateway: GatewayFactory) -> None:
    """Lines are taken behind a hello with a valid key alone; the gateway's own commands know it."""
    config = {"tcp": {"key_required": True}, "http": {"api_keys": ["the-key"]}}
    process = gateway(config=config)
    process.http.headers["authorization"] = "Bearer the-key"
    for data in (EVENT + b"\n", b'{"ack":true}\n' + EVENT, EVENT, b"\n", b"x" * 100_000, b"x" * 2_000_000):
        answer = process.send_tcp(data)
        assert answer.startswith(b'{"ack":"refused","message":"')
        assert answer.endswith(
            b'Begin with the line {\\"ack\\":true,\\"key\\":\\"KEY\\"} and a key of http.api_keys."}\n'
        )
    assert process.send_tcp(b"") == b""
    assert process.status()["books"]["received"] == 0
    (warning, *_) = [line for line in process.output().splitlines() if "did not begin with a valid key" in line]
    assert '"peer":"127.0.0.1:' in warning
    answer = process.send_tcp(b'{"ack":true,"key":"the-key"}\n' + EVENT)
    assert answer == b'{"ack":"ready"}\n{"acked":1,"rejected":[]}\n'

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gateway", *words, "--config", str(process.config_file)]
        env = {**os.environ, **process.env, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)

    for words in (("verify",), ("generate", "--batch", "10")):
        done = run(*words)
        assert done.returncode == 0, done.stderr
    process.wait_until(lambda now: now["books"]["accepted"] == 11 + 2)  # an event of `verify` for each listener
    assert process.config_file is not None
    process.config_file.write_text(json.dumps({**config, "http": {"api_keys": ["another"]}}), encoding="utf-8")
    for words in (("verify",), ("generate", "--batch", "10")):
        done = run(*words)
        assert done.returncode == 1
        assert "key" in done.stderr
        assert "Traceback" not in done.stderr
    process.config_file.write_text(json.dumps({"tcp": {"key_required": True}}), encoding="utf-8")
    done = run("check")
    assert (done.returncode, done.stderr) == (1, "✗ tcp.key_required needs a key: set http.api_keys.\n")


def test_bounds_of_http(gateway: GatewayFactory) -> None:
    """Size and time of requests, silence, connections and keys are what the file says."""
    http = {
        "max_body_bytes": 2000, "max_header_bytes": 3000, "header_timeout_secs": 2, "body_timeout_secs": 1,
        "idle_timeout_secs": 1, "max_connections": 2, "api_keys": ["a-secret"],
    }  # fmt: skip
    process = gateway(config={"http": http})
    key = {"authorization": "Bearer a-secret"}

    def post(content: bytes, **headers: str) -> int:
        return process.http.post("/v1/events", content=content, headers={**key, **headers}).status_code

    def answer(sent: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", process.http_port), 10) as raw:
            raw.sendall(sent)
            started, got = time.monotonic(), b""
            while data := raw.recv(65536):
                got += data
            assert 0.5 < time.monotonic() - started < 5
            return got

    assert process.http.post("/v1/events", content=EVENT).status_code == 401
    assert (post(EVENT), post(b" " * 2001), post(EVENT, x="y" * 3000)) == (200, 413, 431)
    assert b" 408 " in answer(b"POST /v1/events HTTP/1.1\r\n")
    head = b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer a-secret\r\n"
    assert b" 408 " in answer(head + b"content-length: 18\r\n\r\n{")
    assert b" 200 " in answer(head + b"content-length: 18\r\n\r\n" + EVENT)
    held = [socket.create_connection(("127.0.0.1", process.http_port)) for _ in range(2)]
    try:
        for each in held:
            each.sendall(b"POST ")
        deadline = time.monotonic() + 1.8  # then they are closed
        while (status := post(EVENT)) != 503:
            assert time.monotonic() < deadline, status
    finally:
        for each in held:
            each.close()


@pytest.mark.parametrize(("burst_bytes", "taken"), [(50, 2), (None, 1)])
def test_rate_limit(gateway: GatewayFactory, burst_bytes: int | None, taken: int) -> None:
    """What is within the burst is taken, one event more at once is 429."""
    process = gateway(config={"limits": {"bytes_per_sec": 1, "burst_bytes": burst_bytes}})
    statuses = [process.http.post("/v1/events", content=EVENT).status_code for _ in range(3)]
    assert statuses == [200] * taken + [429] * (3 - taken)
