"""The client and the gateway together: keys, TLS, refusals; and the client without the gateway's dependencies."""

import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway_client import Client
from tests.books import settled
from tests.elasticsearch_node.ports import free_port
from tests.gateway_client.test_client import wait
from tests.gateway_process import ROOT, GatewayFactory

EVENT = {"model_name": "m"}
KEYS = {"tcp": {"key_required": True}, "http": {"api_keys": [{"key": "schlüssel", "tenant": "blue"}]}}


@pytest.mark.process
def test_it_needs_the_standard_library_alone() -> None:
    """It is imported and used by a Python that has no other packages."""
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import gateway_client
client = gateway_client.Client(port=1)
client.send({{"model_name": "m"}})
client.close(0)
roots = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(roots - set(sys.stdlib_module_names) - {{"__main__", "gateway_client"}}))
"""
    ended = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_keys(gateway: GatewayFactory) -> None:
    """With its key a client is taken, and the tenant is the key's; without, it is told why and what to do."""
    running = gateway(config=KEYS)
    running.http.auth = ("", "schlüssel")
    for key, told in ((None, "A key is needed."), ("wrong", "This key is not one of http.api_keys.")):
        client = Client(port=running.tcp_port, key=key)
        client.send(EVENT)
        stats = wait(client, lambda stats: stats.last_error and "refused" in stats.last_error)
        assert f"127.0.0.1:{running.tcp_port} refused the connection: {told} Begin with" in (stats.last_error or "")
        client.close(0)
    with Client(port=running.tcp_port, key="schlüssel") as client:
        client.send({**EVENT, "event_id": "mine"})
        assert client.flush()
    settled(running)
    (hit,) = running.http.get("/v1/search").raise_for_status().json()["hits"]
    assert (hit["_source"]["tenant"], hit["_source"]["event_id"]) == ("blue", "mine")


def test_tls(gateway: GatewayFactory, tmp_path: Path) -> None:
    """Through TLS many events at once arrive; a certificate that is not trusted, and a plain port, are told."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    server.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    files = {"certificate": str(tmp_path / "certificate.pem"), "key": str(tmp_path / "key.pem")}
    port = free_port()
    running = gateway(config={"tcp": {"tls": files, "tls_port": port}})
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with Client(port=port, tls=trusting) as client:
        for number in range(5000):
            client.send({**EVENT, "number": number, "text": "x" * 1000})
        assert client.flush(30)
        assert client.stats.acknowledged == 5000
    assert settled(running)["sinks"]["embedded"]["indexed"] == 5000
    for to, tls, told in (
        (port, ssl.create_default_context(), "unable to get local issuer certificate"),
        (port, None, f"127.0.0.1:{port} "),
        (running.tcp_port, trusting, "is it the gateway's TLS port?"),
    ):
        client = Client(port=to, tls=tls)
        client.send(EVENT)
        wait(client, lambda stats, told=told: stats.last_error and told in stats.last_error)  # type: ignore[misc]
        client.close(0)


def test_refusals(gateway: GatewayFactory) -> None:
    """Each refused event comes back with what is wrong, and its neighbours are stored."""
    refused: list[tuple[dict[str, Any], Any]] = []
    running = gateway(env={"GATEWAY_TCP__MAX_LINE_BYTES": "2000"})
    events: list[dict[str, Any]] = [
        EVENT,
        {**EVENT, "prediction_confidence": 1.7},
        {"nothing": "known"},
        {**EVENT, "timestamp": "1970-01-01T00:00:00Z"},
        {**EVENT, "text": "x" * 3000},
        EVENT,
    ]
    with Client(port=running.tcp_port, on_rejected=lambda event, why: refused.append((event, why))) as client:
        for event in events:
            client.send(event)
        assert client.flush()
        stats = client.stats
    assert (stats.acknowledged, stats.rejected) == (2, 4)
    told = sorted((events.index(without_added(event)), why["rule"]) for event, why in refused)
    assert told == [(1, "less_than_equal"), (2, "kind_unknown"), (3, "too_old"), (4, "too_large")]
    assert all(why["message"] and why["path"].startswith("$") for _, why in refused)
    books = settled(running)
    assert (books["accepted"], books["refused"]) == (2, 4)


def without_added(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as it was before the client added its own fields."""
    own = ("event_id",) if event["timestamp"].startswith("1970") else ("event_id", "timestamp")
    return {name: value for name, value in event.items() if name not in own}


def test_corrected_and_sent_again(gateway: GatewayFactory) -> None:
    """What `on_rejected` sends is part of what `flush` and the end of the block wait for."""
    running = gateway()

    def fix(event: dict[str, Any], _: Any) -> None:
        time.sleep(0.2)
        client.send({**event, "event_id": None, "prediction_confidence": 1})

    with Client(port=running.tcp_port, on_rejected=fix) as client:
        client.send({**EVENT, "prediction_confidence": 1.7})
    assert (client.stats.rejected, client.stats.acknowledged, client.stats.lost) == (1, 1, 0)
    assert settled(running)["sinks"]["embedded"]["indexed"] == 1


def test_rejections_of_a_whole_batch(gateway: GatewayFactory) -> None:
    """When more are refused at once than a message names, the sums are right, and nothing waits for ever."""
    running = gateway()
    with Client(port=running.tcp_port) as client:
        for _ in range(1000):
            client.send({"nothing": "known"})
        assert client.flush()
        assert (client.stats.acknowledged, client.stats.rejected) == (0, 1000)
    assert settled(running)["refused"] == 1000


def test_the_http_port(gateway: GatewayFactory) -> None:
    """It is told to be the wrong one."""
    running = gateway()
    client = Client(port=running.http_port)
    client.send(EVENT)
    stats = wait(client, lambda stats: stats.last_error and "TCP port (5001" in stats.last_error)
    client.close(0)
    assert f"127.0.0.1:{running.http_port} answered 'HTTP/1.1 400" in (stats.last_error or "")
