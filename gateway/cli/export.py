"""``gateway export``: a daily index as a Parquet file."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO
from urllib.parse import quote

import typer

from gateway.cli.ask import NoGateway, Url, connect, download
from gateway.configuration import load
from gateway.errors import GatewayError
from gateway.settings import Settings

MAKING_SECS = 3600.0  # the gateway answers when the file is made


def export(
    index: Annotated[str, typer.Argument(metavar="INDEX", help="One daily index, such as ml-metrics-2026.11.21.")],
    output: Annotated[Path | None, typer.Option(help="File to write or replace; default ./INDEX.parquet.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file; default ./gateway.yaml when it is there.")] = None,
    url: Url = None,
) -> None:
    """Write a daily index as a Parquet file: of the running gateway, or of its files when it does not run.

    Example: gateway export ml-metrics-2026.11.21 --output metrics.parquet
    """
    if not index or set(index) & set("/*?,"):
        raise typer.BadParameter("name one index, such as ml-metrics-2026.11.21; for several run it once for each.")
    settings = load(config)
    file = output or Path(f"{index}.parquet")
    with replacing(file) as partial:
        _write(settings, index, url, partial)
    rows = _rows(file)
    typer.echo(f"{file}: {rows:,} {'row' if rows == 1 else 'rows'}, {file.stat().st_size:,} bytes.")
    typer.echo(f"In Python: duckdb.read_parquet('{file}') or pandas.read_parquet('{file}').")


def _write(settings: Settings, index: str, url: str | None, file: BinaryIO) -> None:
    try:
        with connect(settings, url, timeout_secs=MAKING_SECS) as client:
            download(client, f"/v1/export/{quote(index, safe='')}", file)
    except NoGateway:
        if url is not None:
            raise
        from gateway.operations.exports import export_alone

        asyncio.run(export_alone(settings, index, Path(file.name)))


@contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """Give a file that takes the place of ``file`` when it is whole and on the disk, and goes when it is not."""
    partial = file.with_name(f"{file.name}.partial")
    try:
        with partial.open("ab") as opened:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise GatewayError(f"{partial} is being written by another export: wait for it.") from None
            opened.truncate(0)
            try:
                yield opened
                opened.flush()
                os.fsync(opened.fileno())
                partial.replace(file)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise GatewayError(f"{file} cannot be written: {error.strerror or error}.") from None


def _rows(file: Path) -> int:
    import duckdb

    ((rows,),) = duckdb.execute("SELECT count(*) FROM read_parquet($1)", [str(file)]).fetchall()
    return int(rows)
