"""The events that are sent: predictions as a model server logs them, all different."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime

MODELS = ("fraud_detector", "churn_model", "image_classify", "recommender_2", "text_sentiment")
REGIONS = ("eu-west-1", "us-east-1", "ap-east-1")
ERRORS = (
    "upstream timed out after 3000 ms",
    "CUDA out of memory",
    "connection refused by feature store",
    "ValueError: age must be positive",
    "no such key: user features",
    "access denied",
    "too many requests",
    "has 17 features, 21 are expected",
    "it just failed",
)
WITH_ERROR = 0.02  # of the events
SPREAD_MS = 60_000  # the events' times lie within this time before the first is sent
_HEAD = b'{"event_id":"%032x","timestamp":"%sZ","model_name":"%s",'
_SMALL = _HEAD + b'"prediction_confidence":0.%04d,"inference_time_ms":%d.%02d%s,"region":"%s"}\n'
_LINE = (
    _HEAD + b'"model_version":"3.%d.0","prediction_class":"%s",'
    b'"true_label":"%s","prediction_confidence":0.%04d,"inference_time_ms":%d.%02d,"cpu_usage":%d.%d,"gpu_usage":%d.%d,'
    b'"memory_usage_mb":%d,"environment":"production","region":"%s","request_id":"req-%016x","user_id":"user-%09d",'
    b'"data_quality_score":0.%02d%s}\n'
)
_EXCERPT_BYTES = 1540


@dataclass(frozen=True)
class Shape:
    """What the events are like: ``size`` of about 200, 440 or 2,000 bytes; ``bad`` is the share that is refused."""

    size: int = 440
    bad: float = 0.0
    models: int = len(MODELS)


def lines(events: int, seed: int, shape: Shape | None = None) -> list[bytes]:
    """Return lines of JSON, each with an ``event_id`` of its own; another ``seed`` gives other ids."""
    shape = shape or Shape()
    chance = random.Random(seed)
    draw = chance.random
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    times = [
        datetime.fromtimestamp((now_ms - each) / 1000, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
        for each in range(0, SPREAD_MS, 10)
    ]
    encoded = [time.encode() for time in reversed(times)]
    names = MODELS if shape.models <= len(MODELS) else [f"model_{each:05}" for each in range(shape.models)]
    models = [model.encode() for model in names[: shape.models]]
    regions = [region.encode() for region in REGIONS]
    excerpts = [b',"excerpt":"' + chance.randbytes(_EXCERPT_BYTES // 2).hex().encode() + b'"' for _ in range(16)]
    wrong = bad_positions(events, shape)
    made = []
    for number in range(events):
        good = draw() < 0.9
        error = b',"error_message":"%s"' % chance.choice(ERRORS).encode() if draw() < WITH_ERROR else b""
        head = (chance.getrandbits(128), encoded[number * len(encoded) // events], models[number % len(models)])
        confidence, whole, part = 4000 + draw() * 6000, 10 + draw() * 90, draw() * 100
        region = regions[number % len(regions)]
        if shape.size < 440:
            line = _SMALL % (*head, confidence, whole, part, error, region)
        else:
            line = _LINE % (
                *head,
                draw() * 10,
                b"approved" if good else b"declined",
                b"approved",
                confidence,
                whole,
                part,
                10 + draw() * 90,
                draw() * 10,
                10 + draw() * 90,
                draw() * 10,
                1000 + draw() * 9000,
                region,
                chance.getrandbits(64),
                draw() * 1_000_000,
                10 + draw() * 90,
                error + excerpts[number % 16] if shape.size > 440 else error,
            )
        made.append(_spoiled(line, number) if number in wrong else line)
    return made


def bad_positions(events: int, shape: Shape) -> set[int]:
    """Return which lines are bad: exactly that share, spread evenly."""
    count = round(events * shape.bad)
    return {number * events // count for number in range(count)}


def _spoiled(line: bytes, number: int) -> bytes:
    """Break a line in one of three ways: its JSON, a field's bound, its clock."""
    match number % 3:
        case 0:
            return line[:-9] + b"\n"
        case 1:
            return line.replace(b'"prediction_confidence":0.', b'"prediction_confidence":7.')
        case _:
            return line.replace(b'"timestamp":"20', b'"timestamp":"21')
