"""Asks the running gateway over HTTP, where the settings say that it listens."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import orjson
import typer

from gateway.errors import GatewayError
from gateway.settings import Settings, Tls

if TYPE_CHECKING:
    import httpx

Url = Annotated[str | None, typer.Option(help="Address of the gateway's HTTP port; default: as the settings have it.")]
_LATER = (429, 502, 503, 504)
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a server listens on, nobody can call


class NoGateway(GatewayError):
    """Nobody answers at the address."""


class NotNow(GatewayError):
    """The gateway is there and has no answer now: ask again later."""


def reachable(host: str) -> str:
    """Return the address at which this machine reaches what listens on ``host``."""
    return _ANY_ADDRESS.get(host, host)


def url_of(settings: Settings, port: int | None = None) -> str:
    """Return the address under which this machine reaches the gateway's HTTP port; ``port`` where the system chose."""
    scheme = "http" if settings.http.tls is None else "https"
    host = reachable(settings.http.host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port or settings.http.port}"


def connect(settings: Settings, url: str | None = None, *, timeout_secs: float = 30) -> httpx.Client:
    """Return a client for the gateway, with its first key; close it after use."""
    import httpx  # loaded only where it is used

    verify: bool | ssl.SSLContext = True
    if url is None and settings.http.tls is not None:
        verify = trusting(settings.http.tls, "http.tls")
    headers = {}
    if settings.http.api_keys:
        # As bytes: in a string the client takes ASCII alone.
        headers[b"authorization"] = b"Bearer " + settings.http.api_keys[0].key.get_secret_value().encode()
    return httpx.Client(
        base_url=url or url_of(settings), headers=headers, verify=verify, timeout=timeout_secs, trust_env=False
    )


def tcp_hello(settings: Settings) -> bytes:
    """Return the line that a connection to the TCP port begins with; none where no key is required."""
    if not settings.tcp.key_required:
        return b""
    key = settings.http.api_keys[0].key.get_secret_value()
    return orjson.dumps({"ack": True, "key": key}, option=orjson.OPT_APPEND_NEWLINE)


def trusting(tls: Tls, setting: str) -> ssl.SSLContext:
    """Return what trusts the very certificate that a listener shows, and no other.

    Where the listener wants to see one too, it is shown its own: no other is at hand.
    """
    try:
        context = ssl.create_default_context(cafile=tls.certificate)
        if tls.client_ca is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise GatewayError(f"{setting}: the certificate or key cannot be used ({error}).") from None
    context.check_hostname = False  # it need not name this machine's loopback address
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # its authority need not be in the file
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def ask(client: httpx.Client, method: str, path: str, **arguments: Any) -> httpx.Response:
    """Return the answer; raise `NoGateway` without one, `GatewayError` with what the gateway says else."""
    import httpx

    try:
        answer = client.request(method, path, **arguments)
        answer.read()
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise _no_gateway(client, error) from None
    if answer.is_success:
        return answer
    raise _refused(answer)


def stream(client: httpx.Client, path: str, **arguments: Any) -> httpx.Response:
    """Return an answer whose content is still to be read, to be closed by the caller; raise as `ask` does."""
    import httpx

    try:
        answer = client.send(client.build_request("GET", path, **arguments), stream=True)
        if answer.is_success:
            return answer
        with contextlib.closing(answer):
            answer.read()
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise _no_gateway(client, error) from None
    raise _refused(answer)


def download(client: httpx.Client, path: str, file: BinaryIO) -> None:
    """Write what the gateway answers into a file; raise as `ask` does, also when it breaks off."""
    import httpx

    with contextlib.closing(stream(client, path)) as answer:
        try:
            for chunk in answer.iter_raw():
                file.write(chunk)
        except httpx.TransportError as error:
            raise GatewayError(
                f"The gateway broke off its answer ({error or type(error).__name__}): try again."
            ) from None


def plain(text: str) -> str:
    """Return a text of an answer without what steers a terminal: part of it may be a sender's."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _no_gateway(client: httpx.Client, error: Exception) -> NoGateway:
    return NoGateway(
        f"No gateway answers at {client.base_url} ({error or type(error).__name__}): "
        "start it with `gateway serve`, or name another with --url."
    )


def _refused(answer: httpx.Response) -> GatewayError:
    request = answer.request
    remedy = ""
    if answer.status_code == 401:
        remedy = " This command has the key of the gateway's settings: --config FILE, or GATEWAY_HTTP__API_KEYS."
    kind = NotNow if answer.status_code in _LATER else GatewayError
    return kind(
        f"The gateway answered {answer.status_code} to {request.method} {request.url.path}: {_said(answer)}{remedy}"
    )


def _said(answer: httpx.Response) -> str:
    """Return the sentence of an answer that is an error."""
    try:
        content = answer.json()
        if errors := content.get("errors"):
            return str(errors[0]["message"])
        return str(next(content[name] for name in ("error", "reason", "detail") if name in content))
    except (ValueError, AttributeError, LookupError, TypeError, StopIteration):
        return answer.text[:200] or answer.reason_phrase
