"""The gateway's own log: to the console, and as JSON lines to a rotated file when one is set."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from typing import Any

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
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    as_json = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[remove, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_dumps)],
    )
    for_people = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            remove,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback),
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


class _Limit(logging.Filter):
    """Lets the same sentence about the same peer through once in a while, and says how many it kept back."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        event = record.msg if isinstance(record.msg, dict) else None
        words = {"event": str(record.msg)} if event is None else event
        host = str(words.get("peer", "")).rpartition(":")[0]
        key = (record.name, str(words.get("event")), host, str(words.get("sink")))
        moment = time.monotonic()
        since, kept_back = self._seen.get(key, (-SAME_WITHIN_SECS, 0))
        if moment - since < SAME_WITHIN_SECS:
            self._seen[key] = (since, kept_back + 1)
            return False
        if len(self._seen) >= MAX_REMEMBERED:
            self._seen.clear()
        self._seen[key] = (moment, 0)
        if kept_back and event is not None:
            event["repeated"] = kept_back
        return True


class _Once(logging.Handler):
    """The only handler of the root logger, so that the limit is asked once for a record."""

    def __init__(self, handlers: list[logging.Handler]) -> None:
        super().__init__()
        self._handlers = handlers
        self.addFilter(_Limit())

    def emit(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            handler.handle(record)

    def close(self) -> None:
        super().close()
        for handler in self._handlers:
            with suppress(OSError):  # a full disk, at the last flush
                handler.close()


def _dumps(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()
