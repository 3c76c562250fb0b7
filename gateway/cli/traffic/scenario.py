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
    def shows(self) -> str:
        """What changes under it, and in which fields one sees it."""
        return _SHOWS[self]

    @property
    def rate(self) -> float:
        """Events per second that fit the scenario when no rate is given; for high_load those of its end."""
        return 1000.0 if self is Scenario.HIGH_LOAD else 50.0

    @property
    def first_share(self) -> float:
        """The part of its rate with which the scenario begins; from there the rate rises evenly."""
        return 0.05 if self is Scenario.HIGH_LOAD else 1.0


_SHOWS = {
    Scenario.NORMAL: "nothing changes",
    Scenario.HIGH_LOAD: "more and more events a second; inference_time_ms of every model rises",
    Scenario.DEGRADATION: "prediction_accuracy and prediction_confidence of one new version fall: "
    "fraud_detector 2.4.0, with --from-sklearn digits 2.0.0",
    Scenario.DRIFT: "data_quality_score and prediction_accuracy of every model fall; "
    "drift_score in data-quality-* rises",
    Scenario.ERRORS: "the share of predictions with error: true rises from 1% to 30%; error_type says which",
}


@dataclass(frozen=True, slots=True)
class Effects:
    """What a scenario does to the traffic at one point of a run."""

    latency_factor: float = 1.0
    load: float = 0.0
    """Added to CPU and GPU usage, in percent."""
    error_share: float = 0.01
    outage_share: float = 0.4
    """The part of the errors that are those of an outage: timeouts, memory, connections."""
    degradation: float = 0.0
    """How far the degrading version has got worse, 0 to 1."""
    drift: float = 0.0
    """How far the inputs have moved from the reference data, 0 to 1."""


def effects(scenario: Scenario, progress: float) -> Effects:
    """Give the effects at a progress of 0 to 1; `normal` stays as it is."""
    if scenario is Scenario.HIGH_LOAD:
        return Effects(latency_factor=1 + 5 * progress, load=45 * progress, error_share=0.01 + 0.03 * progress)
    if scenario is Scenario.DEGRADATION:
        return Effects(degradation=progress)
    if scenario is Scenario.DRIFT:
        return Effects(drift=progress)
    if scenario is Scenario.ERRORS:
        return Effects(
            latency_factor=1 + 0.5 * progress, error_share=0.01 + 0.29 * progress, outage_share=0.4 + 0.5 * progress
        )
    return Effects()
