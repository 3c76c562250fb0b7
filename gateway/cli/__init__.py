"""The words of the command line, a file each."""

from __future__ import annotations

import sys

import typer

import gateway
from gateway.cli import check, dead_letters, export, generate, serve, tail, templates, top, verify
from gateway.errors import GatewayError, SettingsError

app = typer.Typer(
    name="gateway",
    help="Takes the JSON events of models and training jobs and indexes them into Elasticsearch, losing none.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(serve.serve)
app.command()(check.check)
app.command()(generate.generate)
app.command()(export.export)
app.command()(verify.verify)
app.command()(top.top)
app.command()(tail.tail)
app.add_typer(templates.app)
app.add_typer(dead_letters.app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(gateway.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Run a word; a user's mistake ends with one sentence on stderr and exit code 1."""
    try:
        app()
    except SettingsError as error:
        for mistake in error.mistakes:
            sys.stderr.write(f"gateway: {mistake}\n")
        sys.exit(1)
    except GatewayError as error:
        sys.stderr.write(f"gateway: {error}\n")
        sys.exit(1)
