"""What a start would need, tried beforehand: for ``gateway check``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from gateway.data_dir import lock_data_dir
from gateway.errors import GatewayError, SettingsError
from gateway.kinds import make_registry
from gateway.operations.formats import check_formats
from gateway.pipeline.configured import make_digest
from gateway.settings import Settings
from gateway.sources.listening import is_loopback, listen, tls_context
from schemas import BUILT_IN

Probe = Callable[[], Awaitable[str]]


def check_settings(settings: Settings) -> list[str]:
    """Return what is wrong with settings that are sound one by one."""
    wrong: list[str] = []
    registry = BUILT_IN
    try:
        registry = make_registry(settings)
    except SettingsError as error:
        wrong += error.mistakes
    try:
        make_digest(settings, registry)
    except SettingsError as error:
        wrong += error.mistakes
    if settings.elasticsearch.urls:
        from gateway.sinks.elasticsearch.client import connect

        try:
            connect(settings.elasticsearch)
        except GatewayError as error:
            wrong.append(str(error))
    for name, tls in (("tcp.tls", settings.tcp.tls), ("http.tls", settings.http.tls)):
        if tls is not None:
            try:
                tls_context(tls, name)
            except GatewayError as error:
                wrong.append(str(error))
    return wrong


def probes(settings: Settings) -> list[tuple[str, Probe]]:
    """Return what can be tried, with its name; a probe returns what it found or raises `GatewayError`."""

    async def port(host: str, number: int, setting: str) -> str:
        listen(host, number, setting).close()
        return f"{host}:{number} is free"

    async def data_dir() -> str:
        os.close(lock_data_dir(settings.data_dir))
        try:
            await asyncio.to_thread(check_formats, settings.data_dir)
        except OSError as error:
            raise GatewayError(f"{error.filename or settings.data_dir} cannot be read: {error.strerror}.") from None
        return f"{settings.data_dir} can be written"

    async def elasticsearch() -> str:
        from gateway.sinks.elasticsearch.client import connect, request

        client = connect(settings.elasticsearch)
        try:
            answer = await request(client, "GET", "/")
        finally:
            await client.close()
        return f"version {answer['version']['number']} answers"

    tried: list[tuple[str, Probe]] = [("data directory", data_dir)]
    if settings.tcp.enabled:
        tried.append(("tcp", lambda: port(settings.tcp.host, settings.tcp.port, "tcp.port")))
    tried.append(("http", lambda: port(settings.http.host, settings.http.port, "http.port")))
    if settings.elasticsearch.urls:
        tried.append(("elasticsearch", elasticsearch))
    return tried


def exposed(settings: Settings) -> list[str]:
    """Return a warning for each listener that strangers can reach without a key or certificate."""
    warnings = []
    tcp = settings.tcp
    if tcp.enabled and not is_loopback(tcp.host) and tcp.tls is None:
        who = "anyone on the way can read keys and" if tcp.key_required else "anyone who reaches it can send"
        warnings.append(f"TCP listens on {tcp.host} without TLS (tcp.tls): {who} events.")
    if not is_loopback(settings.http.host) and not (settings.http.api_keys and settings.http.tls):
        warnings.append(
            f"HTTP listens on {settings.http.host} without both key and TLS (http.api_keys, http.tls): "
            "anyone who reaches it can send and read events."
        )
    return warnings
