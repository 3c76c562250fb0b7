"""Asks the running gateway over HTTP, where the settings say that it listens."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.errors import GatewayError
from gateway.settings import Settings

if TYPE_CHECKING:
    import httpx

Url = Annotated[str | None, typer.Option(help="Address of the gateway's HTTP port; default: as the settings have it.")]
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a server listens on, nobody can call


class NoGateway(GatewayError):
    """Nobody answers at the address."""


def url_of(settings: Settings) -> str:
    """Return the address under which this machine reaches the gateway's HTTP port."""
    scheme = "http" if settings.http.tls is None else "https"
    host = _ANY_ADDRESS.get(settings.http.host, settings.http.host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.http.port}"


def connect(settings: Settings, url: str | None = None, *, timeout_secs: float = 30) -> httpx.Client:
    """Return a client for the gateway, with its first key; close it after use."""
    import httpx  # loaded only where it is used

    verify: bool | ssl.SSLContext = True
    if url is None and settings.http.tls is not None:
        # The very certificate that the gateway shows; it need not name this machine's loopback address.
        try:
            verify = ssl.create_default_context(cafile=settings.http.tls.certificate)
        except OSError as error:
            raise GatewayError(f"http.tls.certificate {settings.http.tls.certificate}: {error.strerror}.") from None
        verify.check_hostname = False
    headers = {}
    if settings.http.api_keys:
        headers["authorization"] = f"Bearer {settings.http.api_keys[0].key.get_secret_value()}"
    return httpx.Client(
        base_url=url or url_of(settings), headers=headers, verify=verify, timeout=timeout_secs, trust_env=False
    )


def ask(client: httpx.Client, method: str, path: str, **arguments: Any) -> httpx.Response:
    """Return the answer; raise `NoGateway` without one, `GatewayError` with what the gateway says else."""
    import httpx

    try:
        answer = client.request(method, path, **arguments)
        answer.read()
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise NoGateway(
            f"No gateway answers at {client.base_url} ({error or type(error).__name__}): "
            "start it with `gateway serve`, or name another with --url."
        ) from None
    if answer.is_success:
        return answer
    raise GatewayError(f"The gateway answered {answer.status_code} to {method} {path}: {_said(answer)}")


def _said(answer: httpx.Response) -> str:
    """Return the sentence of an answer that is an error."""
    try:
        content = answer.json()
        errors = content.get("errors")
        return str(errors[0]["message"] if errors else content.get("error") or content["detail"])
    except (ValueError, AttributeError, LookupError, TypeError):
        return answer.text[:200] or answer.reason_phrase
