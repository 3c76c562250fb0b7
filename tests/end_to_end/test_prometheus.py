"""What a real Prometheus makes of the metrics, with the configuration and the alerts of docs/operating.md."""

from pathlib import Path

import pytest
import yaml

from tests.documents import DOCS, Document
from tests.gateway_process import GatewayFactory
from tests.prometheus import Prometheus, check_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
EVENT = b'{"model_name":"m","prediction_confidence":0.9}'
TWICE = b'{"model_name":"m","event_id":"one"}'
KEY = {"authorization": "Bearer a-secret"}


def test_prometheus_reads_the_books(gateway: GatewayFactory, tmp_path: Path) -> None:
    """It has the figures of the events sent and of /status, also after a restart, and alerts when some are refused."""
    running = gateway(config={"http": {"api_keys": ["a-secret"]}})
    running.http.headers.update(KEY)
    scraping, rules = map(yaml.safe_load, (b.text for b in Document(DOCS / "operating.md").blocks("yaml prometheus")))
    scraping["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{running.http_port}"]}]
    with Prometheus(tmp_path / "prometheus", scraping, rules) as prometheus:
        prometheus.wait_until(lambda: prometheus.query("gateway_events_received_total") == {("http",): 0, ("tcp",): 0})
        running.http.post("/v1/events", content=b"\n".join([EVENT] * 8 + [TWICE, b"broken", b'{"no":"kind"}']))
        running.http.post("/v1/events", content=TWICE)
        prometheus.wait_until(
            lambda: (
                prometheus.query("gateway_sink_events_indexed_total + gateway_sink_events_duplicates_total")
                == {("embedded",): 10}
                and prometheus.query("gateway_dead_letters") == {(): 2}
            )
        )
        assert prometheus.query("gateway_events_received_total") == {("http",): 12, ("tcp",): 0}
        assert prometheus.query("gateway_events_accepted_total") == {("http",): 10, ("tcp",): 0}
        assert prometheus.query("gateway_events_refused_total") == {("http",): 2, ("tcp",): 0}
        by_reason = prometheus.query("gateway_events_refused_by_reason_total")
        assert by_reason == {("json", "http"): 1, ("schema", "http"): 1}
        assert prometheus.query("gateway_http_answers_total") == {("200",): 1, ("207",): 1}
        assert prometheus.query("gateway_sink_events_duplicates_total") == {("embedded",): 1}
        assert prometheus.query("gateway_sink_up") == {("embedded",): 1}
        # Two requests are two records at least, each synced within a minute.
        assert prometheus.query("gateway_spool_sync_seconds_bucket{le='60.0'} > 1") != {}
        books = running.status()["books"]
        for name in ("received", "accepted", "refused"):
            assert prometheus.query(f"sum(gateway_events_{name}_total)") == {(): books[name]}
        assert prometheus.query("gateway_books_difference") == {(): books["difference"]} == {(): 0}
        for name in ("indexed", "duplicates", "dead_letters", "skipped", "damaged"):
            there = prometheus.query(f"gateway_sink_events_{name}_total")
            assert there == {(sink,): figures[name] for sink, figures in books["sinks"].items()}

        prometheus.wait_until(lambda: prometheus.rules()["EventsAreRefused"]["state"] == "firing")
        started = prometheus.query("gateway_start_time_seconds")[()]
        running.restart()
        prometheus.wait_until(lambda: prometheus.query("gateway_start_time_seconds").get((), started) > started)
        prometheus.wait_until(lambda: prometheus.query("gateway_sink_up") == {("embedded",): 1})
        assert prometheus.query("gateway_events_received_total") == {("http",): 12, ("tcp",): 0}
        for name in ("events_received", "events_accepted", "events_refused", "sink_events_indexed"):
            assert set(prometheus.query(f"resets(gateway_{name}_total[5m])").values()) == {0}
        (target,) = prometheus.targets()
        assert (target["health"], target["lastError"]) == ("up", "")
        assert {name: each["health"] for name, each in prometheus.rules().items()} == dict.fromkeys(
            [rule["alert"] for rule in rules["groups"][0]["rules"]], "ok"
        )


def test_promtool_has_nothing_to_say(gateway: GatewayFactory) -> None:
    """Names, units and help texts are as Prometheus wants them, with every metric there is on the page."""
    both = {"ELASTICSEARCH_URL": "http://127.0.0.1:1", "GATEWAY_STORE__ENABLED": "true"}
    running = gateway(env=both)
    running.http.post("/v1/events", content=EVENT + b"\nbroken")
    running.send_tcp(EVENT + b"\n")
    running.wait_until(
        lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 2 and now["sinks"]["elasticsearch"]["last_error"]
    )
    metrics = running.http.get("/metrics").content
    assert b"gateway_sink_failures_total{" in metrics
    assert check_metrics(metrics) == ""
    assert 'should have "_total" suffix' in check_metrics(b"# HELP a A.\n# TYPE a counter\na 1\n")
    assert check_metrics(b"not a metric\n") != ""
