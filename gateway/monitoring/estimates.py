"""What counts and histograms tell: means, quantiles, and how sure a share is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

from gateway.summary import Histogram

Z = 1.959963984540054  # of 95 %


def wilson(hits: float, count: int, z: float = Z) -> tuple[float, float]:
    """Return Wilson's interval for a share, of ``z`` standard errors; 0 to 1 where there is nothing."""
    if not count:
        return 0.0, 1.0
    share, square = hits / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z * sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean(histogram: Histogram) -> float | None:
    """Return the mean, which is exact; None without values."""
    return histogram.sum / histogram.count if histogram.count else None


def variance(histogram: Histogram, bounds: Sequence[float]) -> float:
    """Return the variance as if each value were in the middle of its bucket; 0 without values."""
    if not histogram.count:
        return 0.0
    ends = [0.0, *bounds, bounds[-1]]
    middles = [(low + high) / 2 for low, high in pairwise(ends)]
    centre = sum(count * each for count, each in zip(histogram.counts, middles, strict=True)) / histogram.count
    squares = sum(count * (each - centre) ** 2 for count, each in zip(histogram.counts, middles, strict=True))
    return squares / histogram.count


def quantile(histogram: Histogram, bounds: Sequence[float], share: float) -> float | None:
    """Return the value below which a share lies, spread evenly within its bucket; None without values.

    Of what is above all bounds the last bound is known.
    """
    wanted = share * histogram.count
    below, low = 0, 0.0
    for count, high in zip(histogram.counts, bounds, strict=False):
        if count and below + count >= wanted:
            return low + (high - low) * (wanted - below) / count
        below, low = below + count, high
    return bounds[-1] if histogram.count else None


def above(histogram: Histogram, bounds: Sequence[float], value: float) -> float:
    """Return how many values are above one, spread evenly within their bucket."""
    found, low = 0.0, 0.0
    for count, high in zip(histogram.counts, [*bounds, float("inf")], strict=False):
        if low >= value:
            found += count
        elif high > value and high != float("inf"):
            found += count * (high - value) / (high - low)
        low = high
    return found
