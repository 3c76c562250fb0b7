"""Every setting: its name, meaning, unit and default.

Later beats earlier: defaults, the YAML file, the environment, command-line flags.
Environment names are ``GATEWAY_<SECTION>__<FIELD>``; the few without ``__`` are in `PLAIN_NAMES`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024
GIB = 1024 * MIB

_USER = re.compile(r"(?P<scheme>(https?://)?)(?P<user>[^:@/]*)(:(?P<password>.*))?@(?P<host>[^@]*)")

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(ge=1)]
Secs = Annotated[float, Field(gt=0)]


def _listed(value: object) -> object:
    """One text where a list is wanted is a list of one, or of several by comma."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Section(BaseModel):
    """A part of the settings: frozen, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tls(Section):
    """Certificates of a listener."""

    certificate: Path = Field(description="PEM file with the certificate chain.")
    key: Path = Field(description="PEM file with the private key.")
    client_ca: Path | None = Field(None, description="PEM file; clients must show a certificate it signed.")


class Tcp(Section):
    """JSON lines over TCP."""

    enabled: bool = Field(True, description="Listen for JSON lines over TCP.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(5001, description="Port for plain TCP; 0 lets the system choose.")
    tls_port: Port = Field(5002, description="Port for TLS, open when `tcp.tls` is set.")
    tls: Tls | None = Field(None, description="Certificate; when set, `tls_port` is opened too.")
    max_line_bytes: Positive = Field(MIB, description="Longest event, on every source, in bytes.")
    max_connections: Positive = Field(10_000, description="Open connections; one more is closed at once.")


class ApiKey(Section):
    """A key that HTTP callers show."""

    key: SecretStr = Field(description="The key itself.", min_length=1)
    tenant: str | None = Field(None, description="Written into every document sent with this key.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        """A key without a tenant may be given as its text alone."""
        return {"key": value} if isinstance(value, str) else value


class Http(Section):
    """Ingestion over HTTP, the API and the console."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8080, description="Port; 0 lets the system choose.")
    tls: Tls | None = Field(None, description="Certificate; when set, the port speaks HTTPS only.")
    max_body_bytes: Positive = Field(10 * MIB, description="Largest body, also after decompression, in bytes.")
    max_header_bytes: Positive = Field(64 * 1024, description="Largest request head, in bytes.")
    header_timeout_secs: Secs = Field(10, description="A request's head must be complete within this time.")
    body_timeout_secs: Secs = Field(60, description="A request's body must be complete within this time.")
    idle_timeout_secs: Annotated[int, Field(ge=1)] = Field(
        75, description="A kept-alive connection without a request is closed after this time."
    )
    max_connections: Positive = Field(10_000, description="Open connections; requests on one more get 503.")
    api_keys: Annotated[tuple[ApiKey, ...], BeforeValidator(_listed)] = Field(
        (), description="Keys of which one is needed; none: no key needed."
    )


class Limits(Section):
    """Rate limits for each tenant; none unless set."""

    bytes_per_sec: Positive | None = Field(None, description="Bytes of HTTP bodies a second; more gets 429.")
    burst_bytes: Positive | None = Field(None, description="Bytes at once above the rate; default twice the rate.")


class Events(Section):
    """What an event may be."""

    max_age_days: Positive | None = Field(90, description="Older events are refused, reason `clock`; null: no limit.")
    max_future_secs: Annotated[float, Field(ge=0)] = Field(
        600, description="Events further ahead of this machine's clock are refused, reason `clock`."
    )
    naive_timezone: str = Field("UTC", description="Time zone of timestamps that name none, such as Europe/Berlin.")
    default_kind: Literal["log"] | None = Field(
        None, description="`log` accepts events of no known kind as pipeline logs."
    )
    index_prefix: Annotated[str, Field(pattern=r"^[a-z0-9._-]*$")] = Field(
        "", description="Put before every index name, for several gateways on one cluster."
    )


class Confidence(Section):
    """Bounds of `confidence_level`."""

    high: float = Field(0.85, ge=0, le=1, description="From here on `high`.")
    medium: float = Field(0.70, ge=0, le=1, description="From here on `medium`, below it `low`.")


class Latency(Section):
    """Bounds of `latency_category`, in milliseconds."""

    fast: float = Field(50, gt=0, description="Below this `fast`.")
    normal: float = Field(200, gt=0, description="Below this `normal`.")
    slow: float = Field(1000, gt=0, description="Below this `slow`, from here on `very_slow`.")


class ErrorType(Section):
    """Patterns of `error_type`."""

    patterns: dict[str, str] | None = Field(
        None, description="error_type to regular expression, the first that matches decides; null: built in."
    )


class Thresholds(Section):
    """The enrichers' settings."""

    confidence: Confidence = Field(default_factory=Confidence, description="Bounds of confidence_level.")
    latency: Latency = Field(default_factory=Latency, description="Bounds of latency_category.")
    error: ErrorType = Field(default_factory=ErrorType, description="Patterns of error_type.")


class Enrichment(Thresholds):
    """What is added to inference events."""

    models: dict[str, Thresholds] = Field(
        default_factory=dict, description="model_name to its own thresholds; what it leaves out is as above."
    )

    @model_validator(mode="before")
    @classmethod
    def _models_inherit(cls, value: object) -> object:
        """A model's thresholds begin from the common ones, so that naming one does not reset the others."""
        if not isinstance(value, dict) or not isinstance(value.get("models"), dict):
            return value
        common = {name: value[name] for name in Thresholds.model_fields if isinstance(value.get(name), dict)}
        models = {
            model: {
                **common,
                **{k: {**common.get(k, {}), **v} if isinstance(v, dict) else v for k, v in own.items()},
            }
            if isinstance(own, dict)
            else own
            for model, own in value["models"].items()
        }
        return {**value, "models": models}


