"""``gateway serve``: run the gateway until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.ask import reachable, url_of
from gateway.configuration import load
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.app import Gateway

STOPPING = (signal.SIGTERM, signal.SIGINT)
EVENT = '{"model_name":"fraud_detector","prediction_confidence":0.93,"inference_time_ms":25}'
LINE = '{"model_name":"churn","prediction_class":1}'


def serve(
    config: Annotated[Path | None, typer.Option(help="Settings file; default ./gateway.yaml when it is there.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of everything the gateway keeps.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on, for TCP and HTTP.")] = None,
    tcp_port: Annotated[int | None, typer.Option(help="Port for JSON lines.")] = None,
    http_port: Annotated[int | None, typer.Option(help="Port for HTTP.")] = None,
    workers: Annotated[str | None, typer.Option(help="Processes that take events; auto: one a processor core.")] = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C.

    Example: ELASTICSEARCH_URL=http://127.0.0.1:9200 gateway serve
    """
    flags = _nested(
        data_dir=data_dir, tcp__host=host, http__host=host, tcp__port=tcp_port, http__port=http_port,
        workers=workers,
    )  # fmt: skip
    settings = load(config, flags=flags)

    import uvloop

    from gateway import logs

    logs.configure(settings.log)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in STOPPING:  # before what takes long to load
        loop.add_signal_handler(number, stop.set)

    import structlog

    from gateway.app import Gateway
    from gateway.operations.preflight import exposed
    from gateway.process import settle

    log = structlog.get_logger("gateway")
    gateway = Gateway(settings)
    try:
        await gateway.start()
        settle()
        sys.stdout.write(_greeting(gateway))
        sys.stdout.flush()
        for warning in exposed(settings):
            log.warning(warning)
        await stop.wait()
        log.info(f"Stopping: sinks have {settings.drain_timeout_secs:g} s; what is not sent then stays on disk.")
    finally:
        await gateway.stop()
        for number in STOPPING:  # all is on disk: one that comes now must not make a failure of it
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        gc.unfreeze()  # or libraries complain of what is left


def _greeting(gateway: Gateway) -> str:
    settings = gateway.settings
    url = url_of(settings, gateway.http_port)
    tcp = reachable(settings.tcp.host), gateway.tcp_port
    into = []
    if settings.elasticsearch.urls:
        into.append(f"Elasticsearch at {', '.join(settings.elasticsearch.urls)}")
    if settings.store_enabled:
        into.append(f"the embedded store in {settings.data_dir}")
    say = """printf '%s\\n' '{"ack":true,"key":"KEY"}'""" if settings.tcp.key_required else "echo"
    key = " -H 'Authorization: Bearer KEY'" if settings.http.api_keys else ""
    lines = [
        "",
        "The gateway takes events:",
        *([f"  TCP   {tcp[0]}:{tcp[1]}  one JSON object a line"] if gateway.tcp_port else []),
        f"  HTTP  {url}/v1/events",
        f"and puts them into {' and '.join(into)}.",
        "",
        "Paste this into another terminal to send one:",
        f"  curl{key} -d '{EVENT}' {url}/v1/events",
        *([f"or, over TCP:\n  {say} '{LINE}' | nc -w 1 {tcp[0]} {tcp[1]}"] if gateway.tcp_port else []),
        "",
        f"Then look at {url}/ or {url}/v1/search.",
        "Ctrl-C stops.",
        "",
    ]
    return "\n".join(lines) + "\n"


def _nested(**flags: Any) -> dict[str, Any]:
    """Return the flags that were given, nested like the settings."""
    nested: dict[str, Any] = {}
    for name, value in flags.items():
        if value is not None:
            section, _, field = name.rpartition("__")
            (nested.setdefault(section, {}) if section else nested)[field] = value
    return nested
