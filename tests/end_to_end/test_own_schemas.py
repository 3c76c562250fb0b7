"""Fields and kinds of one's own, from the settings to the answer of a search, on both stores."""

import json
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from schemas import BUILT_IN
from tests.cli.test_check import check
from tests.elasticsearch_node.client import EsClient
from tests.end_to_end.test_first_event import search
from tests.gateway_process import Gateway, GatewayFactory
from tests.test_kinds import SENSOR

pytestmark = pytest.mark.process
FIELDS = {
    "tokens": {"type": "integer", "minimum": 0, "description": "Tokens used."},
    "prompt": {"type": "text"},
    "due": {"type": "date"},
    # A word of the engines' own.
    "row": {"type": "string"},
    "v": {"type": "number"},
    "old": {"type": "boolean"},
}
EVENTS: list[dict[str, Any]] = [
    {"model_name": "m", "tokens": "5", "prompt": "two words", "due": 1781524800, "row": 1, "v": "1.5", "old": True},
    {"model_name": "m", "tokens": -1},
    {"sensor_id": 7, "celsius": "21.5"},
    {"type": "sensor", "sensor_id": 8, "humidity": 101},
    {"type": "sensor", "celsius": 3},
]
FOUND = {
    "tokens:5": "ml-metrics",
    "prompt:two words": "ml-metrics",
    "due:2026-06-15T12:00:00Z": "ml-metrics",
    "row:1": "ml-metrics",
    "v:1.5": "ml-metrics",
    "old:true": "ml-metrics",
    "sensor_id:7": "ml-sensors",
    "celsius:21.5": "ml-sensors",
}


