"""Opens listening sockets, with a sentence when that fails."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from gateway.errors import GatewayError
from gateway.settings import Tls

BACKLOG = 1024
HANDSHAKE_SECS = 10


class Server(Protocol):
    """Accepts connections until it is closed."""

    def close(self) -> None: ...


Serve = Callable[[socket.socket, Callable[[], Any], ssl.SSLContext | None], Awaitable[Server]]
"""Begins to accept from a listening socket: each connection gets a protocol."""


async def serve(listener: socket.socket, protocol: Callable[[], Any], context: ssl.SSLContext | None) -> Server:
    """Accept whatever comes."""
    secs = None if context is None else HANDSHAKE_SECS
    loop = asyncio.get_running_loop()
    return await loop.create_server(protocol, sock=listener, backlog=BACKLOG, ssl=context, ssl_handshake_timeout=secs)


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Return a listening socket; raise `GatewayError` naming ``setting`` when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise GatewayError(
            f"Cannot listen on {host}:{port} ({reason}): end what uses it, or set {setting} to another port."
        ) from None
    opened.setblocking(False)
    return opened


def tls_context(tls: Tls, setting: str) -> ssl.SSLContext:
    """Return a server's TLS context; raise `GatewayError` naming ``setting`` when a file is wrong."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name, path in (("certificate", tls.certificate), ("key", tls.key), ("client_ca", tls.client_ca)):
        if path is not None:
            try:
                path.open("rb").close()
            except OSError as error:  # that of the ssl module does not say which file
                raise GatewayError(f"{setting}.{name}: {path.absolute()} cannot be read: {error.strerror}.") from None
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise GatewayError(f"{setting}: the certificate or key cannot be used ({error}).") from None
    return context


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    return host in ("localhost", "::1") or host.startswith("127.")
