"""``gateway templates``: the index templates in Elasticsearch, shown, put in place, verified."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from gateway.configuration import load

app = typer.Typer(
    name="templates",
    help="The index templates that give Elasticsearch the types of an event's fields.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Config = Annotated[Path | None, typer.Option(help="Settings file; default ./gateway.yaml when it is there.")]


@app.command()
def show(config: Config = None) -> None:
    """Print the body of each template by its name, as PUT _index_template/NAME takes it; asks no server.

    Example: gateway templates show > templates.json
    """
    from gateway.operations.templates import bodies

    typer.echo(json.dumps(bodies(load(config)), indent=2))


@app.command()
def apply(config: Config = None) -> None:
    """Put the templates in place now, as `gateway serve` does before the first document.

    Example: ELASTICSEARCH_URL=http://127.0.0.1:9200 gateway templates apply
    """
    from gateway.operations import templates

    outcomes = asyncio.run(templates.apply(load(config)))
    for name, outcome in outcomes.items():
        typer.echo(f"{outcome:10} {name}")
    if "left alone" in outcomes.values():
        typer.echo(
            "What is left alone has no _meta.managed_by: ml-log-gateway, so it is your own. "
            "To have the gateway's, delete it and apply again."
        )


@app.command()
def verify(config: Config = None) -> None:
    """Compare the server's templates and daily indices with what is wanted; exit code 1 when something is wrong.

    Example: ELASTICSEARCH_URL=http://127.0.0.1:9200 gateway templates verify
    """
    from gateway.operations import templates

    findings = asyncio.run(templates.verify(load(config)))
    for sound, text in findings:
        typer.echo(f"{'✓' if sound else '✗'} {text}", err=not sound)
    if not all(sound for sound, _ in findings):
        raise typer.Exit(1)
