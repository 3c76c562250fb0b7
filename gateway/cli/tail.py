"""``gateway tail``: what comes in, an event a line, live."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
import typer

from gateway.cli.ask import NoGateway, NotNow, Url, connect, stream
from gateway.configuration import load

if TYPE_CHECKING:
    import httpx
    from rich.console import Console

PATH = "/v1/tail"
SILENT_SECS = 30.0  # the gateway says something every 10 s
RETRY_SECS = 0.5


def tail(
    url: Url = None,
    where: Annotated[
        list[str] | None, typer.Option(help="FIELD:VALUE that an event must have, FIELD:* for any; repeat for several.")
    ] = None,
    index: Annotated[str, typer.Option(help="Index names or patterns, several by comma.")] = "*",
    words: Annotated[str | None, typer.Option("-q", "--words", help="Words that all occur in an event.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
    lines: Annotated[int | None, typer.Option("-n", "--lines", help="End after so many events.", min=1)] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file; default ./gateway.yaml when it is there.")] = None,
) -> None:
    """Show events as they come in, until Ctrl-C; times are UTC.

    While the gateway is away it waits, and goes on where it was. When more comes in than can be followed, it says how
    many events it passed over.

    Example: gateway tail --index 'ml-metrics-*' --where model_name:churn --where error:true
    """
    settings = load(config)
    asked: dict[str, Any] = {"index": index, "where": where or []}
    if words:
        asked["q"] = words
    try:
        with connect(settings, url, timeout_secs=SILENT_SECS) as client:
            _show(_events(client, asked), _Lines(settings.events.index_prefix, as_json=as_json), lines)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # such as `gateway tail | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush failed, too


class _Event(NamedTuple):
    name: str
    data: bytes


def _show(batches: Iterator[list[_Event]], printed: _Lines, most: int | None) -> None:
    shown = 0
    for batch in batches:
        for event in batch:
            if event.name == "passed":
                printed.passed(orjson.loads(event.data)["documents"])
            elif event.name == "document":
                printed.event(event.data)
                shown += 1
                if shown == most:
                    printed.flush()
                    return
        printed.flush()


class _Lines:
    """Prints lines: in a terminal with colours and no longer than it is wide."""

    def __init__(self, prefix: str, *, as_json: bool) -> None:
        self._prefix = prefix
        self._as_json = as_json
        self._console: Console | None = None
        if sys.stdout.isatty() and not as_json:
            from rich.console import Console

            self._console = Console(highlight=False)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        self._waiting: list[Any] = []

    def event(self, data: bytes) -> None:
        if self._as_json:
            text = data.decode()
            self._waiting.append(text if text.isprintable() else "".join(map(_escaped, text)))
            return
        from gateway.cli.events_shown import line

        width = self._console.width if self._console is not None else None
        shown = line(orjson.loads(data), self._prefix, width)
        self._waiting.append(shown if self._console is not None else shown.plain)

    def passed(self, documents: int) -> None:
        if self._console is None:
            self.flush()
            _tell(f"{documents:,} events were passed over.")
            return
        from rich.text import Text

        self._waiting.append(Text(f"… {documents:,} events passed over", "dim", end=""))

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        if self._console is None:
            sys.stdout.write("\n".join(waiting) + "\n")
            sys.stdout.flush()
            return
        from rich.text import Text

        self._console.print(Text("\n").join(waiting), soft_wrap=True)


def _escaped(sign: str) -> str:
    """Return a sign of a JSON text so that it does not steer a terminal; it can only be part of a string."""
    return sign if sign.isprintable() else json.dumps(sign)[1:-1]


def _tell(text: str) -> None:
    sys.stderr.write(f"gateway: {text}\n")
    sys.stderr.flush()


def _events(client: httpx.Client, asked: dict[str, Any]) -> Iterator[list[_Event]]:
    """Give events as they come, for ever; raise `GatewayError` when it cannot begin, or is refused."""
    import httpx

    last = ""
    began = is_away = False
    while True:
        try:
            answer = stream(client, PATH, params=asked, headers={"last-event-id": last} if last else {})
            with contextlib.closing(answer):
                if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                    raise NoGateway(
                        f"What answers at {client.base_url} is not a gateway: see http.port, or name another address "
                        "with --url."
                    )
                if not began and sys.stdout.isatty() and sys.stderr.isatty():
                    _tell(f"following {client.base_url}, Ctrl-C ends.")
                if is_away:
                    _tell(f"Connected to the gateway at {client.base_url} again.")
                began, is_away = True, False
                for batch, seen in _batches(answer):
                    last = seen or last
                    yield batch
        except (NoGateway, NotNow):
            if not began:
                raise
        except httpx.TransportError:
            pass
        if not is_away:
            _tell(f"The gateway at {client.base_url} is away: trying again.")
        is_away = True
        time.sleep(RETRY_SECS)


def _batches(answer: httpx.Response) -> Iterator[tuple[list[_Event], str]]:
    """Give server-sent events as they arrive, each time with the last id."""
    rest = b""
    for chunk in answer.iter_bytes():
        *blocks, rest = (rest + chunk).split(b"\n\n")
        batch, last = [], ""
        for block in blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
            last = fields.get(b"id", b"").decode() or last
            if b"data" in fields:
                batch.append(_Event(fields.get(b"event", b"").decode(), fields[b"data"]))
        yield batch, last
