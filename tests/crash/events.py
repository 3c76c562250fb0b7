"""The events of the crash tests: each is told by its client and its number, and is the same bytes at every sending."""

import re
from datetime import datetime, timedelta

import orjson

BAD_EVERY = 23
DAYS = 12
EVENTS_A_DAY = 6000
NAMED = re.compile(rb'"client":"([^"]+)","number":(\d+)')


def is_bad(number: int) -> bool:
    """Whether the gateway has to refuse this event."""
    return number % BAD_EVERY == 7


def line(client: str, number: int, now: datetime) -> bytes:
    """Return an event; ``now`` is the same for all events of a run."""
    name = orjson.dumps({"client": client, "number": number})[:-1] + b","
    if is_bad(number):
        return name + _BAD[number // BAD_EVERY % len(_BAD)]
    fields = dict(_KINDS[number % len(_KINDS)])
    # Older days, too, so that there are several indices and new ones all along.
    at = now - timedelta(days=number // EVENTS_A_DAY % DAYS, milliseconds=number % 60_000)
    fields["timestamp"] = at.isoformat()
    # Both ways to be recognised when sent again.
    fields["request_id" if number % 4 == 1 else "event_id"] = f"{client}-{number}"
    return name + orjson.dumps(fields)[1:]


_BAD = (
    b'"model_name":"crash","prediction_confidence":1.7}',
    b'"model_name":"crash",',
    b'"nothing":"tells what this is"}',
    b'"model_name":"crash","timestamp":"2001-01-01T00:00:00Z"}',
)
_KINDS = (
    {"model_name": "crash", "prediction_confidence": 0.9, "inference_time_ms": 25.5, "user": "é" * 20},
    {"model_name": "crash", "prediction_class": "cat", "true_label": "dog", "error_message": "timed out"},
    {"type": "model_training", "model_name": "crash", "epoch": 3, "metrics": {"loss": 0.25}},
    {"check_name": "crash", "dataset_name": "crash", "score": 0.5, "passed": True},
    {"level": "INFO", "message": "x" * 300, "service": "crash"},
)
