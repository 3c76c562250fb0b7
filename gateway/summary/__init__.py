"""What records tell of their events in figures: mergeable, so that those of many records are those of one.

`figures.py` has those of a model, `summary.py` those of all, `columns.py` writes them and adds up what was written;
`gathering.py` makes them of events.
"""

from gateway.summary.figures import CONFIDENCES, MILLISECONDS, OTHER, Histogram, Model, estimated
from gateway.summary.gathering import Gathering, summary_of
from gateway.summary.summary import Summary

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
