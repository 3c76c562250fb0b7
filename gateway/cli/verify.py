"""``gateway verify``: an event through every listener into every sink, and away again."""

from __future__ import annotations

import secrets
import shutil
import socket
import ssl
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from gateway.cli.ask import NoGateway, Url, ask, connect, reachable, tcp_hello, trusting
from gateway.configuration import load
from gateway.errors import GatewayError, SettingsError
from gateway.settings import Settings, Tls

if TYPE_CHECKING:
    import httpx

ARRIVAL_SECS = 15.0
POLL_SECS = 0.2
TCP_SECS = 5.0
_NAMES = {"tcp": "tcp", "tls": "tcp with TLS", "http": "http"}


class LeftOut(GatewayError):
    """A step is not possible here, which is no failure; the text says why."""


class Steps:
    """Says how each step went, and remembers whether one failed."""

    failed = False

    def well(self, text: str) -> None:
        """A step that did what it should."""
        self._say(f"✓ {text}")

    def wrong(self, text: str) -> None:
        """A step that did not; the text says what to do."""
        self.failed = True
        self._say(f"✗ {text}", err=True)

    def note(self, text: str, mark: str = "!") -> None:
        """What is worth to know and no failure; ``-``: a step that was left out."""
        self._say(f"{mark} {text}")

    def _say(self, text: str, *, err: bool = False) -> None:
        if (sys.stderr if err else sys.stdout).isatty():
            columns = shutil.get_terminal_size().columns
            text = textwrap.fill(text, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        typer.echo(text, err=err)


def verify(
    config: Annotated[Path | None, typer.Option(help="Settings file; default ./gateway.yaml when it is there.")] = None,
    url: Url = None,
) -> None:
    """Send an event through every listener and look for it in every sink.

    The events go into an index of their own, ml-verify-YYYY.MM.dd, and are removed again. Exit code 1 when a
    step fails. Run it with the settings of the running gateway; with --url TCP is tried at that host too.

    Example: gateway verify --config gateway.yaml
    """
    steps = Steps()
    try:
        settings = load(config)
        with connect(settings, url) as client:
            host = reachable(settings.tcp.host) if url is None else client.base_url.host
            _verify(settings, host, client, steps)
    except SettingsError as error:
        for mistake in error.mistakes:
            steps.wrong(mistake)
    except GatewayError as error:
        steps.wrong(str(error))
    if steps.failed:
        raise typer.Exit(1)


def _verify(settings: Settings, tcp_host: str, client: httpx.Client, steps: Steps) -> None:
    """Go through the steps; raise `GatewayError` where no later step makes sense."""
    verify_id = secrets.token_hex(8)
    ask(client, "GET", "/ready")
    try:
        version = ask(client, "GET", "/status").json()["version"]
    except (ValueError, LookupError, TypeError):
        raise NoGateway(
            f"What answers at {client.base_url} is not a gateway: see http.port, or name another address with --url."
        ) from None
    sinks = _of_sinks(client, "GET", verify_id)
    steps.well(f"gateway: {client.base_url} is ready, version {version}")
    sent = _send(settings, tcp_host, client, verify_id, steps)
    if sent:
        missing = {sink: list(sent) for sink in sinks}
        _look(client, verify_id, sent, missing, steps)
        _clean_up(settings, client, verify_id, missing, steps)


def _of_sinks(client: httpx.Client, method: str, verify_id: str) -> dict[str, dict[str, Any]]:
    sinks: dict[str, dict[str, Any]] = ask(client, method, f"/v1/verify/{verify_id}").json()["sinks"]
    return sinks


def _send(settings: Settings, host: str, client: httpx.Client, verify_id: str, steps: Steps) -> dict[str, float]:
    """Send an event to each listener; return the listeners that took theirs, and when they had."""
    from gateway.operations.verification import event  # loaded only where it is used

    def over_http(line: bytes) -> str:
        ask(client, "POST", "/v1/events", content=line)
        return str(client.base_url.join("/v1/events"))

    listeners: dict[str, Callable[[bytes], str]] = {}
    tcp, tls, hello = settings.tcp, settings.tcp.tls, tcp_hello(settings)
    if not tcp.enabled:
        steps.note("tcp: switched off (tcp.enabled)", mark="-")
    else:
        listeners["tcp"] = lambda line: _over_tcp((host, tcp.port), hello, line)
        if tls is not None:
            listeners["tls"] = lambda line: _over_tls((host, tcp.tls_port), tls, hello, line)
    listeners["http"] = over_http
    sent = {}
    for via, send in listeners.items():
        try:
            where = send(orjson.dumps(event(verify_id, via), option=orjson.OPT_APPEND_NEWLINE))
        except LeftOut as why:
            steps.note(f"{_NAMES[via]}: {why}", mark="-")
        except GatewayError as error:
            steps.wrong(f"{_NAMES[via]}: {error}")
        else:
            sent[via] = time.monotonic()
            steps.well(f"{_NAMES[via]}: {where} took an event")
    return sent


def _over_tcp(address: tuple[str, int], hello: bytes, line: bytes) -> str:
    """Send a line; return where to, once the gateway has it on disk, or raise `GatewayError`.

    Without a hello the gateway says nothing: it closes its side when all that came is on disk.
    """
    try:
        with socket.create_connection(address, TCP_SECS) as connection:
            connection.sendall(hello + line)
            connection.shutdown(socket.SHUT_WR)
            if hello:
                _hear_taken(connection)
            if connection.recv(1):
                raise OSError("something else answers there")
    except OSError as error:
        raise _not_taken(address, "tcp.port", error) from None
    return _text(address)


def _hear_taken(connection: socket.socket) -> None:
    """Return when the gateway has acknowledged the line behind a hello; raise OSError with what it says instead."""
    with connection.makefile("rb") as answers:
        for wanted in (b'{"ack":"ready"}', b'{"acked":1,"rejected":[]}'):
            if (said := answers.readline().strip()) != wanted:
                raise OSError(f"it says {said.decode(errors='replace')}" if said else "it closes the connection")


def _over_tls(address: tuple[str, int], tls: Tls, hello: bytes, line: bytes) -> str:
    """The same over TLS; raise `LeftOut` when it takes a certificate that is not at hand."""
    context = trusting(tls, "tcp.tls")
    try:
        with socket.create_connection(address, TCP_SECS) as plain:
            try:
                with context.wrap_socket(plain, server_hostname=address[0]) as connection:
                    connection.sendall(hello + line)
                    if hello:
                        _hear_taken(connection)
                    connection.unwrap()
            except ssl.SSLCertVerificationError:
                raise
            except (ssl.SSLError, ConnectionError) as error:
                if tls.client_ca is None:
                    raise
                raise LeftOut(
                    f"left out, for tcp.tls.client_ca asks for a client's certificate and takes not the gateway's own "
                    f"({_reason(error)}). Try with a client's: "
                    f"openssl s_client -connect {_text(address)} -cert FILE -key FILE"
                ) from None
    except OSError as error:
        raise _not_taken(address, "tcp.tls_port", error) from None
    return _text(address)


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TCP_SECS:g} s"
    return getattr(error, "verify_message", None) or error.strerror or str(error)


