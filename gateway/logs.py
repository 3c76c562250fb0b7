"""The gateway's own log: to the console, and as JSON lines to a rotated file when one is set."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import nullcontext, suppress
from itertools import takewhile
from logging.handlers import RotatingFileHandler
from typing import Any, NamedTuple

import orjson
import structlog
from structlog.dev import plain_traceback  # the default one prints variables, keys among them

from gateway.settings import Log

SAME_WITHIN_SECS = 10.0
MAX_REMEMBERED = 1000


def configure(settings: Log) -> None:
    """Set up logging for the process."""
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    foreign = [*shared, structlog.stdlib.ExtraAdder(["repeated"])]
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    as_json = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=foreign,
        processors=[remove, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_dumps)],
    )
    for_people = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=foreign,
        processors=[
            remove,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=plain_traceback,
                repr_native_str=True,  # what a sender wrote must not steer the terminal
            ),
        ],
    )
    console = logging.StreamHandler(sys.stderr)
    plain = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    console.setFormatter(for_people if plain else as_json)
    root = logging.getLogger()
    handlers: list[logging.Handler] = [console]
    root.handlers = [_Once(handlers)]
    root.setLevel(settings.level.upper())
    for chatty in ("uvicorn", "elastic_transport", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("elastic_transport").setLevel(logging.ERROR)  # its retries are told by the sink
    if settings.file is not None:
        try:
            settings.file.parent.mkdir(parents=True, exist_ok=True)
            file = _File(settings)
        except OSError as error:
            root.warning(f"The log file {settings.file} cannot be written ({error.strerror}): logging here only.")
            return
        file.setFormatter(as_json)
        handlers.append(file)


class _File(RotatingFileHandler):
    """A rotated file. The console gets every line anyway; of the file's trouble it is told once."""

    def __init__(self, settings: Log) -> None:
        super().__init__(str(settings.file), maxBytes=settings.max_bytes, backupCount=settings.keep, encoding="utf-8")
        self._told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name logging gives it
        if not self._told:
            self._told = True
            error = sys.exc_info()[1]
            sys.stderr.write(f"The log file {self.baseFilename} cannot be written ({error}): logging here only.\n")


def write_kept_back() -> None:
    """Write what the limit kept back for long enough; to be called once a second or so."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Once):
            handler.write_kept_back(SAME_WITHIN_SECS)


class _Seen(NamedTuple):
    """A sentence since it was last written."""

    since: float
    kept_back: int = 0
    latest: logging.LogRecord | None = None


class _Once(logging.Handler):
    """The only handler of the root logger: writes the same sentence about the same once in a while.

    Of those it kept back meanwhile it then writes the latest; `repeated` says how many there were besides.
    """

    def __init__(self, handlers: list[logging.Handler]) -> None:
        super().__init__()
        self._handlers = handlers
        self._seen: dict[tuple[str, ...], _Seen] = {}  # the one written first comes first

    def emit(self, record: logging.LogRecord) -> None:
        self.write_kept_back(SAME_WITHIN_SECS)
        key = _sentence(record)
        if seen := self._seen.get(key):
            self._seen[key] = seen._replace(kept_back=seen.kept_back + 1, latest=record)
            return
        if len(self._seen) >= MAX_REMEMBERED:
            self._write_latest(self._seen.pop(next(iter(self._seen))))
        self._seen[key] = _Seen(time.monotonic())
        self._write(record)

    def write_kept_back(self, secs: float) -> None:
        """Write what was kept back for ``secs``, and forget what did not come again within them."""
        with self.lock or nullcontext():
            moment = time.monotonic()
            for key in list(takewhile(lambda key: moment - self._seen[key].since >= secs, self._seen)):
                if self._write_latest(self._seen.pop(key)):
                    self._seen[key] = _Seen(moment)

    def flush(self) -> None:
        """Write all that was kept back: the process ends."""
        self.write_kept_back(0)

    def _write_latest(self, seen: _Seen) -> bool:
        if seen.latest is None:
            return False
        if seen.kept_back > 1:
            if isinstance(seen.latest.msg, dict):
                seen.latest.msg["repeated"] = seen.kept_back - 1
            else:
                seen.latest.repeated = seen.kept_back - 1
        self._write(seen.latest)
        return True

    def _write(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            handler.handle(record)

    def close(self) -> None:
        super().close()
        for handler in self._handlers:
            with suppress(OSError):  # a full disk, at the last flush
                handler.close()


def _sentence(record: logging.LogRecord) -> tuple[str, ...]:
    """Return what two records have in common that say the same about the same."""
    words = record.msg if isinstance(record.msg, dict) else {"event": record.msg}
    host = str(words.get("peer", "")).rpartition(":")[0]
    return (record.name, host, *(str(words.get(name)) for name in ("event", "sink", "source", "reason")))


def _dumps(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()
