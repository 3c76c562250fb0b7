"""Settings: where they come from, who wins, and what is said when they are wrong."""

from __future__ import annotations

import json
import re
import traceback
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import BaseModel, ValidationError

from gateway.configuration import load
from gateway.errors import SettingsError
from gateway.settings import Settings

BAD = sorted((Path(__file__).parent / "fixtures" / "bad_config").glob("*.yaml"))
SECRET = "the-secret"  # what no message may hold


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No gateway.yaml of the developer is read."""
    monkeypatch.chdir(tmp_path)


def mistakes(file: Path | None = None, environ: dict[str, str] | None = None, flags: Any = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(file, environ or {}, flags)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return caught.value.mistakes


def get(settings: BaseModel, path: str) -> Any:
    found: Any = settings
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(
    ("path", "default"),
    [
        ("data_dir", Path("data")),
        ("tcp.port", 5001),
        ("tcp.tls_port", 5002),
        ("tcp.host", "127.0.0.1"),
        ("tcp.max_line_bytes", 2**20),
        ("tcp.max_connections", 10_000),
        ("http.port", 8080),
        ("http.host", "127.0.0.1"),
        ("http.max_body_bytes", 10 * 2**20),
        ("http.api_keys", ()),
        ("limits.bytes_per_sec", None),
        ("events.max_age_days", 90),
        ("events.max_future_secs", 600),
        ("events.naive_timezone", "UTC"),
        ("events.default_kind", None),
        ("enrichment.confidence.high", 0.85),
        ("enrichment.confidence.medium", 0.70),
        ("enrichment.latency.fast", 50),
        ("enrichment.latency.normal", 200),
        ("enrichment.latency.slow", 1000),
        ("spool.max_bytes", 10 * 2**30),
        ("spool.min_free_bytes", 2**30),
        ("dead_letters.max_bytes", 2**30),
        ("elasticsearch.urls", ()),
        ("elasticsearch.flush_after_secs", 0.2),
        ("elasticsearch.manage_templates", True),
        ("elasticsearch.index_retry_secs", 3600),
        ("elasticsearch.retention_days", None),
        ("elasticsearch.ilm", False),
        ("store.retention_days", 30),
        ("drain_timeout_secs", 10),
    ],
)
def test_defaults(path: str, default: Any) -> None:
    """The defaults are those of the contract."""
    assert get(load(environ={}), path) == default


def test_rank(tmp_path: Path) -> None:
    """Flags beat the environment, which beats the file, which beats the defaults, field by field."""
    file = tmp_path / "mine.yaml"
    file.write_text("tcp: {port: 1, tls_port: 1, host: a}\nhttp: {port: 1}\ndata_dir: file\n")
    environ = {"GATEWAY_TCP__PORT": "2", "GATEWAY_TCP__TLS_PORT": "2", "GATEWAY_DATA_DIR": "environment"}
    settings = load(file, environ, {"tcp": {"port": 3}})
    tcp = settings.tcp
    assert (tcp.port, tcp.tls_port, tcp.host, settings.http.port) == (3, 2, "a", 1)
    assert settings.data_dir == Path("environment")
    assert load(file, {}, {"data_dir": "flag"}).data_dir == Path("flag")


def test_the_file_in_the_working_directory(tmp_path: Path) -> None:
    """gateway.yaml is read when it is there; an empty one says nothing; a file that is named must be there."""
    (tmp_path / "gateway.yaml").write_text("tcp: {port: 7}\n")
    assert load(environ={}).tcp.port == 7
    (tmp_path / "gateway.yaml").write_text("# nothing yet\n")
    assert load(environ={}).model_dump() == Settings().model_dump()
    assert mistakes(tmp_path / "none.yaml") == [
        f"The settings file {tmp_path / 'none.yaml'} cannot be read: No such file or directory."
    ]


def test_an_empty_section_says_nothing(tmp_path: Path) -> None:
    """A section of which every line is commented out changes nothing, at the top and further down."""
    file = tmp_path / "mine.yaml"
    file.write_text("tcp:\nlimits:\n  # bytes_per_sec: 1\nenrichment:\n  latency:\n  confidence: {high: 0.9}\n")
    settings = load(file, {"GATEWAY_TCP__PORT": "7"})
    assert (settings.tcp.port, settings.limits.bytes_per_sec, settings.enrichment.latency.fast) == (7, None, 50)
    assert settings.enrichment.confidence.high == 0.9


@pytest.mark.parametrize(
    ("name", "value", "path", "expected"),
    [
        ("GATEWAY_DATA_DIR", "/var/lib/gateway", "data_dir", Path("/var/lib/gateway")),
        ("GATEWAY_DATA_DIR", "", "data_dir", Path("data")),
        ("GATEWAY_DRAIN_TIMEOUT_SECS", "2.5", "drain_timeout_secs", 2.5),
        ("GATEWAY_TCP__MAX_LINE_BYTES", "1000", "tcp.max_line_bytes", 1000),
        ("GATEWAY_TCP__ENABLED", "false", "tcp.enabled", False),
        ("GATEWAY_EVENTS__MAX_AGE_DAYS", "null", "events.max_age_days", None),
        ("GATEWAY_EVENTS__MAX_AGE_DAYS", "400", "events.max_age_days", 400),
        ("GATEWAY_EVENTS__DEFAULT_KIND", "log", "events.default_kind", "log"),
        ("GATEWAY_ENRICHMENT__LATENCY__FAST", "5", "enrichment.latency.fast", 5),
        ("GATEWAY_ELASTICSEARCH__URLS", '["http://a:1"]', "elasticsearch.urls", ("http://a:1",)),
        ("ELASTICSEARCH_URL", "http://a:1", "elasticsearch.urls", ("http://a:1",)),
        ("ELASTICSEARCH_URL", "http://a:1, https://b:2,", "elasticsearch.urls", ("http://a:1", "https://b:2")),
        ("ELASTICSEARCH_URL", "", "elasticsearch.urls", ()),
        ("ELASTICSEARCH_USERNAME", "", "elasticsearch.username", None),
        ("ELASTICSEARCH_CA_CERTS", "/ca.pem", "elasticsearch.ca_certs", Path("/ca.pem")),
        # Not ours: Kubernetes and others set such names.
        ("GATEWAY_PORT", "tcp://10.0.0.1:8080", "http.port", 8080),
        ("GATEWAY_SERVICE_PORT", "1", "tcp.port", 5001),
        ("GATEWAY_PORT_8080_TCP", "tcp://10.0.0.1:8080", "http.port", 8080),
        ("GATEWAY_TCP", "{}", "tcp.port", 5001),
        ("TCP__PORT", "1", "tcp.port", 5001),
        ("gateway_tcp__port", "1", "tcp.port", 5001),
    ],
)
def test_environment(name: str, value: str, path: str, expected: Any) -> None:
    """The environment sets what its names say; names that are not the gateway's are left alone."""
    assert get(load(environ={name: value}), path) == expected


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("GATEWAY_TPC__PORT", "GATEWAY_TPC__PORT is not a setting"),
        ("GATEWAY_TCP__PROT", "tcp.prot is not a setting"),
        ("GATEWAY_TCP__PORT__X", "tcp.port"),
        ("GATEWAY_DATA_DIR__X", "GATEWAY_DATA_DIR__X is not a setting"),
        ("GATEWAY___", "GATEWAY___ is not a setting"),
        ("GATEWAY_ENRICHMENT__LATENCY__QUICK", "enrichment.latency.quick is not a setting"),
    ],
)
def test_unknown_names(name: str, says: str) -> None:
    """A name with two underscores that is no setting is refused."""
    (mistake,) = mistakes(environ={name: "1"})
    assert says in mistake


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_bad_files(file: Path) -> None:
    """Each mistake in a file is one sentence, which names the setting and never shows a secret."""
    expected = file.read_text().splitlines()[0].removeprefix("# says: ")
    (mistake,) = mistakes(file)
    assert expected in mistake
    assert re.fullmatch(r"[^\n]+[.?]", mistake)


