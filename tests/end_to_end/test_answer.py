"""One body with good and bad lines: the good are stored, the bad explained and kept."""

import json
import sqlite3
from typing import Any

from tests.elasticsearch_node.client import EsClient
from tests.gateway_process import GatewayFactory

BAD: dict[int, tuple[bytes, str, str, str]] = {
    3: (b'{"model_name":"m","prediction_confidence":1.7}', "schema", "$.prediction_confidence", "less_than_equal"),
    100: (b'{"model_name":"m","inference_time_ms":-1}', "schema", "$.inference_time_ms", "greater_than_equal"),
    101: (b'{"model_name":"m"', "json", "$", "json_invalid"),
    500: (b'{"model_name":"m","prediction_confidence":NaN}', "json", "$.prediction_confidence", "not_finite"),
    501: (b'{"hello":"world"}', "schema", "$", "kind_unknown"),
    998: (b'{"model_name":"m","timestamp":"yesterday"}', "schema", "$.timestamp", "timestamp_invalid"),
    999: (b'{"model_name":"m","timestamp":"2001-01-01T00:00:00Z"}', "clock", "$.timestamp", "too_old"),
}


def test_seven_bad_lines_of_a_thousand(gateway: GatewayFactory, es: EsClient) -> None:
    """993 of 1,000 lines are indexed, 7 are dead letters with path and rule, and the answer names the seven."""
    running = gateway(env={"ELASTICSEARCH_URL": es.url, "GATEWAY_EVENTS__INDEX_PREFIX": es.prefix})
    lines = [json.dumps({"model_name": "m", "prediction_confidence": 0.9, "step": n}).encode() for n in range(1000)]
    for number, (line, *_) in BAD.items():
        lines[number] = line
    answer = running.http.post("/v1/events", content=b"\n".join(lines))

    assert answer.status_code == 207
    body: dict[str, Any] = answer.json()
    assert (body["accepted"], body["rejected"]) == (993, 7)
    named = {error["index"]: (error["path"], error["rule"]) for error in body["errors"]}
    assert named == {number: (path, rule) for number, (_, _, path, rule) in BAD.items()}
    assert all(error["message"] for error in body["errors"])

    status = running.wait_until(
        lambda now: now["books"]["sinks"]["elasticsearch"]["indexed"] == 993 and now["books"]["dead_letters"] == 7
    )
    assert es.count(f"{es.prefix}ml-metrics-*") == 993
    assert status["books"]["difference"] == 0
    assert (status["books"]["received"], status["books"]["refused"]) == (1000, 7)

    assert running.stop() == 0
    with sqlite3.connect(running.data_dir / "state.sqlite3") as state:
        kept = set(state.execute("SELECT data, reason, path, rule FROM letters"))
    state.close()
    assert kept == set(BAD.values())
