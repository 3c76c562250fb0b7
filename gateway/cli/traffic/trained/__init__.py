"""Traffic of real classifiers, trained on the datasets that come with scikit-learn. Needs the extra `sklearn`."""

from gateway.cli.traffic.trained.traffic import TrainedTraffic

__all__ = ["TrainedTraffic"]
