"""The word itself: its options, the run they mean, and what it says before and after."""

import math
import sys
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from secrets import randbits
from typing import Annotated, NoReturn

import typer

from gateway.cli.ask import reachable, tcp_hello
from gateway.cli.generate.connection import Connection, SendError
from gateway.cli.generate.lasting import Lasting
from gateway.cli.generate.progress import shown, stopped_by_signals
from gateway.cli.generate.run import Link, Pace, Run, send_run
from gateway.cli.traffic import Events, Scenario, Traffic
from gateway.configuration import load
from gateway.settings import Settings

_ENDLESS_RAMP_SECS = 300.0
_SCENARIO_SECS = 60.0


def generate(
    batch: Annotated[int | None, typer.Option(help="Send this many events, as fast as they are taken.")] = None,
    continuous: Annotated[
        bool, typer.Option("--continuous", help="Send steadily, until Ctrl-C; waits for a gateway that is away.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(help="Events per second, by default 50; high_load rises to it from a twentieth, by default 1000."),
    ] = None,
    duration: Annotated[float | None, typer.Option(help="End after this many seconds.")] = None,
    scenario: Annotated[
        Scenario | None,
        typer.Option(
            help="What goes wrong, more and more; alone it runs for 60 s. "
            + " ".join(f"{each}: {each.shows}." for each in Scenario)
        ),
    ] = None,
    from_sklearn: Annotated[
        bool,
        typer.Option("--from-sklearn", help="Train small scikit-learn models and send what they really predict."),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print each event sent, a line each.")] = False,
    host: Annotated[str | None, typer.Option(help="Where the gateway listens; default: as the settings say.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Its TCP port; default: as the settings say.", min=1, max=65535)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file; default ./gateway.yaml when it is there.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Make the same events again, ids included, but for what --from-sklearn measures: "
            "sent twice a day, the gateway counts duplicates."
        ),
    ] = None,
) -> None:
    """Send realistic events of several models to a gateway.

    \b
    Examples:
      gateway generate --batch 1000
      gateway generate --continuous --rate 200 --duration 60
      gateway generate --scenario degradation --from-sklearn
    """
    run = _plan(batch, continuous, rate, duration, scenario)
    sort_of_traffic = _sort_of_traffic(from_sklearn)
    settings = load(config)
    page = _page(settings, host, port)
    host = host or reachable(settings.tcp.host)
    try:
        port = port or _tcp_port(settings)

        def connect() -> Connection:
            return Connection(host, port, tcp_hello(settings))

        first = connect()
        connection: Link = first
        try:
            traffic = sort_of_traffic(randbits(63) if seed is None else seed, scenario or Scenario.NORMAL)
            _announce(run, scenario, page)
            with stopped_by_signals() as stop, shown(run, verbose=verbose) as show:
                if run.total is None:
                    connection = Lasting(first, connect, stop, _tell)
                send_run(run, traffic, connection, stop, show)
        finally:
            connection.close()
    except SendError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    _summarise(run)
    if page is not None and not stop.is_set():  # else whoever stopped it may stop the gateway too, as `make demo` does
        typer.echo(f"See them on the gateway's first page, {page}")
    if batch is not None and run.sent < batch:
        typer.echo(f"Stopped before the end: {batch - run.sent:,} events of the batch were not sent.", err=True)
        raise typer.Exit(1)


def _plan(
    batch: int | None, continuous: bool, rate: float | None, duration: float | None, scenario: Scenario | None
) -> Run:
    """Make the run of the options, or end with what is wrong with them."""
    for name, number in (("--batch", batch), ("--rate", rate), ("--duration", duration)):
        if number is not None and not 0 < number < math.inf:
            _wrong_usage(f"{name} must be a number above 0, not {number:g}.")
    if batch is not None:
        if continuous or rate is not None or duration is not None:
            _wrong_usage("--batch sends at once: leave out --continuous, --rate and --duration, or --batch.")
        return Run(total=batch)
    if not continuous and scenario is None:
        _wrong_usage("Say what to send: --batch N, --continuous --rate R or --scenario NAME.")
    scenario = scenario or Scenario.NORMAL
    rate = rate or scenario.rate
    if duration is None and not continuous:
        duration = _SCENARIO_SECS
    pace = Pace(rate * scenario.first_share, rate, duration or _ENDLESS_RAMP_SECS)
    total = None if duration is None else max(1, round(pace.count(duration)))
    return Run(total=total, pace=pace, duration_secs=duration)


def _wrong_usage(sentence: str) -> NoReturn:
    typer.echo(f"{sentence} See `gateway generate --help`.", err=True)
    raise typer.Exit(2)


def _tcp_port(settings: Settings) -> int:
    if not settings.tcp.enabled:
        raise SendError("The settings switch TCP off (tcp.enabled): switch it on, or name a port with --port.")
    if settings.tcp.port == 0:
        raise SendError("The settings let the system choose tcp.port: name the port it chose with --port.")
    return settings.tcp.port


def _page(settings: Settings, host: str | None, port: int | None) -> str | None:
    """Give the address of the gateway's first page; None for a gateway that is not the one of the settings."""
    if host not in (None, settings.tcp.host, reachable(settings.tcp.host)) or port not in (None, settings.tcp.port):
        return None
    scheme = "http" if settings.http.tls is None else "https"
    return f"{scheme}://{_console_host(reachable(settings.http.host))}:{settings.http.port}/"


def _console_host(host: str) -> str:
    with suppress(ValueError):
        if ip_address(host).is_loopback:
            return "127.0.0.1"
    if host == "localhost":
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _sort_of_traffic(from_sklearn: bool) -> Callable[[int, Scenario], Events]:
    if not from_sklearn:
        return Traffic
    try:
        from gateway.cli.traffic.trained import TrainedTraffic
    except ModuleNotFoundError as error:
        typer.echo(
            f"--from-sklearn needs scikit-learn, and {error.name} is not installed: "
            f"run `{sys.executable} -m pip install scikit-learn`, then try again.",
            err=True,
        )
        raise typer.Exit(1) from error
    return TrainedTraffic


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _announce(run: Run, scenario: Scenario | None, page: str | None) -> None:
    if scenario is not None:
        _tell(f"Scenario {scenario}: {scenario.shows}.")
    if run.pace is None:
        return
    first = "" if run.pace.start == run.pace.end else f"{run.pace.start:,g} to "
    until = "until Ctrl-C" if run.duration_secs is None else f"for {run.duration_secs:g} s"
    typer.echo(
        f"Sending {first}{run.pace.end:,g} events/s {until}{'.' if page is None else f': open {page}'}", err=True
    )


def _summarise(run: Run) -> None:
    pace = run.sent / run.secs if run.secs else 0.0
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in run.kinds.most_common())
    typer.echo(f"Sent {run.sent:,} events in {run.secs:.2f} s ({pace:,.1f} events/s): {kinds or 'none'}.")
    if run.pace is not None and run.sent < 0.95 * run.due(run.secs):
        typer.echo(
            f"The rate of {run.pace.end:,g}/s was not reached: this sender or the gateway is too slow.", err=True
        )
