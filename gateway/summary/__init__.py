"""What records tell of their events in figures: mergeable, so that those of many records are those of one.

`figures.py` has the figures, `gathering.py` makes them of events.
"""

from gateway.summary.figures import CONFIDENCES, MILLISECONDS, OTHER, Histogram, Model, Summary, estimated

__all__ = ["CONFIDENCES", "MILLISECONDS", "OTHER", "Histogram", "Model", "Summary", "estimated"]
