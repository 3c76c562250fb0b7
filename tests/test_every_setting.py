"""Every setting of gateway.example.yaml changes what it says: each is named in `SEEN`, with the test that sees it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from gateway.configuration import PLAIN_NAMES
from tests.gateway_process import ROOT

HERE = "tests/settings"
ES = "tests/sinks/elasticsearch"

SEEN = {
    f"{HERE}/test_storage.py::test_data_dir": "data_dir",
    "tests/end_to_end/test_operations.py::test_a_port_in_use_is_one_sentence": "tcp.port http.port",
    f"{HERE}/test_sources.py::test_addresses": "tcp.host http.host",
    f"{HERE}/test_sources.py::test_tcp_switched_off": "tcp.enabled",
    f"{HERE}/test_sources.py::test_certificates": (
        "tcp.tls_port tcp.tls.certificate tcp.tls.key tcp.tls.client_ca http.tls.certificate http.tls.key"
        " http.tls.client_ca"
    ),
    f"{HERE}/test_sources.py::test_bounds_of_tcp": "tcp.max_line_bytes tcp.max_connections",
    f"{HERE}/test_sources.py::test_key_required": "tcp.key_required",
    f"{HERE}/test_sources.py::test_bounds_of_http": (
        "http.max_body_bytes http.max_header_bytes http.header_timeout_secs http.body_timeout_secs"
        " http.idle_timeout_secs http.max_connections http.api_keys"
    ),
    f"{HERE}/test_sources.py::test_rate_limit": "limits.bytes_per_sec limits.burst_bytes",
    f"{HERE}/test_events.py::test_what_an_event_may_be": (
        "events.max_age_days events.max_future_secs events.naive_timezone events.default_kind"
        " events.index_prefix schemas.extra_fields schemas.files"
    ),
    f"{HERE}/test_events.py::test_what_is_added": (
        "enrichment.confidence.high enrichment.confidence.medium enrichment.latency.fast"
        " enrichment.latency.normal enrichment.latency.slow enrichment.error.patterns enrichment.models"
    ),
    "tests/pipeline/test_decoder.py::test_the_setting": "decoder",
    f"{HERE}/test_storage.py::test_a_small_spool": "spool.max_bytes spool.segment_bytes",
    f"{HERE}/test_storage.py::test_a_full_disk": "spool.min_free_bytes",
    f"{HERE}/test_storage.py::test_dead_letters_and_log": "dead_letters.max_bytes log.level log.format",
    "tests/end_to_end/test_operations.py::test_the_log_file_is_json_and_rotates": "log.file log.max_bytes log.keep",
    f"{HERE}/test_storage.py::test_drain_timeout_secs": "drain_timeout_secs",
    "tests/monitoring/test_figures.py::test_more_models_than_are_told_apart": "monitoring.max_models",
    "tests/monitoring/test_figures.py::test_the_window_is_as_long_as_it_is_set": "monitoring.window_secs",
    "tests/pipeline/test_summary.py::test_the_unit_of_durations_in_logs": "monitoring.log_duration_unit",
    "tests/promises/test_workers.py::test_events_of_every_way_are_stored_once_and_the_whole_is_shown": "workers",
    f"{HERE}/test_storage.py::test_store_beside_elasticsearch": "elasticsearch.urls store.enabled store.retention_days",
    "tests/promises/test_one_sink_never_stops_another.py::test_an_optional_elasticsearch_is_away": (
        "elasticsearch.required"
    ),
    "tests/promises/test_one_sink_never_stops_another.py::test_an_optional_store_is_broken": "store.required",
    f"{HERE}/test_storage.py::test_engine_of_the_store": "store.memory_limit store.threads",
    f"{ES}/test_client.py::test_api_key": "elasticsearch.api_key",
    f"{ES}/test_client.py::test_basic": "elasticsearch.username elasticsearch.password",
    f"{ES}/test_client.py::test_tls": "elasticsearch.ca_certs",
    f"{ES}/test_client.py::test_tls_unchecked": "elasticsearch.verify_certs",
    f"{HERE}/test_storage.py::test_bulks": (
        "elasticsearch.max_batch_events elasticsearch.max_batch_bytes elasticsearch.max_in_flight"
    ),
    f"{HERE}/test_storage.py::test_times_of_bulks": "elasticsearch.flush_after_secs elasticsearch.request_timeout_secs",
    f"{ES}/test_templates.py::test_not_managed_means_not_asked": "elasticsearch.manage_templates",
    f"{ES}/test_templates.py::test_changed_settings_change_the_template": (
        "elasticsearch.shards elasticsearch.auto_expand_replicas elasticsearch.refresh_interval"
    ),
    f"{ES}/test_parking.py::test_dead_letters_after_the_time": "elasticsearch.index_retry_secs",
    f"{ES}/test_retention.py::test_killed_while_it_deletes": "elasticsearch.retention_days",
    f"{ES}/test_lifecycle.py::test_a_changed_retention_changes_the_policy": "elasticsearch.ilm",
}


def test_every_setting_is_seen() -> None:
    """No setting of the example is without a test that changes it; each test is there and names what it changes."""
    names = set(re.findall(r"\bGATEWAY_\w+", (ROOT / "gateway.example.yaml").read_text(encoding="utf-8")))
    settings = {PLAIN_NAMES.get(name, name.removeprefix("GATEWAY_").lower().replace("__", ".")) for name in names}
    seen = [setting for each in SEEN.values() for setting in each.split()]
    assert sorted(seen) == sorted(settings), "a setting needs a test that sees its effect: name it in SEEN"
    plain = {setting: name for name, setting in PLAIN_NAMES.items()}
    for test, changed in SEEN.items():
        file, _, name = test.partition("::")
        text = _source(ROOT / file, name)
        for setting in changed.split():
            words = setting.rpartition(".")[2], "GATEWAY_" + setting.upper().replace(".", "__"), plain.get(setting, "_")
            assert any(re.search(rf"\b{word}\b", text) for word in words), f"{test} does not name {setting}"


def _source(file: Path, name: str) -> str:
    """Return the text of a test, with its decorators but without its name."""
    text = file.read_text(encoding="utf-8")
    for each in ast.walk(ast.parse(text)):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name == name:
            first = min([each.lineno, *(decorator.lineno for decorator in each.decorator_list)])
            return "\n".join(text.splitlines()[first - 1 : each.end_lineno]).replace(f"def {name}(", "")
    raise AssertionError(f"{file} has no test {name}")
