"""An operator's first questions, answered from the figures: is a model getting worse, has one fallen silent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import median

from gateway.monitoring.estimates import above, mean, quantile, variance, wilson
from gateway.monitoring.figures import HOUR, MINUTE
from gateway.monitoring.kept import Kept
from gateway.monitoring.names import REST
from gateway.monitoring.quality import quality
from gateway.summary import CONFIDENCES, MILLISECONDS, Model, Summary

LEAST = 30
"""Predictions, labelled ones where accuracy is compared: of fewer nothing is said."""
LEAST_ERRORS, LEAST_ERROR_RATE, ERRORS_TIMES = 10, 0.02, 2.0
CONFIDENCE_FALL, SURE = 0.05, 3.0  # SURE: standard errors
SURE_SHARE = 2.6  # of each of two intervals that must not meet: together 3.7
SLOWER_TIMES, SLOW_SHARE = 1.5, 0.95
SEEN_MINUTES = 10
LEAST_MINUTES = 2
SILENT_SECS, SILENT_GAPS = 300, 5


@dataclass(frozen=True, slots=True)
class Worse:
    """A model that does worse than before: ``what`` is accuracy, confidence, errors or duration (ms)."""

    model: str
    version: str
    what: str
    before: float
    now: float
    text: str


@dataclass(frozen=True, slots=True)
class Silent:
    """A model, a service or an index without events for long; ``last`` is in seconds since 1970, to the minute."""

    what: str
    name: str
    version: str
    last: float
    gap_secs: float
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which models do worse in the last ``minutes`` than in the ``before`` minutes before them."""

    minutes: int
    before: int
    models: int
    """Models and versions of which there are predictions in both; with none of them nothing can be told."""
    worse: list[Worse]


def comparison(kept: Kept) -> Comparison:
    """Compare the window with the hour before it; of less than that, the later half with the earlier one."""
    end = kept.present + 1
    begin = max(kept.window_begin, (kept.first + end) // 2)
    first = max(kept.first, begin - HOUR)
    if min(begin - first, end - begin) < LEAST_MINUTES:
        return Comparison(end - begin, begin - first, 0, [])
    before, now = kept.between(first, begin), kept.window if begin == kept.window_begin else kept.between(begin)
    both = {key for key, model in now.models.items() if model.predictions and key != REST} & before.models.keys()
    return Comparison(end - begin, begin - first, len(both), compared(before, now))


def compared(before: Summary, now: Summary) -> list[Worse]:
    """Return which models do worse in ``now`` than they did ``before``."""
    found = []
    for key, mine in now.models.items():
        if key != REST and (earlier := before.models.get(key)) is not None:
            for what, was, is_now, text in _worse(earlier, mine):
                found.append(Worse(*key, what, was, is_now, f"{' '.join(filter(None, key))}: {text}"))
    return found


def _worse(before: Model, now: Model) -> Iterator[tuple[str, float, float, str]]:
    was, its = quality(before), quality(now)
    labelled = was and its and min(was.labelled, its.labelled) >= LEAST
    if was and its and labelled and _is_less((its.correct, its.labelled), (was.correct, was.labelled)):
        text = f"accuracy fell from {was.accuracy:.1%} to {its.accuracy:.1%} ({its.labelled:,} labelled)."
        yield "accuracy", was.accuracy, its.accuracy, text
    counts = before.confidence.count, now.confidence.count
    mean_was, mean_now = mean(before.confidence), mean(now.confidence)
    if mean_was is not None and mean_now is not None and min(counts) >= LEAST:
        noise = sqrt(
            variance(before.confidence, CONFIDENCES) / counts[0] + variance(now.confidence, CONFIDENCES) / counts[1]
        )
        if mean_was - mean_now > max(CONFIDENCE_FALL, SURE * noise):
            yield "confidence", mean_was, mean_now, f"mean confidence fell from {mean_was:.2f} to {mean_now:.2f}."
    errors = sum(now.errors.values())
    if errors >= LEAST_ERRORS and before.predictions >= LEAST:
        rate_was, rate_now = sum(before.errors.values()) / before.predictions, errors / now.predictions
        more = _is_less((sum(before.errors.values()), before.predictions), (errors, now.predictions))
        if more and rate_now >= LEAST_ERROR_RATE and rate_now >= ERRORS_TIMES * rate_was:
            text = f"error rate rose from {rate_was:.1%} to {rate_now:.1%} ({errors:,} errors)."
            yield "errors", rate_was, rate_now, text
    counts = before.duration_ms.count, now.duration_ms.count
    slow_was = quantile(before.duration_ms, MILLISECONDS, SLOW_SHARE)
    slow_now = quantile(now.duration_ms, MILLISECONDS, SLOW_SHARE)
    if slow_was and slow_now and min(counts) >= LEAST and slow_now > SLOWER_TIMES * slow_was:
        slower = wilson(above(now.duration_ms, MILLISECONDS, slow_was), counts[1], SURE)
        if slower[0] > 1 - SLOW_SHARE:  # else it may be by chance
            text = f"P95 latency rose from {slow_was:,.0f} ms to {slow_now:,.0f} ms."
            yield "duration", slow_was, slow_now, text


def _is_less(part: tuple[int, int], than: tuple[int, int]) -> bool:
    """Whether a share is less than another, each a count of so many, and hardly by chance.

    It is asked of every model again and again: what happens once in a thousand times would be told every day.
    """
    return wilson(*part, SURE_SHARE)[1] < wilson(*than, SURE_SHARE)[0]


def silent(kept: Kept, now: float, since: float = 0.0) -> list[Silent]:
    """Return who sent events in at least `SEEN_MINUTES` minutes, and now none for far longer than usual.

    ``now``: seconds since 1970 up to which all events are counted, that is, less the age of the oldest event that waits
    in the spool. ``since``: when this gateway was started; before that nobody could be heard.
    """
    found = []
    for (what, name, version), minutes in kept.seen.items():
        if len(minutes) < SEEN_MINUTES:
            continue
        gap = median(later - earlier for earlier, later in pairwise(minutes)) * MINUTE
        last = (minutes[-1] + 1) * MINUTE  # it may have been its last second
        if now - max(last, since) > max(SILENT_SECS, SILENT_GAPS * gap):
            text = (
                f"Nothing from the {what} {' '.join(filter(None, (name, version)))} for {(now - last) / MINUTE:.0f}"
                f" minutes; it used to send every {'minute' if gap <= MINUTE else f'{gap / MINUTE:.0f} minutes'}."
            )
            found.append(Silent(what, name, version, float(minutes[-1] * MINUTE), gap, text))
    return found
