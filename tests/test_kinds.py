"""`schemas` in the settings: what it makes, and every mistake in it told in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.configuration import load
from gateway.errors import SettingsError
from gateway.kinds import make_registry
from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.templates import wanted
from schemas import BUILT_IN
from tests.cli.test_check import check

SENSOR = '''
from __future__ import annotations

from typing import Annotated, Required

from pydantic import Field, with_config

from schemas import Kind
from schemas.event import KEEP_EXTRAS, Event
from schemas.kinds import LABEL
from schemas.types import Number, Text, between

Humidity = Annotated[float, *between(0, 100)]


@with_config(KEEP_EXTRAS)
class Reading(Event, total=False):
    """One reading of a sensor."""

    sensor_id: Required[Annotated[Text, Field(description="The sensor.")]]
    celsius: Annotated[Number | None, Field(description="Temperature.")]
    humidity: Annotated[Humidity | None, Field(description="In percent.")]


SENSOR = Kind("sensor", "sensor", "ml-sensors", Reading, decided_by=("sensor_id",))
'''


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No gateway.yaml of the developer is read."""
    monkeypatch.chdir(tmp_path)


def mistakes(**schemas: Any) -> list[str]:
    """Return what is wrong with this section of the settings."""
    with pytest.raises(SettingsError) as caught:
        make_registry(load(environ={}, flags={"schemas": schemas}))
    return caught.value.mistakes


def test_without_settings_the_kinds_are_the_built_in_ones() -> None:
    """Nothing set is nothing changed."""
    assert make_registry(load(environ={})) is BUILT_IN


def test_extra_fields_from_the_environment() -> None:
    """The section may be set as JSON in the environment, and a file as plain text."""
    fields = {"model_inference": {"tokens": {"type": "integer", "minimum": 0}}}
    Path("sensor.py").write_text(SENSOR)
    environ = {"GATEWAY_SCHEMAS__EXTRA_FIELDS": json.dumps(fields), "GATEWAY_SCHEMAS__FILES": "sensor.py"}
    registry = make_registry(load(environ=environ))
    assert registry.columns("ml-metrics") == {**BUILT_IN.columns("ml-metrics"), "tokens": "long"}
    assert registry.columns("ml-sensors").items() >= {"sensor_id": "keyword", "celsius": "double"}.items()
    assert list(registry.kinds) == ["sensor", *BUILT_IN.kinds]
    assert list(BUILT_IN.columns("ml-metrics")) == [name for name in registry.columns("ml-metrics") if name != "tokens"]


def test_a_kind_of_ones_own_may_have_extra_fields_too() -> None:
    """A field may be added to a kind that a file defines."""
    Path("sensor.py").write_text(SENSOR)
    settings = load(
        environ={}, flags={"schemas": {"files": "sensor.py", "extra_fields": {"sensor": {"room": {"type": "string"}}}}}
    )
    assert make_registry(settings).columns("ml-sensors")["room"] == "keyword"


def test_annotations_are_read_where_they_are_written() -> None:
    """Files of the same name each mean their own names, also with annotations that are read late."""
    for folder, name, most in (("a", "one", 100), ("b", "two", 7)):
        Path(folder).mkdir()
        text = SENSOR.replace("sensor", name).replace("between(0, 100)", f"between(0, {most})")
        Path(folder, "own.py").write_text(text)
    registry = make_registry(load(environ={}, flags={"schemas": {"files": ["a/own.py", "b/own.py"]}}))
    for name, good in (("one", True), ("two", False)):
        event = {f"{name}_id": "s", "humidity": 50}
        assert (registry.kinds[name].validate([event]) == [event]) == good


def test_a_key_of_ones_own_decides_first() -> None:
    """An event with it is of one's own kind whatever else it has, unless its type says otherwise; all others stay."""
    Path("sensor.py").write_text(SENSOR)
    fields = {"log": {"room": {"type": "string"}}}
    flags = {"schemas": {"files": "sensor.py", "extra_fields": fields}}
    registry = make_registry(load(environ={}, flags=flags))
    for event, name in (
        ({"sensor_id": 7, "model_name": "m"}, "sensor"),
        ({"sensor_id": 7, "message": "m", "type": "logstash"}, "sensor"),
        ({"sensor_id": 7, "model_name": "m", "type": "model_inference"}, "model_inference"),
        ({"sensor_id": None, "model_name": "m"}, "model_inference"),
        ({"event_type": "x", "model_name": "m"}, "mlflow_event"),
        ({"model_name": "m", "message": "m"}, "model_inference"),
    ):
        assert registry.choose(event) is registry.kinds[name]


