"""The lists in the documents are complete: routes, rules, metrics, fields of /status and of events."""

import json
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.configuration import PLAIN_NAMES
from schemas import BUILT_IN, own
from tests import docs_tables
from tests.documents import DOCS, Document, code
from tests.gateway_process import Gateway, GatewayFactory

API = Document(DOCS / "api.md")
NOT_OF_USERS = {"verification"}  # what `gateway verify` sends


@pytest.fixture
def running(gateway: GatewayFactory) -> Gateway:
    """A gateway with both sinks, one of which is in trouble, and some events behind it."""
    both = {"ELASTICSEARCH_URL": "http://127.0.0.1:1", "GATEWAY_STORE__ENABLED": "true"}
    started = gateway(env={**both, "GATEWAY_ELASTICSEARCH__RETENTION_DAYS": "30"})
    started.http.post("/v1/events", content=b'{"model_name":"m"}\nbroken')
    started.send_tcp(b'{"model_name":"m"}\n')
    started.wait_until(
        lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 2 and now["sinks"]["elasticsearch"]["last_error"]
    )
    return started


def test_fields_of_events() -> None:
    """The tables of fields are as the schemas have them: python -m tests.docs_tables --write."""
    text = docs_tables.EVENTS.read_text(encoding="utf-8")
    assert docs_tables.renewed(text) == text
    assert {*docs_tables.marked(text)} == {*BUILT_IN.kinds} - NOT_OF_USERS


def test_types_of_fields() -> None:
    """events.md lists every type that fields of one's own are made of."""
    rows = Document(DOCS / "events.md").table("Fields are made of these types")
    assert {name for row in rows for name in code(row[0])} == set(own.TYPES)


def test_environment_names() -> None:
    """settings.md lists the names without two underscores."""
    rows = Document(DOCS / "settings.md").table("Without two underscores")
    assert {code(name)[0]: code(setting)[0] for name, setting in rows} == PLAIN_NAMES


@pytest.mark.process
def test_routes(running: Gateway) -> None:
    """Every route is in the first table of api.md, and there are no others."""
    described = running.http.get("/openapi.json").json()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    listed = {route for row in API.table("# HTTP API") for route in code(row[0])}
    assert listed == there | {"GET /", "GET /docs", "GET /openapi.json"}
    for page in ("/", "/docs", "/openapi.json"):
        assert running.http.get(page).status_code == 200


@pytest.mark.process
def test_rules(running: Gateway) -> None:
    """Each example of a refused event is refused by the rule beside which it stands."""
    rows = API.table("### Why an event is refused")
    examples = {example: rules for rules, _, *rest in rows if (example := "".join(rest).strip("`"))}
    assert len(examples) >= 18
    for example, rules in examples.items():
        (error,) = running.http.post("/v1/events", content=example.encode()).json()["errors"]
        assert error["rule"] in code(rules), (example, error)


@pytest.mark.process
def test_metrics(running: Gateway) -> None:
    """Every metric is in the table, with its type and labels, and there are no others."""
    running.wait_until(lambda now: now["sinks"]["elasticsearch"]["state"] == "retrying")
    found = {}
    for family in text_string_to_metric_families(running.http.get("/metrics").text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    listed = {code(name)[0]: (kind, set(code(labels))) for name, kind, labels, _ in API.table("## GET /metrics")}
    # Nothing was sent twice here; those of models: tests/monitoring/test_metrics.py
    labels_unseen = {"gateway_events_retried_total", *(name for name in found if not name.startswith("gateway_"))}
    for name in labels_unseen:
        found[name] = (found[name][0], listed[name][1])
    assert listed == found


@pytest.mark.process
def test_fields_of_status(running: Gateway) -> None:
    """Every field of /status is in the table, and there are no others."""
    status = running.status()
    names = {*status["sources"], *status["sinks"], "each"}
    there = set(leaves(status, ()))
    listed = [name for row in API.table("## GET /status") for name in code(row[0])]
    patterns = [re.compile(re.escape(name).replace(r"\*", f"({'|'.join(names)})")) for name in listed]
    assert {leaf for leaf in there if not any(pattern.fullmatch(leaf) for pattern in patterns)} == set()
    assert [name for name, each in zip(listed, patterns, strict=True) if not any(map(each.fullmatch, there))] == []


def leaves(value: Any, steps: tuple[str, ...]) -> list[str]:
    """Return the dotted names of all that is no object."""
    if isinstance(value, dict):
        return [leaf for key, each in value.items() for leaf in leaves(each, (*steps, key))]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [leaf for one in value for leaf in leaves(one, (*steps, "each"))]
    return [".".join(steps)]


def test_examples_of_json_are_json() -> None:
    """An example that leaves nothing out can be read."""
    for block in API.blocks("json"):
        if "…" not in block.text:
            json.loads(block.text)
