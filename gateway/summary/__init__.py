"""What records tell of their events in figures: mergeable, so that those of many records are those of one.

`figures.py` has the figures, `gathering.py` makes them of events.
"""

from gateway.summary.figures import CONFIDENCES, MILLISECONDS, OTHER, Histogram, Model, Summary, estimated
from gateway.summary.gathering import Gathering, summary_of

__all__ = [
    "CONFIDENCES",
    "MILLISECONDS",
    "OTHER",
    "Gathering",
    "Histogram",
    "Model",
    "Summary",
    "estimated",
    "summary_of",
]