def test_the_template_of_one_index_changes() -> None:
    """With an extra field the template of its index has another version, so that it is put in place; no other has."""
    fields = {"model_inference": {"tokens": {"type": "integer"}}}
    registry = make_registry(load(environ={}, flags={"schemas": {"extra_fields": fields}}))
    before, after = (wanted(Elasticsearch(), "", each) for each in (BUILT_IN, registry))
    assert [name for name in before if before[name] != after[name]] == ["ml-log-gateway-ml-metrics"]
    versions = [each["ml-log-gateway-ml-metrics"]["_meta"]["version"] for each in (before, after)]
    assert versions[0] != versions[1]


@pytest.mark.parametrize(
    ("fields", "told"),  # after schemas.extra_fields.
    [
        ({"inference": {}}, "inference: there is no kind 'inference', there are mlflow_event,"),
        ({"mlflow_event": {"x": {"type": "string"}}}, "mlflow_event: its events are stored as they were sent"),
        ({"log": {"level": {"type": "string"}}}, "log.level: log has the field 'level' already:"),
        ({"log": {"Level": {"type": "string"}}}, "log.Level: log has the field 'level' already:"),
        (
            {"log": {"tenant": {"type": "string"}}},
            "log.tenant: the gateway uses this name itself: choose another name.",
        ),
        ({"log": {"_id": {"type": "string"}}}, "log._id: a field's name is letters, digits"),
        ({"log": {"a.b": {"type": "string"}}}, "log.a.b: a field's name is letters, digits"),
        ({"log": {"x": {"type": "string"}, "X": {"type": "string"}}}, "log.X: log has the field 'x' already"),
        (
            {"model_inference": {"latency_category": {"type": "string"}}},
            "model_inference.latency_category: model_inference has the field 'latency_category' already",
        ),
        # What settings say of themselves.
        ({"log": {"x": {"type": "int"}}}, "log.x.type: Input should be 'string', 'text', 'number',"),
        ({"log": {"x": {}}}, "log.x.type: Field required"),
        ({"log": {"x": {"type": "date", "minimum": 1}}}, "log.x: minimum and maximum are for number"),
        ({"log": {"x": {"type": "number", "minimum": 2, "maximum": 1}}}, "log.x: minimum 2 is greater than maximum 1."),
        ({"log": {"x": {"type": "integer", "maximum": 1.5}}}, "log.x: minimum and maximum of an integer"),
        ({"log": {"x": {"type": "integer", "maximum": 2**63}}}, "log.x: minimum and maximum of an integer"),
        ({"log": {"x": {"type": "string", "max": 1}}}, "log.x.max is not a setting: did you mean schemas."),
    ],
)
def test_a_mistake_in_extra_fields(fields: dict[str, Any], told: str) -> None:
    """Each is one sentence that names the field."""
    (sentence,) = mistakes(extra_fields=fields)
    assert sentence.startswith(f"schemas.extra_fields.{told}")
    assert sentence.endswith((".", "?"))


def test_fields_of_one_index_that_do_not_agree() -> None:
    """A field that another kind has in the same index, with another type, is told with both names."""
    (sentence,) = mistakes(extra_fields={"model_training": {"pipeline": {"type": "number"}}})
    assert "'pipeline' of kind 'model_training' and the field 'pipeline' of kind 'mlflow_event'" in sentence


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "own.py cannot be read: No such file or directory."),
        ("", "own.py defines no kind: give it one, such as X = Kind('x', 'x', 'ml-x', Event)."),
        ("from schemas.kinds import LABEL", "own.py defines no kind"),
        ("import json\n\nimport nothing_of_the_kind", "own.py, line 3: ModuleNotFoundError: No module named"),
        ("x = (\n", "own.py, line 1: SyntaxError: '(' was never closed."),
        ("def f():\n    return 1 / 0\n\nf()", "own.py, line 2: ZeroDivisionError: division by zero."),
        ("import json\njson.loads('{')", "own.py, line 2: JSONDecodeError: "),
        ("open('nothing')", "own.py, line 1: FileNotFoundError: "),
        ("assert False", "own.py, line 1: AssertionError."),
        ("raise SystemExit(3)", "own.py, line 1: SystemExit: 3."),
        ("from schemas import Kind\nX = Kind('x')", "own.py, line 2: TypeError: "),
        ("\0", "own.py: "),
        (SENSOR.replace('"sensor"', '"log"'), "own.py: kind 'log': there is a kind of this name already"),
        (SENSOR.replace("ml-sensors", "ML"), "own.py: kind 'sensor': its index 'ML' must be"),
        (SENSOR.replace("ml-sensors", "ml-audit"), "schemas: kind 'sensor' has the index 'ml-audit' of kind 'audit'"),
        (
            SENSOR.replace("@with_config(KEEP_EXTRAS)", ""),
            "own.py: kind 'sensor': write @with_config(KEEP_EXTRAS) above Reading",
        ),
        (
            SENSOR.replace("Number | None", "float | None"),
            "own.py: kind 'sensor': Reading.celsius is of no type that can be stored: take Text, FreeText, Number, ",
        ),
        (
            SENSOR.replace("celsius: Annotated[Number", "celsius: Annotated[Nmber"),
            "kind 'sensor': Reading cannot be used: name 'Nmber'",
        ),
    ],
)
def test_a_mistake_in_a_file(text: str | None, told: str) -> None:
    """Each is one sentence that names the file and where there is one the line."""
    if text is not None:
        Path("own.py").write_text(text)
    (sentence,) = mistakes(files="own.py")
    assert told in sentence
    assert sentence.startswith("schemas")
    assert "\n" not in sentence
    assert sentence.endswith(".")


