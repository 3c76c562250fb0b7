"""What an operator has: health, status, metrics, logs, an orderly stop."""

import json
import signal
import socket
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway_process import Gateway, GatewayFactory

EVENT = b'{"model_name":"m","prediction_confidence":0.9}'


def metrics(running: Gateway) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return all samples by name and labels."""
    text = running.http.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_health_and_readiness(gateway: GatewayFactory) -> None:
    """Both say yes while events are taken, also with an Elasticsearch that is not there."""
    running = gateway(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1"})
    assert running.http.get("/health").status_code == 200
    assert running.http.get("/ready").status_code == 200
    assert running.http.post("/v1/events", content=EVENT).status_code == 200
    status = running.wait_until(lambda now: now["sinks"]["elasticsearch"]["state"] == "retrying")
    assert "127.0.0.1:1" in status["sinks"]["elasticsearch"]["last_error"]
    assert status["books"]["sinks"]["elasticsearch"]["waiting"] == 1
    assert status["spool"]["oldest_secs"] >= 0


def test_metrics_agree_with_the_books(gateway: GatewayFactory) -> None:
    """Prometheus sees received, accepted, refused by reason, indexed, dead letters and the spool."""
    running = gateway()
    running.http.post("/v1/events", content=b"\n".join([EVENT] * 8 + [b"broken", b'{"no":"kind"}']))
    running.send_tcp(EVENT + b"\n")
    running.wait_until(
        lambda now: (
            now["books"]["sinks"]["embedded"]["indexed"] == 9
            and now["books"]["dead_letters"] == 2
            and now["spool"]["oldest_secs"] == 0
        )
    )
    seen = metrics(running)
    http, tcp, sink = (("source", "http"),), (("source", "tcp"),), (("sink", "embedded"),)
    assert seen["gateway_events_received_total", http] == 10
    assert seen["gateway_events_accepted_total", http] == 8
    assert seen["gateway_events_refused_total", http] == 2
    assert seen["gateway_events_received_total", tcp] == 1
    assert seen["gateway_events_refused_by_reason_total", (("reason", "json"), *http)] == 1
    assert seen["gateway_events_refused_by_reason_total", (("reason", "schema"), *http)] == 1
    assert seen["gateway_sink_events_indexed_total", sink] == 9
    assert seen["gateway_sink_events_waiting", sink] == 0
    assert seen["gateway_dead_letters", ()] == 2
    assert seen["gateway_spool_bytes", ()] > 0
    assert seen["gateway_spool_oldest_event_seconds", ()] == 0
    assert seen["gateway_bulk_seconds_count", sink] >= 1
    assert seen["gateway_bulk_bytes_sum", sink] > 0


def test_sigterm_finishes_what_was_read(gateway: GatewayFactory) -> None:
    """After SIGTERM it exits with 0; every whole line is stored, an unfinished one is a dead letter `cut`."""
    running = gateway()
    with running.connect_tcp() as connection:
        connection.sendall((EVENT + b"\n") * 100 + EVENT[:20])
        running.wait_until(lambda now: now["sources"]["tcp"].get("received") == 100)
        assert running.stop() == 0
    running.restart()
    status = running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["waiting"] == 0)
    assert status["books"]["accepted"] == 100
    assert status["books"]["refused"] == 1
    assert status["books"]["dead_letters"] == 1
    assert status["books"]["difference"] == 0


def test_ctrl_c_is_an_orderly_stop_too(gateway: GatewayFactory) -> None:
    """SIGINT exits with 0 and without a stack trace."""
    running = gateway()
    running.signal(signal.SIGINT)
    deadline = time.monotonic() + 15
    while running.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running.exit_code == 0
    assert "Traceback" not in running.output()


def test_a_sink_that_is_no_longer_configured_is_dropped(gateway: GatewayFactory) -> None:
    """Its claim on the spool ends with a warning that counts what it had not taken."""
    running = gateway(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1", "GATEWAY_DRAIN_TIMEOUT_SECS": "0.2"})
    running.http.post("/v1/events", content=b"\n".join([EVENT] * 5))
    running.restart(env={"ELASTICSEARCH_URL": ""})
    status = running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 5)
    assert set(status["sinks"]) == {"embedded"}
    assert status["books"]["difference"] == 0
    (warning,) = (json.loads(line) for line in running.output().splitlines() if "no longer configured" in line)
    assert (warning["sink"], warning["not_taken"]) == ("elasticsearch", 5)


def test_the_log_file_is_json_and_rotates(gateway: GatewayFactory) -> None:
    """Each line of the log file is a JSON object with time, level and event; full files are kept aside."""
    running = gateway(config={"log": {"file": "logs/gateway.log", "max_bytes": 400, "keep": 2}})
    for _ in range(4):
        running.restart()
    assert running.stop() == 0
    files = sorted((running.folder / "logs").iterdir())
    assert [file.name for file in files] == ["gateway.log", "gateway.log.1", "gateway.log.2"]
    for file in files:
        for line in file.read_text().splitlines():
            assert {"event", "level", "timestamp"} <= set(json.loads(line))


def test_a_log_file_that_cannot_be_written_harms_nothing(gateway: GatewayFactory) -> None:
    """The console has the log then, with one sentence about the file."""
    running = gateway(config={"log": {"file": "/proc/nowhere/gateway.log"}})
    assert running.http.post("/v1/events", content=EVENT).status_code == 200
    assert running.output().count("/proc/nowhere/gateway.log cannot be written") == 1


@pytest.mark.parametrize("setting", ["GATEWAY_TCP__PORT", "GATEWAY_HTTP__PORT"])
def test_a_port_in_use_is_one_sentence(gateway: GatewayFactory, setting: str) -> None:
    """The start fails with exit code 1 and names address and setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = gateway(env={setting: str(port)}, ready=False)
        deadline = time.monotonic() + 20
        while running.running and time.monotonic() < deadline:
            time.sleep(0.05)
    assert running.exit_code == 1
    name = setting.removeprefix("GATEWAY_").lower().replace("__", ".")
    assert running.output().splitlines() == [
        f"gateway: Cannot listen on 127.0.0.1:{port} (Address already in use): "
        f"end what uses it, or set {name} to another port."
    ]
