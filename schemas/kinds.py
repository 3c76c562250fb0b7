"""The kinds of events: how an event's kind is found, and how a block of one kind is checked."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.added import Enrichment
from schemas.alert import Alert
from schemas.audit import Audit
from schemas.data_quality import DataQuality
from schemas.fault import Fault, first_faults
from schemas.inference import Inference
from schemas.label import Label
from schemas.lineage import Lineage
from schemas.log import Log
from schemas.mlflow import MLflowDocument, MLflowEvent
from schemas.operation import Operation
from schemas.training import Training


@dataclass(frozen=True)
class Kind:
    """A kind of event: what it is called, where it goes, what it looks like."""

    name: str
    type: str
    """The `type` that is stored."""
    index: str
    """The index, without the day."""
    event: Any
    """The TypedDict that events are checked against."""
    added: Any = None
    """The TypedDict of the fields its documents have beyond those of the event."""
    document: Any = None
    """The TypedDict of its documents, where they are not the event itself."""

    @cached_property
    def _adapter(self) -> TypeAdapter[list[dict[str, Any]]]:
        # Built with the first block: all of them take longer than the rest of the start.
        return TypeAdapter(list[self.event])  # type: ignore[name-defined]

    def validate(self, events: list[dict[str, Any]]) -> list[dict[str, Any] | Fault]:
        """Give each event as its schema reads it, or its first fault, at the event's own position."""
        try:
            return list(self._adapter.validate_python(events))
        except ValidationError as error:
            faults = first_faults(error, events, self.event.__annotations__)
        # One bad event must not cost its neighbours: they are read again without it.
        rest = [event for position, event in enumerate(events) if position not in faults]
        good = iter(self._adapter.validate_python(rest))
        return [faults[position] if position in faults else next(good) for position in range(len(events))]


INFERENCE = Kind("model_inference", "model_inference", "ml-metrics", Inference, added=Enrichment)
TRAINING = Kind("model_training", "model_training", "ml-training", Training)
MLFLOW = Kind("mlflow_event", "model_training", "ml-training", MLflowEvent, document=MLflowDocument)
DATA_QUALITY = Kind("data_quality", "data_quality", "data-quality", DataQuality)
LOG = Kind("log", "log", "ml-pipeline", Log)
LABEL = Kind("label", "label", "ml-labels", Label)
OPERATION = Kind("operation", "operation", "ml-operations", Operation)
AUDIT = Kind("audit", "audit", "ml-audit", Audit)
LINEAGE = Kind("lineage", "lineage", "ml-lineage", Lineage)
ALERT = Kind("alert", "alert", "ml-alerts", Alert)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (INFERENCE, TRAINING, MLFLOW, DATA_QUALITY, LOG, LABEL, OPERATION, AUDIT, LINEAGE, ALERT)
}

_BY_TYPE = {kind.type: kind for kind in KINDS.values() if kind is not MLFLOW}
_DECIDING: tuple[tuple[str, Kind], ...] = (
    ("event_type", MLFLOW),
    ("model_name", INFERENCE),
    ("check_name", DATA_QUALITY),
    ("dataset_name", DATA_QUALITY),
    ("message", LOG),
    ("level", LOG),
    ("@version", LOG),
)


def choose(event: dict[str, Any]) -> Kind | None:
    """Find an event's kind: by a known `type`, else by the first deciding key it has; `null` is absent."""
    declared = event.get("type")
    kind = _BY_TYPE.get(declared) if isinstance(declared, str) else None
    if kind is None:
        return next((kind for key, kind in _DECIDING if event.get(key) is not None), None)
    if kind is TRAINING and event.get("event_type") is not None:
        return MLFLOW
    return kind


def unknown_kind_hint() -> str:
    """Say what an event of no kind lacks."""
    keys = ", ".join(key for key, _ in _DECIDING)
    return f"send a type ({', '.join(_BY_TYPE)}) or one of the keys {keys}"
