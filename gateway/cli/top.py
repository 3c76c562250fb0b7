"""``gateway top``: the running gateway in a terminal, live."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.ask import NoGateway, Url, ask, connect, plain
from gateway.configuration import load
from gateway.errors import GatewayError

if TYPE_CHECKING:
    import httpx
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

Status = dict[str, Any]
ANSWER_SECS = 5.0
FAST_SECS = 0.5
"""Without a frame before it there is no rate: the first two are this far apart."""
_NOT_STORED = {"dead_letters": "refused, as dead letters", "skipped": "skipped", "damaged": "damaged"}
_STATES = {"ok": "green", "retrying": "yellow", "stopped": "red"}


def top(
    url: Url = None,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file; default ./gateway.yaml when it is there.")] = None,
) -> None:
    """Show what comes in, what waits and what the sinks take, until Ctrl-C.

    Where the output is no terminal it prints one frame and ends.

    Example: gateway top --interval 1
    """
    from rich.console import Console

    settings = load(config)
    console = Console()
    with connect(settings, url, timeout_secs=ANSWER_SECS) as client:
        watch = _Watch(client)
        if once or not console.is_terminal:
            watch.look()
            time.sleep(FAST_SECS)
            watch.look()
            console.print(watch.frame())
        else:
            _live(console, watch, interval)


def _live(console: Console, watch: _Watch, interval: float) -> None:
    from rich.live import Live

    try:
        watch.try_to_look()
        with Live(watch.frame(), console=console, screen=True, auto_refresh=False) as live:
            time.sleep(min(FAST_SECS, interval))
            while True:
                started = time.monotonic()
                watch.try_to_look()
                live.update(watch.frame(), refresh=True)
                time.sleep(max(0.0, started + interval - time.monotonic()))
    except KeyboardInterrupt:
        pass


class _Watch:
    """Asks for `/status`, and keeps the answer before for the rates."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._status: Status | None = None
        self._before: Status | None = None
        self._trouble: str | None = None

    def look(self) -> None:
        """Ask once; raise `GatewayError` without a sound answer."""
        try:
            status = ask(self._client, "GET", "/status").json()
            status["books"]["sinks"]
        except (ValueError, LookupError, TypeError):
            raise NoGateway(
                f"What answers at {self._client.base_url} is not a gateway: see http.port, or name another address "
                "with --url."
            ) from None
        before, self._status = self._status, {**status, "at": time.monotonic()}
        # After a restart without its data the counts begin anew, and a rate would be nonsense.
        gone = before is None or before["books"]["received"] > status["books"]["received"]
        self._before = None if gone else before
        self._trouble = None

    def try_to_look(self) -> None:
        """Ask once, and remember why there is no answer."""
        try:
            self.look()
        except GatewayError as error:
            self._trouble = plain(str(error))

    def frame(self) -> RenderableType:
        """Return what is to be shown: the last answer, and why there is no newer one."""
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = []
        if self._trouble is not None:
            parts += [Text(f"✗ {self._trouble}", "bold red"), Text("Trying again. What was seen last:", "dim"), ""]
        if self._status is not None:
            parts += _parts(str(self._client.base_url), self._status, self._before or self._status)
        elif self._trouble is not None:
            parts[1:] = [Text("Trying again.", "dim")]
        return Group(*parts)


def _parts(address: str, now: Status, before: Status) -> list[RenderableType]:
    from rich.text import Text

    head = f"gateway {now['version']} at {address}, up {_duration(now['uptime_secs'])}"
    return [
        Text(head, "bold"),
        _books(now["books"]),
        "",
        _sources(now, before),
        "",
        _spool(now),
        "",
        *_sinks(now, before),
    ]


def _books(books: Status) -> Text:
    from rich.text import Text

    # Of several sinks it is the one that is furthest behind.
    stored = min(map(_stored, books["sinks"].values()), default=0)
    waiting = max((each["waiting"] for each in books["sinks"].values()), default=0)
    where = " in all sinks" if len(books["sinks"]) > 1 else ""
    line = Text(f"{books['received']:,} in · {stored:,} stored{where} · {books['refused']:,} refused · ")
    line.append(f"{waiting:,} waiting · " if waiting else "")
    line.append(f"{abs(books['difference']):,} missing", "bold red" if books["difference"] else "")
    line.append(f" · {books['dead_letters']:,} dead letters held", "yellow" if books["dead_letters"] else "")
    return line


def _sources(now: Status, before: Status) -> Table:
    table = _table("SOURCE", "events/s", "received", "refused", "connections")
    secs = now["at"] - before["at"]
    for name, each in now["sources"].items():
        earlier = before["sources"].get(name, each)
        rate = _rate(each["received"] - earlier["received"], secs)
        table.add_row(name, rate, f"{each['received']:,}", f"{each['refused']:,}", str(each.get("connections", "")))
    return table


def _spool(now: Status) -> Text:
    from rich.text import Text

    spool = now["spool"]
    line = Text()
    line.append("SPOOL ", "bold")
    line.append(f"{_size(spool['bytes'])} of {_size(spool['max_bytes'])} on disk, ")
    line.append(f"the oldest event waits {_duration(spool['oldest_secs'])}")
    if trouble := spool["failure"] or spool["full"]:
        line.append(f"\n{trouble}", "bold red")
    return line


def _sinks(now: Status, before: Status) -> list[RenderableType]:
    from rich.text import Text

    table = _table("SINK", "events/s", "stored", "waiting", "in flight", "state")
    troubles = []
    secs = now["at"] - before["at"]
    for name, mine in now["books"]["sinks"].items():
        sink = now["sinks"].get(name, {"state": "opening", "last_error": None})
        earlier = before["books"]["sinks"].get(name, mine)
        rate = _rate(_stored(mine) - _stored(earlier), secs)
        color = _STATES.get(sink["state"], "yellow")
        flying = str(sink.get("in_flight", ""))
        table.add_row(name, rate, f"{_stored(mine):,}", f"{mine['waiting']:,}", flying, Text(sink["state"], color))
        if kept := {each: mine[each] for each in _NOT_STORED if mine[each]}:
            text = ", ".join(f"{count:,} {_NOT_STORED[each]}" for each, count in kept.items())
            troubles.append(Text(f"{name}: {text}", "yellow"))
        if sink["last_error"]:
            over = sink["state"] == "ok"
            text = f"{name}, {'over now' if over else sink['state']}: {plain(sink['last_error'])}"
            troubles.append(Text(text, "dim" if over else color))
    return [table, *troubles]


def _stored(books: Status) -> int:
    return int(books["indexed"] + books["duplicates"])


def _table(name: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(name, min_width=14, overflow="fold")
    for column in columns:
        table.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
    return table


def _rate(count: int, secs: float) -> str:
    return f"{max(0, count) / secs:,.0f}" if secs > 0 else "-"


def _size(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _duration(secs: float) -> str:
    """Write seconds as people do: 3.2 s, 5 min 20 s, 3 h 5 min, 2 d 4 h."""
    if secs < 60:
        return f"{secs:.1f} s"
    for large, small, unit, less in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if secs >= large:
            return f"{int(secs // large)} {unit} {int(secs % large // small)} {less}"
    return ""
