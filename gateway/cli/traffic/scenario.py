"""The scenarios: what goes wrong in production, growing with the progress of a run."""

from dataclasses import dataclass
from enum import StrEnum


class Scenario(StrEnum):
    """What a run shows."""

    NORMAL = "normal"
    HIGH_LOAD = "high_load"
    DEGRADATION = "degradation"
    DRIFT = "drift"
    ERRORS = "errors"

    @property
    def rate(self) -> float:
        """Events per second that fit the scenario when no rate is given."""
        return 1000.0 if self is Scenario.HIGH_LOAD else 50.0


@dataclass(frozen=True, slots=True)
class Effects:
    """What a scenario does to the traffic at one point of a run."""

    latency_factor: float = 1.0
    load: float = 0.0
    """Added to CPU and GPU usage, in percent."""
    error_share: float = 0.01
    outage: bool = False
    """Errors are those of an outage: timeouts, memory, connections."""
    confidence_loss: float = 0.0
    """Taken from the confidence of the degrading version."""
    overconfidence: float = 0.0
    """How far the degrading version's accuracy lies below its confidence."""
    drift: float = 0.0
    """How far the inputs have moved from the reference data, 0 to 1."""


def effects(scenario: Scenario, progress: float) -> Effects:
    """Give the effects at a progress of 0 to 1; `normal` stays as it is."""
    if scenario is Scenario.HIGH_LOAD:
        return Effects(latency_factor=1 + 5 * progress, load=45 * progress, error_share=0.01 + 0.03 * progress)
    if scenario is Scenario.DEGRADATION:
        return Effects(confidence_loss=0.12 * progress, overconfidence=0.25 * progress)
    if scenario is Scenario.DRIFT:
        return Effects(drift=progress)
    if scenario is Scenario.ERRORS:
        return Effects(latency_factor=1 + 0.5 * progress, error_share=0.01 + 0.29 * progress, outage=progress > 0)
    return Effects()