def test_every_mistake_at_once(tmp_path: Path) -> None:
    """All mistakes of file, environment and flags are told together."""
    file = tmp_path / "bad.yaml"
    file.write_text("tcp: {port: -1, colour: red}\nspool: {max_bytes: 1}\n")
    environ = {
        "GATEWAY_HTTP__PORT": "x",
        "GATEWAY_NO__SUCH": "1",
        "GATEWAY_ENRICHMENT__MODELS": "{broken",
        "ELASTICSEARCH_API_KEY_FILE": "/nowhere",
    }
    told = mistakes(file, environ, {"events": {"max_future_secs": -1}})
    for part in (
        "tcp.port",
        "tcp.colour",
        "spool.max_bytes",
        "GATEWAY_NO__SUCH",
        "environment cannot be read",
        "/nowhere",
        "max_future",
    ):
        assert sum(part in mistake for mistake in told) == 1, part
    without_json = {name: value for name, value in environ.items() if "MODELS" not in name}
    assert any("http.port" in mistake for mistake in mistakes(file, without_json))


SECRET_NAMES = {
    "ELASTICSEARCH_API_KEY": "elasticsearch.api_key",
    "GATEWAY_ELASTICSEARCH__API_KEY": "elasticsearch.api_key",
    "GATEWAY_HTTP__API_KEYS": "http.api_keys",
}