def settings(folder: Path, fields: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    """Return settings with extra fields and the kind `sensor`."""
    file = folder / "sensor.py"
    file.write_text(SENSOR)
    return {"schemas": {"extra_fields": {"model_inference": fields or FIELDS}, "files": [str(file)]}, **sections}


def post_all(running: Gateway) -> None:
    """Post the events; those that break a rule are refused by path and rule, the others are kept."""
    answer = running.http.post("/v1/events", json=EVENTS)
    assert answer.status_code == httpx.codes.MULTI_STATUS
    assert [(each["index"], each["path"], each["rule"]) for each in answer.json()["errors"]] == [
        (1, "$.tokens", "greater_than_equal"),
        (3, "$.humidity", "less_than_equal"),
        (4, "$.sensor_id", "missing"),
    ]
    assert answer.json()["accepted"] == 2


def look_for_all(running: Gateway, prefix: str = "") -> None:
    """Each value is found by its field, in its index, and the two documents are as they should be."""
    for where, index in FOUND.items():
        (hit,) = search(running, 1, where=where)
        assert hit["_index"].startswith(f"{prefix}{index}-"), where
    (hit,) = search(running, 1, where="tokens:5")
    kept = {"tokens": 5, "prompt": "two words", "due": "2026-06-15T12:00:00Z", "row": "1", "v": 1.5, "old": True}
    assert hit["_source"].items() >= kept.items()
    (hit,) = search(running, 1, index=f"{prefix}ml-sensors-*")
    assert hit["_source"].items() >= {"sensor_id": "7", "celsius": 21.5, "type": "sensor"}.items()


def test_on_elasticsearch(gateway: GatewayFactory, es: EsClient, tmp_path: Path) -> None:
    """The real Elasticsearch has each field with its type, and finds it."""
    config = settings(tmp_path, events={"index_prefix": es.prefix})
    running = gateway(config=config, env={"ELASTICSEARCH_URL": es.url})
    post_all(running)
    look_for_all(running, es.prefix)
    mapped = {}
    for index in es.indices():
        mapped[index[len(es.prefix) : -len("-YYYY.MM.dd")]] = es.get(f"/{index}/_mapping")[index]["mappings"][
            "properties"
        ]
    types = {name: mapped["ml-metrics"][name]["type"] for name in FIELDS}
    assert types == {
        "tokens": "long",
        "prompt": "text",
        "due": "date",
        "row": "keyword",
        "v": "double",
        "old": "boolean",
    }
    assert mapped["ml-sensors"]["sensor_id"]["type"] == "keyword"
    assert mapped["ml-sensors"]["celsius"]["type"] == "double"
    assert running.http.get("/v1/schemas").json()["schemas"][0]["index"] == f"{es.prefix}ml-sensors-*"


def test_on_the_embedded_store(gateway: GatewayFactory, tmp_path: Path) -> None:
    """The embedded store has a column of its type for each field, and finds it."""
    running = gateway(config=settings(tmp_path))
    post_all(running)
    look_for_all(running)
    assert running.stop() == 0
    with duckdb.connect(running.data_dir / "store.duckdb", read_only=True) as db:
        columns = {
            (table.removesuffix(table[-11:]), column): kind
            for table, column, kind in db.execute(
                "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE schema_name = 'main'"
            ).fetchall()
        }
    expected = {
        "tokens": "BIGINT",
        "prompt": "VARCHAR",
        "due": "TIMESTAMP",
        "row": "VARCHAR",
        "v": "DOUBLE",
        "old": "BOOLEAN",
    }
    assert {name: columns["ml-metrics", name] for name in FIELDS} == expected
    assert columns["ml-sensors", "celsius"] == "DOUBLE"


def test_a_field_that_is_named_later(gateway: GatewayFactory, tmp_path: Path) -> None:
    """What was sent before a field was in the settings is found by it afterwards, before and after a new event."""
    running = gateway(config=settings(tmp_path, {name: FIELDS[name] for name in ("row", "v", "old")}))
    running.http.post("/v1/events", json={"model_name": "m", "tokens": 5, "row": "r", "v": 2, "old": False})
    search(running, 1, where="tokens:5")
    assert running.config_file is not None
    running.config_file.write_text(json.dumps(settings(tmp_path)))
    running.restart()
    assert running.http.post("/v1/events", json={"model_name": "m", "tokens": "five"}).status_code == 400
    search(running, 1, where="tokens:5")
    running.http.post("/v1/events", json={"model_name": "m", "tokens": 5})
    search(running, 2, where="tokens:5")
    search(running, 1, where=["tokens:5", "row:r", "v:2", "old:false"])
    running.stop()
    with duckdb.connect(running.data_dir / "store.duckdb", read_only=True) as db:
        (table,) = db.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'").fetchall()[0]
        assert db.execute(f'SELECT tokens FROM "{table}"').fetchall() == [(5,), (5,)]


def test_the_schemas_are_told(gateway: GatewayFactory, tmp_path: Path) -> None:
    """`/v1/schemas` lists the kinds with their fields, `/v1/schemas/KIND` is a kind's JSON schema."""
    running = gateway(config=settings(tmp_path))
    listed = {each["kind"]: each for each in running.http.get("/v1/schemas").json()["schemas"]}
    assert listed.keys() == {"sensor", *BUILT_IN.kinds} - {"verification"}
    sensor = listed["sensor"]
    fields = {each["name"]: each for each in sensor["fields"]}
    assert {name: each for name, each in sensor.items() if name != "fields"} == {
        "kind": "sensor",
        "type": "sensor",
        "index": "ml-sensors-*",
        "description": "One reading of a sensor.",
        "decided_by": ["sensor_id"],
        "url": "/v1/schemas/sensor",
    }
    assert fields.keys() == {"@timestamp", "timestamp", "type", "event_id", "sensor_id", "celsius", "humidity"}
    (tokens,) = (each for each in listed["model_inference"]["fields"] if each["name"] == "tokens")
    expected = {"name": "tokens", "type": "integer", "required": False, "description": "Tokens used.", "minimum": 0}
    assert tokens == expected

    for kind, each in listed.items():
        answer = running.http.get(each["url"])
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/schema+json")
        schema = answer.json()
        assert (schema["title"], schema["description"]) == (kind, each["description"])
        assert {field["name"] for field in each["fields"]} < schema["properties"].keys()
    schema = running.http.get("/v1/schemas/model_inference").json()
    assert schema["properties"]["tokens"]["description"] == "Tokens used."
    assert schema["required"] == ["model_name"]

    answer = running.http.get("/v1/schemas/sensr")
    assert answer.status_code == 404
    assert answer.json()["error"].startswith("There is no kind 'sensr': there are sensor, mlflow_event, ")


def test_a_mistake_ends_a_start(tmp_path: Path) -> None:
    """With a broken file `gateway serve` ends with exit code 1 and the sentences of `gateway check`."""
    broken = settings(tmp_path)
    (tmp_path / "sensor.py").write_text(SENSOR + "\nSENSOR.nothing\n")
    (tmp_path / "gateway.yaml").write_text(json.dumps(broken))
    ended = check(tmp_path, word="serve")
    line = len(SENSOR.splitlines()) + 2
    assert ended.returncode == 1
    assert ended.stderr == (
        f"gateway: schemas.files: {tmp_path}/sensor.py, line {line}: AttributeError: 'Kind' object has no attribute"
        " 'nothing'.\n"
    )


@pytest.mark.parametrize("word", ["check", "serve"])
def test_the_kind_of_events_is_wrong(tmp_path: Path, word: str) -> None:
    """Extra fields of a kind that is not there are told with those that are."""
    (tmp_path / "gateway.yaml").write_text("schemas: {extra_fields: {inference: {x: {type: string}}}}")
    ended = check(tmp_path, word=word)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "schemas.extra_fields.inference: there is no kind 'inference', there are " in line
