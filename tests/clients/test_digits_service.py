"""The example for ML engineers, through the unmodified python-logstash-async handler."""

import re
import subprocess
import sys

import pytest

from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import ROOT, GatewayFactory


@pytest.mark.timeout(120)
def test_every_prediction_arrives(gateway: GatewayFactory, es: EsClient) -> None:
    """All predictions are in ml-metrics-*, and their average accuracy is the one scikit-learn computes."""
    running = gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    script = ROOT / "examples" / "digits_service.py"
    ended = subprocess.run(
        [sys.executable, str(script), "127.0.0.1", str(running.tcp_port)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    said = re.search(r"(\d+) predictions, accuracy ([\d.]+)", ended.stdout)
    assert said is not None, ended.stdout
    predictions = int(said[1])
    running.wait_until(lambda now: now["books"]["sinks"]["elasticsearch"]["indexed"] == predictions)
    found = es.search(
        f"{es.prefix}ml-metrics-*",
        {
            "query": {"term": {"model_name": "digits"}},
            "aggs": {
                "accuracy": {"avg": {"field": "prediction_accuracy"}},
                "ms": {"min": {"field": "inference_time_ms"}},
            },
        },
    )
    assert found["hits"]["total"]["value"] == predictions
    assert found["aggregations"]["accuracy"]["value"] == pytest.approx(float(said[2]), abs=5e-5)
    assert found["aggregations"]["ms"]["value"] > 0
    assert running.status()["books"]["refused"] == 0
