"""Dead letters as they are shown in a terminal, within 80 columns, with what to do next."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.ask import plain

_COMMAND = "gateway dead-letters"


def groups(found: dict[str, Any]) -> None:
    """Print the groups of a list."""
    console = Console(highlight=False)
    if not found["groups"]:
        console.print("There are no dead letters here.", markup=False)
        return
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("events", "reason", "path", "rule", "first", "last", "example"):
        right = name in ("events", "example")
        table.add_column(name, justify="right" if right else "left", no_wrap=right or name in ("first", "last"),
                         overflow="fold")  # fmt: skip
    for each in found["groups"]:
        example = each["example"]
        cells = (
            f"{each['count']:,}", each["reason"], each["path"], each["rule"], _minute(each["first"]),
            _minute(each["last"]), "" if example is None else str(example["id"]),
        )  # fmt: skip
        table.add_row(*(Text(plain(cell)) for cell in cells))
    console.print(table)
    lines = ["", f"{_events(found['total'])}; all dead letters take {found['bytes']:,} bytes."]
    if found["groups_omitted"]:
        lines.append(f"{found['groups_omitted']:,} smaller groups are not shown: choose with --reason, --path, --rule.")
    if found["without_bytes"]:
        lines.append(f"{found['without_bytes']:,} without their bytes (dead_letters.max_bytes): no replay can help.")
    largest = found["groups"][0]
    if largest["example"] is not None:
        lines.append(f"See one:              {_COMMAND} show {largest['example']['id']}")
    lines.append(f"See what passes now:  {_COMMAND} replay --dry-run")
    console.print("\n".join(lines), markup=False)


def letter(found: dict[str, Any], kept: int) -> None:
    """Print all of a letter but its bytes, of which ``kept`` are there."""
    console = Console(highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    sender = f"{found['source']} {found['peer']}".strip()
    rows = {
        "id": found["id"],
        "refused": found["at"] if "last" not in found else f"{found['at']} to {found['last']}",
        "from": sender,
        "tenant": found["tenant"],
        "kind": found["kind"],
        "reason": found["reason"],
        "path": found["path"],
        "rule": found["rule"],
        "message": found["message"],
        "index": found["index"],
        "_id": found["document_id"],
        "events": found["events"] if found["events"] > 1 else None,
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, Text(plain(str(value))))
    size = f"{found['data_bytes']:,}"
    if not found["bytes_kept"]:
        size += ", not kept (dead_letters.max_bytes)"
    elif kept < found["data_bytes"]:
        size += f", of which the first {kept:,} were kept"
    table.add_row("bytes", size)
    console.print(table)
    console.print()


def report(found: dict[str, Any]) -> None:
    """Print what became, or would become, of a replay."""
    console = Console(highlight=False)
    if found["dry_run"]:
        console.print(f"{_events(found['would_pass'])} would pass now, {found['stay']:,} would stay.")
        if found["unknown"]:
            console.print(f"{_events(found['unknown'])} would be sent; whether they pass cannot be known now.")
    else:
        console.print(f"{_events(found['replayed'])} replayed, {found['stay']:,} stay.")
    if found["why"]:
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
        table.add_column("events", justify="right", no_wrap=True)
        table.add_column("why not" if not found.get("unknown") else "why", overflow="fold")
        table.add_column("example", justify="right", no_wrap=True)
        for each in found["why"]:
            where = f"{each['path']}: " if each["why"] == "refused" and each["path"] != "$" else ""
            table.add_row(f"{each['count']:,}", Text(plain(where + each["message"])), str(each["example"]))
        if omitted := found.get("why_omitted"):
            table.add_row(f"{omitted:,}", "for other reasons", "")
        console.print(table)
    if found["dry_run"] and found["would_pass"] + found["unknown"]:
        console.print("Send them: the same command without --dry-run.")


def _events(count: int) -> str:
    return f"{count:,} {'dead letter' if count == 1 else 'dead letters'}"


def _minute(time: str) -> str:
    return datetime.fromisoformat(time).astimezone().strftime("%m-%d %H:%M")
