"""Log records become events: log lines, predictions, whatever `extra` says."""

import logging
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gateway_client import Client, GatewayHandler
from tests.elasticsearch_node.ports import free_port
from tests.gateway_process import ROOT, Gateway, GatewayFactory


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of this test's own, without handlers."""
    logger = logging.getLogger("serving.churn")
    logger.setLevel(logging.DEBUG)
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def sent(client: Client) -> list[dict[str, Any]]:
    """Return what waits in a client that has nobody to send to."""
    from gateway_client.encoding import decode

    assert client._outbox is not None
    return [decode(line) for line in client._outbox._waiting]


def stored(running: Gateway, count: int) -> dict[str, list[dict[str, Any]]]:
    """Return the stored documents by their kind, oldest first."""
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == count)
    found: dict[str, list[dict[str, Any]]] = {}
    for hit in reversed(running.http.get("/v1/search").json()["hits"]):
        found.setdefault(hit["_source"]["type"], []).append(hit["_source"])
    return found


def test_log_lines_and_predictions(gateway: GatewayFactory, log: logging.Logger) -> None:
    """Fields of `extra` decide which kind it is; the gateway enriches predictions as always."""
    running = gateway()
    with Client(port=running.tcp_port) as client:
        log.addHandler(GatewayHandler(client, service="churn-api"))
        log.info("started in %d ms", 12, extra={"endpoint": "/predict", "labels": {"pod": "a"}})
        log.info("prediction", extra={"model_name": "churn", "prediction_confidence": np.float32(0.5), "odd": {1, 2}})
        log.info("anything", extra={"event": {"model_name": "churn", "prediction_class": 1, "true_label": 1}})
        log.info("epoch", extra={"type": "model_training", "model_name": "churn", "epoch": 3, "metrics": {"loss": 0.1}})
        try:
            raise TimeoutError("upstream timed out")
        except TimeoutError:
            log.exception("no answer")
            log.exception("prediction failed", extra={"model_name": "churn"})
        assert client.flush()
        assert client.stats.rejected == 0
    found = stored(running, 6)
    started, failed = found["log"]
    expected = {
        "level": "INFO", "service": "churn-api", "logger": "serving.churn", "message": "started in 12 ms",
        "endpoint": "/predict", "labels": {"pod": "a"},
    }  # fmt: skip
    assert {name: started[name] for name in expected} == expected
    assert (failed["level"], failed["error"]) == ("ERROR", "TimeoutError: upstream timed out")
    assert failed["stack_trace"].startswith("Traceback")
    prediction, whole, error = found["model_inference"]
    assert (prediction["confidence_level"], prediction["odd"], prediction["message"]) == ("low", "{1, 2}", "prediction")
    assert (whole["prediction_accuracy"], "message" in whole) == (1.0, False)
    assert (error["error"], error["error_type"]) == (True, "timeout")
    assert found["model_training"][0]["metrics"] == {"loss": 0.1}


def test_the_time_is_the_record_s(log: logging.Logger) -> None:
    """A record that is sent late has the time at which it was made."""
    client = Client(port=free_port())
    handler = GatewayHandler(client)
    record = logging.makeLogRecord({"name": "a", "levelname": "INFO", "msg": "m", "created": 1_700_000_000.25})
    handler.handle(record)
    assert [event["timestamp"] for event in sent(client)] == ["2023-11-14T22:13:20.250000Z"]
    client.close(0)


def test_never_a_loop_and_never_a_wait(
    log: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's own records are not sent; when there is no room a record is counted, and the program goes on."""
    client = Client(port=free_port(), max_bytes=1000, full_secs=30)
    monkeypatch.setattr(log, "propagate", False)  # pytest's own handler raises
    handler = GatewayHandler(client)
    for logger in (log, logging.getLogger("gateway_client")):
        logger.addHandler(handler)
    try:
        logging.getLogger("gateway_client").warning("not sent")
        for _ in range(50):
            log.info("m")
        log.info("bad %d", "text")
        log.info("bad", extra={"event": {"loss": float("nan")}})
    finally:
        logging.getLogger("gateway_client").removeHandler(handler)
    assert {event["message"] for event in sent(client)} == {"m"}
    stats = client.stats
    assert stats.sent == 50 == stats.waiting + stats.lost
    assert stats.lost > 0
    assert "ClientFull" in capsys.readouterr().err
    client.close(0)


def test_configured_by_a_mapping(gateway: GatewayFactory) -> None:
    """`logging.config` makes a handler with a client of its own; what was logged is sent before the program ends."""
    running = gateway()
    program = f"""
import logging.config
handler = {{"class": "gateway_client.GatewayHandler", "port": {running.tcp_port}, "service": "s"}}
logging.config.dictConfig(
    {{"version": 1, "handlers": {{"gateway": handler}}, "root": {{"handlers": ["gateway"], "level": "INFO"}}}}
)
logging.getLogger("configured").info("hello")
"""
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=30)
    assert stored(running, 1)["log"][0]["service"] == "s"


def test_a_flush_that_holds_the_lock(gateway: GatewayFactory, log: logging.Logger) -> None:
    """`logging.shutdown` waits for acknowledgements, and these may make the client say something in the log."""
    running = gateway()
    handler = GatewayHandler(port=running.tcp_port)
    own = logging.getLogger("gateway_client")
    for logger in (log, own):
        logger.addHandler(handler)
    try:
        log.info("m", extra={"event": {"model_name": "m", "prediction_confidence": 17}})
        started = time.monotonic()
        logging.shutdown([weakref.ref(handler)])
        assert time.monotonic() - started < 2
    finally:
        own.removeHandler(handler)
    assert handler.client.stats.rejected == 1
