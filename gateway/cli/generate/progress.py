"""What a run shows while it goes on, and the signals that end it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from gateway.cli.generate.run import Run, Stop


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop, so that no line is cut; the second kills."""
    stop = Stop()
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
def shown(run: Run, *, verbose: bool) -> Iterator[Callable[[Run, bytes], None]]:
    """Print each line sent, or else on a terminal that can show it a bar."""
    if verbose:
        yield lambda _, lines: typer.echo(lines, nl=False)
        return

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
    if not console.is_interactive:
        yield lambda _, __: None
        return
    columns: list[ProgressColumn] = [TextColumn("Sending"), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn("{task.fields[rate]:,.0f} events/s"), TimeElapsedColumn()]
    if run.total is not None:
        columns += [TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=run.total, rate=0.0)
        yield lambda now, _: bar.update(task, completed=now.sent, rate=now.sent / max(now.secs, 0.001))
