"""`gateway generate`: realistic events for a gateway, as a batch or at a steady rate.

A run is an open-loop schedule: each event has its moment from the start of the run on, so a pause is
caught up and the rate does not drift. What was sent counts as arrived when the gateway, having read to
the end, closes the connection; plain TCP tells no more.
"""

import math
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from secrets import randbits
from typing import Annotated, NoReturn

import orjson
import typer

from gateway.cli.traffic import Scenario, Traffic

_CONNECT_SECS = 5.0
_STALLED_SECS = 30.0
_CLOSE_SECS = 5.0
_ROUND_SECS = 0.002
_ROUND_EVENTS = 500
_CATCH_UP_SECS = 1.0
_ENDLESS_RAMP_SECS = 300.0
_SCENARIO_SECS = 60.0
_START_IT = "start the gateway with `make run` or `gateway serve`"


class SendError(Exception):
    """The gateway cannot be reached or did not take everything; the text is one sentence for the user."""


@dataclass
class Run:
    """What is to be sent, and what has been."""

    total: int | None
    rate: float | None = None
    duration_secs: float | None = None
    sent: int = 0
    secs: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)

    def due(self, secs: float) -> int:
        """Count the events whose moment has come."""
        due = self.total if self.rate is None else int(secs * self.rate) + 1
        return min(due, self.total) if due is not None and self.total is not None else due or 0

    def progress(self, secs: float) -> float:
        """Say how far through its scenario the run is."""
        if self.rate is None:
            return self.sent / (self.total or 1)
        return min(1.0, secs / (self.duration_secs or _ENDLESS_RAMP_SECS))

    def next_moment(self) -> float:
        """Give the second at which the next event is due, or after the last the end."""
        if self.rate is None or (self.total is not None and self.sent >= self.total):
            return self.duration_secs or 0.0
        return self.sent / self.rate

    def over(self, secs: float) -> bool:
        """Say whether all is sent in its time, or a gateway too slow for the rate has used up the time."""
        past = secs - (self.duration_secs or 0.0)
        if self.total is None or (self.sent < self.total and self.duration_secs is None):
            return False
        return past >= 0 if self.sent >= self.total else past > _CATCH_UP_SECS


