"""``gateway check``: every mistake in the settings at once, before a start."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.configuration import examine
from gateway.errors import GatewayError
from gateway.settings import Settings


def check(
    config: Annotated[Path | None, typer.Option(help="Settings file; default ./gateway.yaml when it is there.")] = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Where they are sound, also try ports, data directory, Elasticsearch.")
    ] = False,
) -> None:
    """Check the settings; exit code 1 when something is wrong.

    Example: gateway check --config gateway.yaml --connect
    """
    from gateway.operations.preflight import check_settings, exposed

    settings, wrong = examine(config)
    wrong += check_settings(settings)
    sound = not wrong
    if sound:
        typer.echo("✓ The settings are sound.")
    for warning in exposed(settings):
        typer.echo(f"! {warning}")
    if connect and sound:
        wrong += asyncio.run(_connect(settings))
    for mistake in wrong:
        typer.echo(f"✗ {mistake}", err=True)
    if wrong:
        raise typer.Exit(1)


async def _connect(settings: Settings) -> list[str]:
    """Try what a start would need; return what does not work."""
    from gateway.operations.preflight import probes

    wrong = []
    for what, probe in probes(settings):
        try:
            said = await probe()
        except GatewayError as error:
            wrong.append(f"{what}: {error}")
        else:
            typer.echo(f"✓ {what}{f': {said}' if said else ''}")
    return wrong
