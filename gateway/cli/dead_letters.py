"""``gateway dead-letters``: refused events, looked at, sent again, dropped."""

from __future__ import annotations

import asyncio
import sys
from base64 import b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar
from urllib.parse import urlencode

import orjson
import typer

from gateway.cli.ask import NoGateway, Url, ask, connect, download, plain
from gateway.cli.export import replacing
from gateway.configuration import load
from gateway.errors import GatewayError
from gateway.logs import configure

if TYPE_CHECKING:
    import httpx

    from gateway.operations.dead_letters import DeadLetters

WAIT_SECS = 24 * 3600.0  # millions of letters take a while
PATH = "/v1/dead-letters"
SHOWN_GROUPS = 50
T = TypeVar("T")
Parameters = list[tuple[str, str]]

app = typer.Typer(
    name="dead-letters",
    help="Refused events: what was wrong with them, and sent again when it is mended.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Config = Annotated[Path | None, typer.Option(help="Settings file; default ./gateway.yaml when it is there.")]
Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="These letters alone.")]
Reason = Annotated[str | None, typer.Option(help="json, schema, clock, too_large, cut, mapping or sink.")]
Field = Annotated[str | None, typer.Option("--path", help="The field, such as $.prediction_confidence.")]
Rule = Annotated[str | None, typer.Option(help="The rule that was broken, such as too_old.")]
Source = Annotated[str | None, typer.Option(help="tcp, http, …, or the sink that refused the event.")]
Index = Annotated[str | None, typer.Option(help="The index that a sink refused it for.")]
Tenant = Annotated[str | None, typer.Option(help="The tenant that sent it.")]
Since = Annotated[str | None, typer.Option("--from", help="Refused at this time or later, ISO 8601.")]
Until = Annotated[str | None, typer.Option("--to", help="Refused before this time.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@app.command("list")
def list_(
    reason: Reason = None,
    path: Field = None,
    rule: Rule = None,
    source: Source = None,
    index: Index = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
    config: Config = None,
    url: Url = None,
) -> None:
    """Count dead letters by reason, path and rule.

    Example: gateway dead-letters list --reason schema
    """
    chosen = _filters(None, reason, path, rule, source, index, tenant, since, until)
    asked = [*chosen, ("limit", str(SHOWN_GROUPS))]
    found = _answer(config, url, "GET", PATH, asked, lambda letters: letters.find(asked))
    if as_json:
        _print_json(found)
    else:
        from gateway.cli.letters_shown import groups

        groups(found)


@app.command()
def show(
    letter_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=(1 << 63) - 1, help="As `list` names it.")],
    as_json: Json = False,
    config: Config = None,
    url: Url = None,
) -> None:
    """Print all that is known of a dead letter, and the event as it was sent.

    Example: gateway dead-letters show 7
    """

    async def found(letters: DeadLetters) -> dict[str, Any]:
        letter = await letters.show(letter_id)
        if letter is None:
            raise GatewayError(f"There is no dead letter {letter_id}: see `gateway dead-letters list`.")
        return letter

    letter = _answer(config, url, "GET", f"{PATH}/{letter_id}", [], found)
    if as_json:
        _print_json(letter)
        return
    from gateway.cli.letters_shown import letter as print_letter

    data = b64decode(letter["data_base64"]) if "data_base64" in letter else (letter["data"] or "").encode()
    print_letter(letter, len(data))
    if sys.stdout.isatty():  # what a sender wrote must not steer the terminal
        typer.echo("\n".join(map(plain, data.decode(errors="backslashreplace").split("\n"))))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data + b"\n")


@app.command()
def export(
    output: Annotated[Path | None, typer.Option(help="File to write or replace; default: standard output.")] = None,
    reason: Reason = None,
    path: Field = None,
    rule: Rule = None,
    source: Source = None,
    index: Index = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    config: Config = None,
    url: Url = None,
) -> None:
    """Write dead letters with their bytes, a line of JSON each, oldest first.

    Example: gateway dead-letters export --reason json --output letters.ndjson
    """
    chosen = _filters(None, reason, path, rule, source, index, tenant, since, until)
    if output is None:
        _export(config, url, chosen, sys.stdout.buffer)
        return
    with replacing(output) as partial:
        _export(config, url, chosen, partial)
    typer.echo(f"{output}: {output.stat().st_size:,} bytes.")