def test_a_file_is_looked_for_in_the_working_directory(tmp_path: Path) -> None:
    """As every path in the settings, wherever the settings file lies; where it was looked for is told."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "gateway.yaml").write_text("schemas: {files: [sensor.py]}\n")
    settings = load(Path("etc/gateway.yaml"), environ={})
    with pytest.raises(SettingsError) as caught:
        make_registry(settings)
    assert caught.value.mistakes == [f"schemas.files: {tmp_path}/sensor.py cannot be read: No such file or directory."]
    (tmp_path / "sensor.py").write_text(SENSOR)
    assert "sensor" in make_registry(settings).kinds


@pytest.mark.parametrize(
    ("prefix", "index", "told"),
    [
        ("ml-metrics-", "ml-sensors", "'ml-metrics-' begins like the daily indices of 'ml-metrics'"),
        ("my-", "my-ml-audit", "'my-ml-audit' is an index of two kinds, 'ml-audit' with the prefix 'my-'"),
    ],
)
def test_a_prefix_that_makes_two_indices_one(prefix: str, index: str, told: str) -> None:
    """A prefix with which a template or an index would be that of another is refused."""
    Path("own.py").write_text(SENSOR.replace("ml-sensors", index))
    flags = {"schemas": {"files": "own.py"}, "events": {"index_prefix": prefix}}
    with pytest.raises(SettingsError) as caught:
        make_registry(load(environ={}, flags=flags))
    (sentence,) = caught.value.mistakes
    assert sentence.startswith("events.index_prefix: ")
    assert told in sentence


@pytest.mark.parametrize("prefix", ["", "team-", "ml-", "ml-metrics", "my-ml-metrics-", ".ml-"])
def test_a_prefix_that_is_sound(prefix: str) -> None:
    """Others may look like a part of an index."""
    assert make_registry(load(environ={}, flags={"events": {"index_prefix": prefix}})) is BUILT_IN


def test_a_file_named_twice() -> None:
    """The second time its kinds are there already."""
    Path("own.py").write_text(SENSOR)
    (sentence,) = mistakes(files=["own.py", "own.py"])
    assert "kind 'sensor': there is a kind of this name already" in sentence


@pytest.mark.process
def test_check_tells_every_mistake_at_once(tmp_path: Path) -> None:
    """`gateway check` and a start tell all of them, with exit code 1 and without a stack trace."""
    fields = {"log": {"level": {"type": "string"}, "a.b": {"type": "date"}}, "nothing": {}}
    schemas = {"extra_fields": fields, "files": ["none.py", "broken.py"]}
    (tmp_path / "gateway.yaml").write_text(json.dumps({"schemas": schemas, "events": {"naive_timezone": "Mars"}}))
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind")
    ended = check(tmp_path)
    assert ended.returncode == 1
    told = ["none.py", "broken.py, line 1", "log.level", "log.a.b", "extra_fields.nothing", "'Mars'"]
    lines = ended.stderr.splitlines()
    assert [sum(each in line for line in lines) for each in told] == [1] * len(lines)
    assert "Traceback" not in ended.stderr


@pytest.mark.process
def test_check_finds_sound_ones_sound(tmp_path: Path) -> None:
    """A file and extra fields without a mistake pass."""
    (tmp_path / "sensor.py").write_text(SENSOR)
    fields = {"model_inference": {"tokens": {"type": "integer", "minimum": 0, "description": "Tokens used."}}}
    (tmp_path / "gateway.yaml").write_text(json.dumps({"schemas": {"extra_fields": fields, "files": ["sensor.py"]}}))
    ended = check(tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
