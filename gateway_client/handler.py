"""Log records as events."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from gateway_client.client import Client
from gateway_client.encoding import encode
from gateway_client.errors import ClientFull

# What every record has, and so is nothing that `extra` brought.
_OF_RECORDS = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_TRACES = logging.Formatter()
FLUSH_SECS = 3.0


class GatewayHandler(logging.Handler):
    """Sends log records: with `level`, `logger`, `message`, `service`, and the fields given as `extra`.

    The gateway decides by these fields what kind of event it is, as always: `extra={"model_name": …}` makes a
    prediction of it, `extra={"type": …}` what the type says, else it is a log line. `extra={"event": {…}}` sends
    that event alone, as `Client.send` does. An exception is in `error` and `stack_trace`; in a prediction, where
    `error` is a boolean, in `error_message`.

    `emit` never waits: a record that there is no room for is counted in `stats.lost`. Records of the logger
    `gateway_client` are not sent. Without a ``client`` the handler makes one of ``options``, those of `Client`, and
    closes it with itself.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        service: str | None = None,
        level: int | str = logging.NOTSET,
        **options: Any,
    ) -> None:
        super().__init__(level)
        self.client = Client(**options) if client is None else client
        self._owned = client is None
        self._service = service

    def handle(self, record: logging.LogRecord) -> bool:
        """Send a record, but for the client's own."""
        # Before the lock is taken: `logging.shutdown` holds it while it flushes, and the client may say something then.
        return record.name.split(".", 1)[0] != "gateway_client" and super().handle(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; what is wrong with it is `handleError`'s."""
        try:
            self._send(record)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait a moment for what was sent to be acknowledged."""
        self.client.flush(FLUSH_SECS)

    def close(self) -> None:
        """Close the client, when it is the handler's own."""
        if self._owned:
            self.client.close(FLUSH_SECS)
        super().close()

    def _send(self, record: logging.LogRecord) -> None:
        event = vars(record).get("event")
        if isinstance(event, Mapping):
            line = encode(event, record.created)
        else:
            fields = self._fields(record)
            try:
                line = encode(fields, record.created)
            except (TypeError, ValueError):  # a line of a log is worth more than the type of its fields
                line = encode({name: _held(value) for name, value in fields.items()}, record.created)
        try:
            self.client._put(line, 0)
        except ClientFull:
            self.client._lose()
            raise

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = {"level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if self._service is not None:
            fields["service"] = self._service
        fields |= {name: value for name, value in vars(record).items() if name not in _OF_RECORDS}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            text = f"{type(error).__name__}: {error}"
            fields.setdefault("error_message" if _is_prediction(fields) else "error", text)
            fields.setdefault("stack_trace", _TRACES.formatException(record.exc_info))
        if record.stack_info:
            fields.setdefault("stack_trace", record.stack_info)
        return fields


def _is_prediction(fields: Mapping[str, Any]) -> bool:
    """Whether the gateway will take it for one, as far as that can be known here."""
    declared = fields.get("type")
    if declared is None:
        return fields.get("model_name") is not None and fields.get("event_type") is None
    return bool(declared == "model_inference")


def _held(value: Any) -> Any:
    """Return a value, or as text what JSON cannot hold."""
    try:
        encode({"value": value})
    except (TypeError, ValueError):
        return str(value).encode(errors="replace").decode()
    return value