def _not_taken(address: tuple[str, int], setting: str, error: OSError) -> GatewayError:
    return GatewayError(
        f"{_text(address)} does not take an event as the gateway does ({_reason(error)}): see whether the running "
        f"gateway listens there ({setting}, in the settings it was started with), and what its log says."
    )


def _look(
    client: httpx.Client, verify_id: str, sent: dict[str, float], missing: dict[str, list[str]], steps: Steps
) -> None:
    """Wait until every event is in every sink; leave in ``missing`` what is not."""
    deadline = time.monotonic() + ARRIVAL_SECS
    while any(missing.values()):
        sinks = _of_sinks(client, "GET", verify_id)
        now = time.monotonic()
        for sink, vias in missing.items():
            for via in [each for each in vias if each in (sinks[sink]["arrived"] or ())]:
                vias.remove(via)
                steps.well(f"{_NAMES[via]} → {sink}: arrived within {now - sent[via]:.2f} s")
        if now > deadline:
            break
        time.sleep(POLL_SECS)
    late = {sink: vias for sink, vias in missing.items() if vias}
    if late:
        status = ask(client, "GET", "/status").json()
        for sink, vias in late.items():
            names = ", ".join(_NAMES[via] for via in vias)
            why = _why(sink, vias, status, sinks[sink]["error"])
            steps.wrong(f"{names} → {sink}: did not arrive within {ARRIVAL_SECS:g} s. {why}")


def _why(sink: str, vias: list[str], status: dict[str, Any], error: str | None) -> str:
    """Return why events are not there as far as the gateway knows, and what to do."""
    state = status["sinks"].get(sink, {"state": "being opened", "last_error": None})
    waiting = status["books"]["sinks"].get(sink, {"waiting": 0})["waiting"]
    if state["state"] != "ok":
        said = f": {state['last_error']}" if state["last_error"] else "."
        return f"The sink is {state['state']}{said} The events are safe in the spool and go on when that is mended."
    if error:
        return f"It cannot be seen whether they are there: {error}"
    if waiting:
        return f"The sink works, and {waiting:,} events wait for it: they are safe in the spool, try again later."
    if "http" in vias:
        return "The sink works, and nothing waits for it: see the gateway's log, and the dead letters in /status."
    return (
        "The sink works, and nothing waits for it: see whether the running gateway listens at this address "
        "(its settings may differ from those read here), its log, and the dead letters in /status."
    )


def _clean_up(
    settings: Settings, client: httpx.Client, verify_id: str, missing: dict[str, list[str]], steps: Steps
) -> None:
    """Have the events removed. That it fails harms nothing: they lie beside the production indices."""
    indices = f"{settings.events.index_prefix}ml-verify-*"
    try:
        sinks = _of_sinks(client, "DELETE", verify_id)
        left = [f"{sink}: {each['error']}" for sink, each in sinks.items() if each["error"] and not missing[sink]]
    except GatewayError as error:
        left = [str(error)]
    for why in left:
        steps.note(f"not cleaned up: {why} What is left lies in {indices} and harms nothing.")
    if any(missing.values()):
        steps.note(f"what arrives later stays in {indices} and harms nothing.")
    elif not left:
        steps.well("cleaned up: the events are removed again")
