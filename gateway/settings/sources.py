"""Settings of how events come in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, model_validator

from gateway.settings.section import MIB, Port, Positive, Secs, Section, listed


class Tls(Section):
    """Certificates of a listener."""

    certificate: Path = Field(examples=["/etc/gateway/server.pem"], description="PEM file with the certificate chain.")
    key: Path = Field(examples=["/etc/gateway/server.key"], description="PEM file with the private key.")
    client_ca: Path | None = Field(
        None, examples=["/etc/gateway/clients.pem"], description="PEM file; clients must show a certificate it signed."
    )


class Tcp(Section):
    """JSON lines over TCP."""

    enabled: bool = Field(True, description="Listen for JSON lines over TCP.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(5001, description="Port for plain TCP; 0 lets the system choose.")
    tls_port: Port = Field(5002, description="Port for TLS, open when `tcp.tls` is set.")
    tls: Tls | None = Field(None, description="Certificate; when set, `tls_port` is opened too.")
    max_line_bytes: Positive = Field(MIB, description="Longest event, on every source, in bytes.")
    max_connections: Positive = Field(10_000, description="Open connections; one more is closed at once.")
    key_required: bool = Field(
        False, description="Take lines only behind a hello with one of `http.api_keys`; others are told so and closed."
    )


class ApiKey(Section):
    """A key that HTTP callers show."""

    key: SecretStr = Field(description="The key itself.", min_length=1)
    tenant: str | None = Field(None, description="Written into every document sent with this key.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        """A key without a tenant may be given as its text alone."""
        return value if isinstance(value, dict | BaseModel) else {"key": value}


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
    api_keys: Annotated[tuple[ApiKey, ...], BeforeValidator(listed)] = Field(
        (),
        examples=[["a-secret", {"key": "another-secret", "tenant": "blue"}]],
        description="Keys of which one is needed; none: no key needed.",
    )


class Limits(Section):
    """Rate limits for each tenant; none unless set."""

    bytes_per_sec: Positive | None = Field(
        None, examples=[10_000_000], description="Bytes of HTTP bodies a second; more gets 429."
    )
    burst_bytes: Positive | None = Field(
        None, examples=[20_000_000], description="Bytes at once above the rate; default twice the rate."
    )