class Connection:
    """JSON lines to the gateway; every failure is a `SendError`."""

    def __init__(self, host: str, port: int) -> None:
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout=_CONNECT_SECS)
        except OSError as error:
            reason = error.strerror or str(error)
            raise SendError(
                f"{self._address} cannot be reached ({reason}), 0 events were sent: {_START_IT}, then try again."
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(_STALLED_SECS)

    def send(self, lines: bytes, sent: int) -> None:
        """Send whole lines; `sent` is what was sent before them, for the error."""
        try:
            # A gateway that has closed its side reads no more, yet TCP would take some more lines for it.
            while select.select([self._socket], [], [], 0)[0]:
                if not self._socket.recv(65536):
                    raise ConnectionResetError
            self._socket.sendall(lines)
        except TimeoutError as error:
            raise SendError(
                f"{self._address} has taken nothing for {_STALLED_SECS:g} s, after {sent:,} events sent: "
                "see in its log or on /status what holds it up."
            ) from error
        except OSError as error:
            raise self._lost(sent) from error

    def finish(self, sent: int) -> None:
        """Say that no more comes, and wait until the gateway, having read it all, closes its side too."""
        deadline = time.monotonic() + _CLOSE_SECS
        try:
            self.send(b"", sent)
            self._socket.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if not self._socket.recv(65536):
                    return
            raise TimeoutError
        except TimeoutError as error:
            raise SendError(
                f"{self._address} has not closed the connection within {_CLOSE_SECS:g} s, so it is not known "
                f"whether all of the {sent:,} events sent have arrived: see in its log or on /status."
            ) from error
        except OSError as error:
            raise self._lost(sent) from error

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()

    def _lost(self, sent: int) -> SendError:
        return SendError(
            f"{self._address} has closed the connection after {sent:,} events sent, the last of them may be "
            f"lost: {_START_IT}, then try again."
        )


def send_run(
    run: Run,
    traffic: Traffic,
    connection: Connection,
    stop: threading.Event,
    show: Callable[[Run], None],
    verbose: bool,
) -> None:
    """Send the events when they are due, in small groups, until the run is over or stopped."""
    started = time.monotonic()
    while not stop.is_set() and not run.over(run.secs):
        group = min(run.due(run.secs) - run.sent, _ROUND_EVENTS)
        if group <= 0:
            stop.wait(max(_ROUND_SECS, run.next_moment() - run.secs))
        else:
            now, progress = datetime.now(UTC), run.progress(run.secs)
            events = [traffic.event(now, progress) for _ in range(group)]
            lines = b"".join([orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in events])
            connection.send(lines, run.sent)
            run.sent += group
            run.kinds.update([event.get("type", "mlflow") for event in events])
            if verbose:
                typer.echo(lines, nl=False)
            show(run)
        run.secs = time.monotonic() - started
    connection.finish(run.sent)
    run.secs = time.monotonic() - started


def generate(
    batch: Annotated[int | None, typer.Option(help="Send this many events, as fast as they are taken.")] = None,
    continuous: Annotated[bool, typer.Option("--continuous", help="Send steadily, until Ctrl-C.")] = False,
    rate: Annotated[float | None, typer.Option(help="Events per second; by default 50, with high_load 1000.")] = None,
    duration: Annotated[float | None, typer.Option(help="End after this many seconds.")] = None,
    scenario: Annotated[
        Scenario | None, typer.Option(help="What goes wrong, more and more; alone it runs for 60 s.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print each event sent, a line each.")] = False,
    host: Annotated[str, typer.Option(help="Where the gateway listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its TCP port.", min=1, max=65535)] = 5001,
    seed: Annotated[
        int | None,
        typer.Option(help="Make the same events again, ids included: sent twice a day, the gateway counts duplicates."),
    ] = None,
) -> None:
    """Send realistic events of several models to a gateway.

    \b
    Examples:
      gateway generate --batch 1000
      gateway generate --continuous --rate 200 --duration 60
      gateway generate --scenario degradation
    """
    run = _plan(batch, continuous, rate, duration, scenario)
    traffic = Traffic(randbits(63) if seed is None else seed, scenario or Scenario.NORMAL)
    try:
        connection = Connection(host, port)
        try:
            with _stopped_by_signals() as stop, _progress_bar(run, hidden=verbose) as show:
                send_run(run, traffic, connection, stop, show, verbose)
        finally:
            connection.close()
    except SendError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    _summarise(run, host)
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
    rate = rate or (scenario or Scenario.NORMAL).rate
    if duration is None and not continuous:
        duration = _SCENARIO_SECS
    total = None if duration is None else max(1, round(rate * duration))
    return Run(total=total, rate=rate, duration_secs=duration)


def _wrong_usage(sentence: str) -> NoReturn:
    typer.echo(f"{sentence} See `gateway generate --help`.", err=True)
    raise typer.Exit(2)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop, so that no line is cut; the second kills."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request_stop(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, request_stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress_bar(run: Run, *, hidden: bool) -> Iterator[Callable[[Run], None]]:
    """Show how the run goes on, on a terminal only."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda _: None
        return
    columns: list[ProgressColumn] = [TextColumn("Sending"), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn("{task.fields[rate]:,.0f} events/s"), TimeElapsedColumn()]
    if run.total is not None:
        columns += [TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=run.total, rate=0.0)
        yield lambda now: bar.update(task, completed=now.sent, rate=now.sent / max(now.secs, 0.001))


def _summarise(run: Run, host: str) -> None:
    pace = run.sent / run.secs if run.secs else 0.0
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in run.kinds.most_common())
    typer.echo(f"Sent {run.sent:,} events in {run.secs:.2f} s ({pace:,.1f} events/s): {kinds or 'none'}.")
    if run.rate is not None and run.sent < 0.95 * run.due(run.secs):
        typer.echo(f"The rate of {run.rate:,g}/s was not reached: this sender or the gateway is too slow.", err=True)
    typer.echo(f"See them on the gateway's first page, http://{_console_host(host)}:8080/ unless http.port is set.")


def _console_host(host: str) -> str:
    with suppress(ValueError):
        if ip_address(host).is_loopback:
            return "127.0.0.1"
    if host == "localhost":
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
