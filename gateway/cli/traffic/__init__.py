"""Traffic as several models in production would send it: invented here, really predicted in `trained`."""

from gateway.cli.traffic.events import Events
from gateway.cli.traffic.scenario import Scenario
from gateway.cli.traffic.traffic import Traffic

__all__ = ["Events", "Scenario", "Traffic"]