@app.command()
def replay(
    ids: Ids = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which would pass now.")] = False,
    reason: Reason = None,
    path: Field = None,
    rule: Rule = None,
    source: Source = None,
    index: Index = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
    config: Config = None,
    url: Url = None,
) -> None:
    """Send dead letters again: those that pass are stored and go, the others stay. Without a choice: all.

    Each gets the identity and the index that it would have had at first.

    Example: gateway dead-letters replay --dry-run --reason schema
    """
    chosen = _filters(ids, reason, path, rule, source, index, tenant, since, until)
    asked = [*chosen, ("dry_run", str(dry_run).lower())]
    report = _answer(config, url, "POST", f"{PATH}/replay", asked, lambda letters: letters.replay(asked))
    if as_json:
        _print_json(report)
    else:
        from gateway.cli.letters_shown import report as print_report

        print_report(report)


@app.command()
def drop(
    ids: Ids = None,
    every: Annotated[bool, typer.Option("--all", help="All of them, when nothing is chosen.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    reason: Reason = None,
    path: Field = None,
    rule: Rule = None,
    source: Source = None,
    index: Index = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    config: Config = None,
    url: Url = None,
) -> None:
    """Delete dead letters for good.

    Example: gateway dead-letters drop --reason json --to 2026-11-01
    """
    chosen = _filters(ids, reason, path, rule, source, index, tenant, since, until)
    if not chosen and not every:
        raise typer.BadParameter("name ids, a filter such as --reason json, or --all.")
    if not yes:
        found = _answer(config, url, "GET", PATH, chosen, lambda letters: letters.find(chosen))
        those = f"{found['total']:,} {'dead letter' if found['total'] == 1 else 'dead letters'}"
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"it would delete {those}: say --yes.")
        typer.confirm(f"Delete {those} for good?", abort=True)
    asked = [*chosen, *([("all", "true")] if every else [])]
    dropped = _answer(config, url, "DELETE", PATH, asked, lambda letters: letters.drop(asked))["dropped"]
    typer.echo(f"{dropped:,} {'dead letter is' if dropped == 1 else 'dead letters are'} deleted.")


def _filters(ids: list[int] | None, *values: str | None) -> Parameters:
    names = ("reason", "path", "rule", "source", "index", "tenant", "from", "to")
    given = [(name, value) for name, value in zip(names, values, strict=True) if value is not None]
    return [*(("id", str(each)) for each in ids or ()), *given]


def _answer(
    config: Path | None,
    url: str | None,
    method: str,
    path: str,
    parameters: Parameters,
    offline: Callable[[DeadLetters], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """Return what the running gateway answers, or what its files hold when it does not run."""

    def online(client: httpx.Client) -> dict[str, Any]:
        answer: dict[str, Any] = ask(client, method, _address(path, parameters)).json()
        return answer

    return _either(config, url, online, offline)


def _export(config: Path | None, url: str | None, parameters: Parameters, file: BinaryIO) -> None:
    async def offline(letters: DeadLetters) -> None:
        async for lines in letters.export(parameters):
            file.write(lines)

    _either(config, url, lambda client: download(client, _address(f"{PATH}/export", parameters), file), offline)


def _either(
    config: Path | None,
    url: str | None,
    online: Callable[[httpx.Client], T],
    offline: Callable[[DeadLetters], Awaitable[T]],
) -> T:
    settings = load(config)
    try:
        with connect(settings, url, timeout_secs=WAIT_SECS) as client:
            return online(client)
    except NoGateway:
        if url is not None:
            raise
    from gateway.operations.dead_letters import alone

    configure(settings.log.model_copy(update={"level": "warning", "file": None}))

    async def of_files() -> T:
        async with alone(settings) as letters:
            return await offline(letters)

    return asyncio.run(of_files())


def _address(path: str, parameters: Parameters) -> str:
    return f"{path}?{urlencode(parameters)}" if parameters else path


def _print_json(answer: dict[str, Any]) -> None:
    typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
