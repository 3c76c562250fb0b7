"""Settings of where events are kept and where they go."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from gateway.settings.section import GIB, MIB, Positive, Secs, Section, listed, spelled

_USER = re.compile(r"(?P<scheme>(https?://)?)(?P<user>[^:@/]*)(:(?P<password>.*))?@(?P<host>[^@]*)")


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
        description="Bytes they may take, each about 300 besides its event; beyond them refusals are only counted.",
    )


class Elasticsearch(Section):
    """The Elasticsearch that events are indexed into."""

    urls: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (),
        examples=[["http://127.0.0.1:9200"]],
        description="Addresses, such as http://127.0.0.1:9200; none: not used.",
    )
    required: bool = Field(
        True, description="false: when the spool is full because of this sink, it skips events and no sender waits."
    )
    api_key: SecretStr | None = Field(
        None, examples=["a-secret"], description="API key, as Elasticsearch gives it (base64)."
    )
    username: str | None = Field(None, examples=["gateway"], description="User for basic authentication.")
    password: SecretStr | None = Field(None, examples=["a-secret"], description="Password for basic authentication.")
    ca_certs: Path | None = Field(
        None,
        examples=["/etc/gateway/ca.pem"],
        description="PEM file of the authority that signed the server's certificate.",
    )
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
    auto_expand_replicas: Annotated[str, spelled(r"false|\d+-(\d+|all)", "write 0-1, 0-all or 'false'")] = Field(
        "0-1", description="Replicas of a new index, as Elasticsearch takes it."
    )
    refresh_interval: Annotated[
        str, spelled(r"-1|0|\d+(nanos|micros|ms|s|m|h|d)", "write a whole number and its unit, such as 500ms or 30s")
    ] = Field("1s", description="How soon new documents are found, as Elasticsearch takes it; '-1': never.")
    retention_days: Annotated[int, Field(ge=1, le=36_500)] | None = Field(
        None, examples=[90], description="Daily indices of the gateway are deleted when they are older; null: never."
    )
    ilm: bool = Field(
        False, description="Let Elasticsearch's index lifecycle management delete them instead of the gateway."
    )
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
        if self.ilm and self.retention_days is None:
            raise ValueError("ilm needs retention_days: after how many days Elasticsearch deletes an index")
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is not an address: it begins with http:// or https://")
        return self


class Store(Section):
    """The embedded store."""

    enabled: bool | None = Field(None, examples=[True], description="null: used when no Elasticsearch is set.")
    required: bool = Field(
        True, description="false: when the spool is full because of this sink, it skips events and no sender waits."
    )
    retention_days: Positive | None = Field(
        30, description="Daily indices whose day and last write are older are deleted."
    )
    memory_limit: Annotated[
        str, spelled(r"(?i)\d+(\.\d+)? ?[kmgt]i?b", "write a number and its unit, such as 512MB or 2GiB")
    ] = Field("512MB", description="Memory of the store's engine, as DuckDB takes it.")
    threads: Positive = Field(2, description="Threads of the store's engine.")
