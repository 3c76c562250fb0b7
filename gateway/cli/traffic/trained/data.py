"""The datasets that come with scikit-learn: one half of the rows to learn from, the other to serve."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split

Numbers = NDArray[np.float64]
Positions = NDArray[np.intp]

_LOADERS = {"digits": load_digits, "breast_cancer": load_breast_cancer, "wine": load_wine, "iris": load_iris}
_BINS = 10
_LIVELY = 0.1


@dataclass(frozen=True)
class Dataset:
    """A dataset in its two halves. Features are rows × columns; a truth is a position in `classes`."""

    name: str
    version: str
    columns: list[str]
    classes: list[str]
    learned: Numbers
    learned_truths: Positions
    served: Numbers
    served_truths: Positions
    served_rows: Positions
    """The numbers of the served rows in scikit-learn's dataset."""

    @cached_property
    def mean(self) -> Numbers:
        """Each column's mean in the rows learned from: what stands in for a missing value."""
        mean: Numbers = self.learned.mean(axis=0)
        return mean

    @cached_property
    def spread(self) -> Numbers:
        """Each column's standard deviation in the rows learned from."""
        spread: Numbers = self.learned.std(axis=0)
        return spread

    @cached_property
    def limits(self) -> tuple[Numbers, Numbers]:
        """Each column's lowest and highest value in the rows learned from."""
        return self.learned.min(axis=0), self.learned.max(axis=0)

    @cached_property
    def lively(self) -> list[int]:
        """The columns worth checking: a pixel that is white in nearly every image tells nothing."""
        low, high = self.limits
        return [int(column) for column in np.flatnonzero(self.spread > _LIVELY * (high - low))]

    def distance(self, column: int, values: Numbers) -> float:
        """Say how far values of a column are from those learned from: 0 alike, 1 apart.

        It is the Kolmogorov–Smirnov distance over ten equal bins of the range learned from, so that a
        column of few different values, such as a pixel, drifts gradually too.
        """
        low, high = (limit[column] for limit in self.limits)

        def cumulated(numbers: Numbers) -> Numbers:
            counts, _ = np.histogram(np.clip(numbers, low, high), bins=_BINS, range=(low, high))
            return np.cumsum(counts) / max(1, numbers.size)

        return float(np.abs(cumulated(self.learned[:, column]) - cumulated(values)).max())


def datasets() -> list[Dataset]:
    """Load and halve them; the halves are always the same, with the classes in equal shares."""
    loaded = []
    for name, load in _LOADERS.items():
        bunch = load()
        rows = np.arange(len(bunch.target))
        learned, served = train_test_split(rows, test_size=0.5, random_state=0, stratify=bunch.target)
        loaded.append(
            Dataset(
                name=name,
                version=f"scikit-learn {sklearn.__version__}",
                columns=[str(column) for column in bunch.feature_names],
                classes=[str(label) for label in bunch.target_names],
                learned=bunch.data[learned],
                learned_truths=bunch.target[learned],
                served=bunch.data[served],
                served_truths=bunch.target[served],
                served_rows=served,
            )
        )
    return loaded
