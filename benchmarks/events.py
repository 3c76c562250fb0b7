"""The events that are sent: predictions as a model server logs them, about 446 bytes each."""

from __future__ import annotations

import random
from datetime import UTC, datetime

MODELS = ("fraud_detector", "churn_model", "image_classify", "recommender_2", "text_sentiment")
REGIONS = ("eu-west-1", "us-east-1", "ap-east-1")
SPREAD_MS = 60_000  # the events' times lie within this time before the first is sent
_LINE = (
    b'{"event_id":"%032x","timestamp":"%sZ","model_name":"%s","model_version":"3.%d.0","prediction_class":"%s",'
    b'"true_label":"%s","prediction_confidence":0.%04d,"inference_time_ms":%d.%02d,"cpu_usage":%d.%d,"gpu_usage":%d.%d,'
    b'"memory_usage_mb":%d,"environment":"production","region":"%s","request_id":"req-%016x","user_id":"user-%09d",'
    b'"data_quality_score":0.%02d}\n'
)


def lines(events: int, seed: int) -> list[bytes]:
    """Return lines of JSON, each with an ``event_id`` of its own; another ``seed`` gives other ids."""
    chance = random.Random(seed)
    draw = chance.random
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    times = [
        datetime.fromtimestamp((now_ms - each) / 1000, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
        for each in range(0, SPREAD_MS, 10)
    ]
    encoded = [time.encode() for time in reversed(times)]
    models = [model.encode() for model in MODELS]
    regions = [region.encode() for region in REGIONS]
    made = []
    for number in range(events):
        good = draw() < 0.9
        made.append(
            _LINE
            % (
                chance.getrandbits(128),
                encoded[number * len(encoded) // events],
                models[number % len(models)],
                draw() * 10,
                b"approved" if good else b"declined",
                b"approved",
                4000 + draw() * 6000,
                10 + draw() * 90,
                draw() * 100,
                10 + draw() * 90,
                draw() * 10,
                10 + draw() * 90,
                draw() * 10,
                1000 + draw() * 9000,
                regions[number % len(regions)],
                chance.getrandbits(64),
                draw() * 1_000_000,
                10 + draw() * 90,
            )
        )
    return made