class Spool(Section):
    """The events on disk that a sink has not taken yet."""

    max_bytes: Annotated[int, Field(ge=4 * MIB)] = Field(
        10 * GIB, description="When the spool holds this much, senders wait (TCP) or get 429 (HTTP)."
    )
    min_free_bytes: Annotated[int, Field(ge=0)] = Field(
        GIB, description="When the disk has less room than this, senders wait or get 429."
    )
    segment_bytes: Annotated[int, Field(ge=64 * 1024)] = Field(
        64 * MIB, description="A file of the spool is closed at this size; at most an eighth of max_bytes."
    )


class DeadLetters(Section):
    """Refused events, kept with their bytes."""

    max_bytes: Annotated[int, Field(ge=0)] = Field(
        GIB,
        description="Bytes kept; beyond them refusals are counted and described but their bytes are not kept.",
    )


class Elasticsearch(Section):
    """The Elasticsearch that events are indexed into."""

    urls: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="Addresses, such as http://127.0.0.1:9200; none: not used."
    )
    api_key: SecretStr | None = Field(None, description="API key, as Elasticsearch gives it (base64).")
    username: str | None = Field(None, description="User for basic authentication.")
    password: SecretStr | None = Field(None, description="Password for basic authentication.")
    ca_certs: Path | None = Field(None, description="PEM file of the authority that signed the server's certificate.")
    verify_certs: bool = Field(True, description="Refuse servers whose certificate does not check out.")
    request_timeout_secs: Secs = Field(60, description="A bulk request without an answer is tried again after this.")
    flush_after_secs: Secs = Field(0.2, description="A batch waits at most this long for more events.")
    max_batch_bytes: Positive = Field(5 * MIB, description="A bulk body is sent when it reaches this size.")
    max_batch_events: Positive = Field(5000, description="A bulk body is sent when it holds this many events.")
    max_in_flight: Positive = Field(4, description="Bulk requests at the same time.")
    manage_templates: bool = Field(
        True, description="Create and update the index templates; false for keys that may not."
    )
    shards: Positive = Field(1, description="Primary shards of a new index.")
    auto_expand_replicas: str = Field("0-1", description="Replicas of a new index, as Elasticsearch takes it.")
    refresh_interval: str = Field("1s", description="How soon new documents are found, as Elasticsearch takes it.")
    index_retry_secs: Secs = Field(
        3600, description="When one index alone refuses for this long, its events become dead letters."
    )

    @model_validator(mode="before")
    @classmethod
    def _user_apart(cls, value: object) -> object:
        """`http://USER:PASSWORD@HOST` is taken apart: addresses are shown, passwords never."""
        if not isinstance(value, dict) or not isinstance(value.get("urls"), list | tuple):
            return value
        found = [_USER.fullmatch(url) if isinstance(url, str) else None for url in value["urls"]]
        users = {(unquote(each["user"]), unquote(each["password"] or "")) for each in found if each}
        if not users:
            return value
        urls = [each["scheme"] + each["host"] if each else url for each, url in zip(found, value["urls"], strict=True)]
        username, password = users.pop()
        if users:
            raise ValueError("the addresses name several users: name one with elasticsearch.username and .password")
        return {"username": username, "password": password, **value, "urls": urls}

    @model_validator(mode="after")
    def _credentials(self) -> Elasticsearch:
        if self.api_key and self.username:
            raise ValueError("set either an API key or a user name, not both")
        if (self.username is None) != (self.password is None):
            raise ValueError("a user name and a password go together")
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is not an address: it begins with http:// or https://")
        return self


class Store(Section):
    """The embedded store."""

    enabled: bool | None = Field(None, description="null: used when no Elasticsearch is set.")
    retention_days: Positive | None = Field(
        30, description="Daily indices whose day and last write are older are deleted."
    )
    memory_limit: str = Field("512MB", description="Memory of the store's engine, as DuckDB takes it.")
    threads: Positive = Field(2, description="Threads of the store's engine.")


class Log(Section):
    """The gateway's own log."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level written.")
    format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON.")
    file: Path | None = Field(None, description="Also write JSON lines to this file, rotated.")
    max_bytes: Positive = Field(10 * MIB, description="The file is rotated at this size.")
    keep: Positive = Field(5, description="Rotated files that are kept.")


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, env_nested_delimiter="__", env_prefix="GATEWAY_"
    )

    data_dir: Path = Field(Path("data"), description="Folder of everything the gateway keeps.")
    tcp: Tcp = Field(default_factory=Tcp, description="JSON lines over TCP.")
    http: Http = Field(default_factory=Http, description="HTTP ingestion, API, console.")
    limits: Limits = Field(default_factory=Limits, description="Rate limits.")
    events: Events = Field(default_factory=Events, description="What an event may be.")
    enrichment: Enrichment = Field(default_factory=Enrichment, description="What is added to inference events.")
    spool: Spool = Field(default_factory=Spool, description="Events on disk, not yet taken by a sink.")
    dead_letters: DeadLetters = Field(default_factory=DeadLetters, description="Refused events.")
    elasticsearch: Elasticsearch = Field(default_factory=Elasticsearch, description="The Elasticsearch sink.")
    store: Store = Field(default_factory=Store, description="The embedded store.")
    log: Log = Field(default_factory=Log, description="The gateway's own log.")
    drain_timeout_secs: Annotated[float, Field(ge=0)] = Field(
        10, description="After SIGTERM sinks have this long to take what is on disk."
    )

    @property
    def store_enabled(self) -> bool:
        """Whether the embedded store is a sink."""
        return not self.elasticsearch.urls if self.store.enabled is None else self.store.enabled
