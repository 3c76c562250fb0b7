"""Invented but realistic traffic: what several models in production would send."""

from gateway.cli.traffic.scenario import Scenario
from gateway.cli.traffic.traffic import Traffic

__all__ = ["Scenario", "Traffic"]
