"""The models that send the traffic, and what can go wrong with them."""

from dataclasses import dataclass, field
from functools import cache
from random import Random

TABLE_SIZE = 2048


@dataclass(frozen=True)
class Model:
    """A model in production; its distributions are drawn once into tables, so that an event is cheap."""

    name: str
    versions: tuple[str, str]
    """The stable version and the new one."""
    new_share: float
    classes: tuple[str, ...]
    weights: tuple[float, ...]
    confidence: tuple[float, float]
    """The two parameters of the Beta distribution between `floor` and 1."""
    latency_ms: float
    """The median; single latencies are log-normal around it."""
    memory_mb: float
    gpu: float
    """The usual GPU usage in percent; 0 for a model that has none."""
    weight: int
    """Its share in the traffic, against the other models' weights."""
    confidences: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    class_table: list[int] = field(default_factory=list)

    @property
    def floor(self) -> float:
        """The least confidence: a guess among its classes."""
        return 1 / len(self.classes)


MODELS = (
    Model(
        "fraud_detector",
        ("2.3.1", "2.4.0"),
        0.4,
        ("legitimate", "fraud"),
        (0.96, 0.04),
        (7, 0.9),
        18,
        900,
        0,
        8,
    ),
    Model("churn_classifier", ("1.8.0", "1.9.0"), 0.3, ("stays", "churns"), (0.8, 0.2), (3, 1.6), 35, 640, 0, 4),
    Model(
        "image_classifier",
        ("4.0.2", "4.1.0"),
        0.25,
        ("cat", "dog", "car", "tree", "other"),
        (0.3, 0.25, 0.2, 0.15, 0.1),
        (6, 1.3),
        85,
        4200,
        62,
        5,
    ),
    Model(
        "recommender",
        ("7.2.0", "7.3.0"),
        0.5,
        ("books", "music", "films", "games", "sports", "garden"),
        (0.28, 0.22, 0.2, 0.14, 0.1, 0.06),
        (3.5, 1.8),
        150,
        2800,
        35,
        3,
    ),
)

DEGRADING = MODELS[0]
"""The model whose new version gets worse in the degradation scenario."""

ERRORS: tuple[tuple[str, float], ...] = (
    ("Validation failed: feature 'age' must be between 0 and 130", 2.0),
    ("Missing features: 'account_age_days', 'country'", 2.0),
    ("Model version not found in the registry", 1.0),
    ("Rate limit exceeded for this client, 429 Too Many Requests", 1.0),
    ("Permission denied: token lacks the scope predict", 1.0),
)
"""What fails now and then, with the milliseconds it takes to fail."""

OUTAGE_ERRORS: tuple[tuple[str, float], ...] = (
    ("Request timed out after 5000 ms waiting for the model server", 5000.0),
    ("Deadline exceeded while reading the feature store, timeout of 3000 ms", 3000.0),
    ("CUDA out of memory. Tried to allocate 512.00 MiB", 240.0),
    ("Connection refused by feature-store:6379", 4.0),
    ("Connection reset by peer while calling the embedding service", 60.0),
)
"""What fails when the infrastructure does."""


@cache
def drawn_models() -> tuple[Model, ...]:
    """Fill the models' tables, and give each model as often as its weight says."""
    # Not the caller's generator: a seed decides about the events, the distributions are always the same.
    random = Random(20240115)  # noqa: S311
    for model in MODELS:
        floor, (alpha, beta) = model.floor, model.confidence
        for _ in range(TABLE_SIZE):
            model.confidences.append(floor + (1 - floor) * random.betavariate(alpha, beta))
            model.latencies.append(model.latency_ms * random.lognormvariate(0, 0.45))
        for position, weight in enumerate(model.weights):
            model.class_table.extend([position] * round(weight * 100))
    return tuple(model for model in MODELS for _ in range(model.weight))