@pytest.mark.parametrize(("name", "path"), SECRET_NAMES.items())
@pytest.mark.parametrize("from_file", [False, True])
def test_secrets(name: str, path: str, from_file: bool, tmp_path: Path) -> None:
    """A secret comes from the environment or a file it names, and is shown nowhere."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    settings = load(environ={f"{name}_FILE": str(file)} if from_file else {name: SECRET})
    found = get(settings, path)
    assert (found[0].key if path == "http.api_keys" else found).get_secret_value() == SECRET
    shown = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump()), f"{found}"]
    assert all(SECRET not in text for text in shown)


def test_several_keys(tmp_path: Path) -> None:
    """Several keys may stand in one name, by comma or a line each, or with tenants as JSON."""
    file = tmp_path / "keys"
    file.write_text("one\ntwo\n\n")
    keyed = json.dumps([{"key": "one", "tenant": "blue"}, "two"])
    for environ in ({"GATEWAY_HTTP__API_KEYS": "one, two"}, {"GATEWAY_HTTP__API_KEYS_FILE": str(file)}):
        assert [key.key.get_secret_value() for key in load(environ=environ).http.api_keys] == ["one", "two"]
    assert [key.tenant for key in load(environ={"GATEWAY_HTTP__API_KEYS": keyed}).http.api_keys] == ["blue", None]


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "empty"), (b" \n", "empty"), (b"\xff\xfe", "UTF-8"), (None, "No such")]
)
def test_bad_secret_files(content: bytes | None, says: str, tmp_path: Path) -> None:
    """A secret's file that is missing or empty is a mistake: no door stays open by it."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    (mistake,) = mistakes(environ={"GATEWAY_HTTP__API_KEYS_FILE": str(file)})
    assert says in mistake
    assert str(file) in mistake


@pytest.mark.parametrize(
    "environ",
    [
        {"ELASTICSEARCH_URL": f"ftp://elastic:{SECRET}@host:9200"},
        {"ELASTICSEARCH_URL": f"elastic:{SECRET}@host:9200"},
        {"ELASTICSEARCH_PASSWORD": SECRET},
        {"ELASTICSEARCH_API_KEY": SECRET, "ELASTICSEARCH_USERNAME": "a", "ELASTICSEARCH_PASSWORD": SECRET},
        {"GATEWAY_HTTP__API_KEYS": f'["{SECRET}"'},
        {"GATEWAY_HTTP__API_KEYS": f'[{{"kee": "{SECRET}"}}]'},
        {"GATEWAY_HTTP__API_KEYS": f'[["{SECRET}"]]'},
        {"GATEWAY_HTTP__API_KEYS__0": SECRET},
        {"GATEWAY_ELASTICSEARCH__PASSWORT": SECRET},
    ],
)
def test_secrets_in_mistakes(environ: dict[str, str]) -> None:
    """A mistake with a secret is told without the secret."""
    assert mistakes(environ=environ)


