"""What a new user does first, on the embedded store."""

import json
import time
from typing import Any

import httpx

from tests.gateway_process import Gateway, GatewayFactory

LINE = b'{"model_name":"fraud_detector","prediction_confidence":0.93,"inference_time_ms":25}'


def search(gateway: Gateway, expected: int, **params: Any) -> list[dict[str, Any]]:
    """Return the hits once there are as many as expected; events show within two seconds."""
    deadline = time.monotonic() + 5
    while True:
        answer = gateway.http.get("/v1/search", params=params)
        if answer.status_code == httpx.codes.OK and answer.json()["total"] == expected:
            hits: list[dict[str, Any]] = answer.json()["hits"]
            return hits
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def test_a_line_over_tcp_is_found(gateway: GatewayFactory) -> None:
    """One line over TCP is in today's index, with its buckets."""
    running = gateway()
    running.send_tcp(LINE + b"\n")
    (hit,) = search(running, 1, index="ml-metrics-*")
    source = hit["_source"]
    day = source["@timestamp"][:10].replace("-", ".")
    assert hit["_index"] == f"ml-metrics-{day}"
    assert (source["confidence_level"], source["latency_category"]) == ("high", "fast")
    assert source["type"] == "model_inference"


def test_an_acknowledged_event_survives_sigkill(gateway: GatewayFactory) -> None:
    """Killed the moment it acknowledged, the gateway has the event when it starts again."""
    running = gateway()
    answer = running.http.post("/v1/events", content=LINE)
    running.kill()
    assert answer.json() == {"accepted": 1, "rejected": 0, "errors": []}
    running.restart()
    (hit,) = search(running, 1)
    assert hit["_source"]["model_name"] == "fraud_detector"
    books = running.wait_until(lambda status: status["books"]["sinks"]["embedded"]["waiting"] == 0)["books"]
    assert (books["received"], books["accepted"], books["difference"]) == (1, 1, 0)


def test_the_greeting_has_the_addresses_and_a_line_to_paste(gateway: GatewayFactory) -> None:
    """The first thing printed is where to send events and how."""
    running = gateway()
    running.wait_until(lambda _: "Ctrl-C stops" in running.output())
    printed = running.output()
    assert f"127.0.0.1:{running.tcp_port}" in printed
    assert f"curl -d '{LINE.decode()}' {running.url}/v1/events" in printed


def test_two_gateways_do_not_share_a_data_directory(gateway: GatewayFactory) -> None:
    """The second one ends with one sentence that names the directory, and the first goes on."""
    first = gateway()
    second = gateway(data_dir=first.data_dir, ready=False)
    deadline = time.monotonic() + 20
    while second.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert second.exit_code == 1
    assert second.output().strip().splitlines() == [
        f"gateway: The data directory {first.data_dir} is in use by another gateway: end that one, "
        "or set GATEWAY_DATA_DIR to another."
    ]
    assert first.http.get("/health").status_code == httpx.codes.OK


def test_a_web_page_cannot_call_a_local_gateway(gateway: GatewayFactory) -> None:
    """Bound to loopback without a key, it refuses foreign names and pages of other sites, and says why."""
    running = gateway()
    foreign_host = running.http.get("/status", headers={"host": "evil.example"})
    foreign_page = running.http.post("/v1/events", content=LINE, headers={"origin": "http://evil.example"})
    assert (foreign_host.status_code, foreign_page.status_code) == (403, 403)
    assert "Host" in foreign_host.text
    assert "Origin" in foreign_page.text
    assert running.http.get("/status", headers={"host": f"localhost:{running.http_port}"}).status_code == 200
    assert running.status()["books"]["received"] == 0


def test_who_sends_over_tcp_finds_refusals_in_the_log(gateway: GatewayFactory) -> None:
    """TCP gives no answer, so the log says once who sent something that was refused, and why."""
    running = gateway()
    running.send_tcp(b'{"model_name":"m","prediction_confidence":1.7}\n' * 50)
    running.wait_until(lambda now: now["books"]["refused"] == 50)
    (line,) = (each for each in running.output().splitlines() if "Events were refused" in each)
    told = json.loads(line)
    assert (told["source"], told["reason"], told["path"]) == ("tcp", "schema", "$.prediction_confidence")
    assert told["peer"].startswith("127.0.0.1:")