def test_user_in_the_address() -> None:
    """A user in the address is used, and the address is shown without it."""
    settings = load(environ={"ELASTICSEARCH_URL": f"https://elastic:{SECRET}%21@host:9200,https://other:9200"})
    found = settings.elasticsearch
    assert (found.urls, found.username) == (("https://host:9200", "https://other:9200"), "elastic")
    assert found.password is not None
    assert found.password.get_secret_value() == f"{SECRET}!"
    assert SECRET not in repr(settings)
    named = {"ELASTICSEARCH_USERNAME": "me", "ELASTICSEARCH_PASSWORD": "mine"}
    assert load(environ={"ELASTICSEARCH_URL": "http://a:b@host:1", **named}).elasticsearch.username == "me"


def test_models_inherit(tmp_path: Path) -> None:
    """What a model's thresholds leave out is as in the common ones, whatever source names it."""
    file = tmp_path / "mine.yaml"
    file.write_text("enrichment: {latency: {fast: 10}, models: {fraud: {latency: {slow: 5000}}, churn: {}}}\n")
    settings = load(file, {"GATEWAY_ENRICHMENT__CONFIDENCE__HIGH": "0.9"}).enrichment
    fraud, churn = settings.models["fraud"], settings.models["churn"]
    assert (fraud.latency.fast, fraud.latency.normal, fraud.latency.slow) == (10, 200, 5000)
    assert (fraud.confidence.high, churn.confidence.high, churn.latency.fast) == (0.9, 0.9, 10)
    assert settings.latency.slow == 1000


def test_frozen() -> None:
    """Settings do not change while the gateway runs."""
    with pytest.raises(ValidationError):
        load(environ={}).tcp.port = 1  # type: ignore[misc]


def test_every_field_is_described() -> None:
    """Every setting says what it means."""

    def walk(model: type[BaseModel]) -> None:
        for name, field in model.model_fields.items():
            assert field.description, name
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation)

    walk(Settings)


def test_contradictions_are_told_of_sound_sections_only() -> None:
    """What a section with a mistake would have said is not held against another."""
    flags = {"store": {"enabled": False}, "elasticsearch": {"urls": ["localhost"]}}
    (mistake,) = mistakes(flags=flags)
    assert "'localhost' is not an address" in mistake
    apart = {"http": {"host": "127.0.0.2", "port": 5001}, "tcp": {"tls_port": 5001}}
    assert load(environ={}, flags=apart).http.port == 5001
    assert load(environ={}, flags={"http": {"port": 0}, "tcp": {"port": 0}}).tcp.port == 0


@pytest.mark.parametrize("limit", ["512MB", "2GiB", "0.5 gb", "100000KiB"])
def test_memory_as_the_engine_takes_it(limit: str) -> None:
    """What is accepted as memory of the store's engine, it takes."""
    accepted = load(environ={}, flags={"store": {"memory_limit": limit}}).store.memory_limit
    duckdb.connect(":memory:", config={"memory_limit": accepted}).close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("refresh_interval", each) for each in ("-1", "0", "500ms", "30s", "2m")),
        *(("auto_expand_replicas", each) for each in ("false", "0-2", "0-all")),
    ],
)
def test_what_elasticsearch_takes_of_a_new_index(name: str, value: str) -> None:
    """Every form that Elasticsearch takes is accepted."""
    assert get(load(environ={}, flags={"elasticsearch": {name: value}}), f"elasticsearch.{name}") == value


@pytest.mark.parametrize(
    ("urls", "enabled", "expected"), [([], None, True), (["http://a"], None, False), (["http://a"], True, True)]
)
def test_the_store_is_the_sink_unless(urls: list[str], enabled: bool | None, expected: bool) -> None:
    """Without an Elasticsearch the embedded store is the sink; beside one only when it is enabled."""
    flags = {"elasticsearch": {"urls": urls}, "store": {"enabled": enabled}}
    assert load(environ={}, flags=flags).store_enabled is expected


def test_one_text_is_a_list_of_one(tmp_path: Path) -> None:
    """Where a list is wanted, one text in the file is taken as one, or as several by comma."""
    file = tmp_path / "gateway.yaml"
    file.write_text("http: {api_keys: one}\nelasticsearch: {urls: 'http://a:1, http://b:2'}\n")
    settings = load(file, {})
    assert [key.key.get_secret_value() for key in settings.http.api_keys] == ["one"]
    assert settings.elasticsearch.urls == ("http://a:1", "http://b:2")
