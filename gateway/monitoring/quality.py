"""How good predictions are, where the truth was told: as scikit-learn defines it, with nothing in place of 0 / 0 but 0.

Of a model with more classes than are told apart those beyond have no figures, and what is of two of them is left out:
nobody knows whether it is the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.summary import OTHER, Model
from gateway.summary.figures import MAX_CLASSES


@dataclass(frozen=True, slots=True)
class ClassQuality:
    """Of one class, or the mean over all; each from 0 to 1."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Of the predictions whose truth is known."""

    labelled: int
    correct: int
    classes: dict[str, ClassQuality]

    @property
    def accuracy(self) -> float:
        """The share of correct ones."""
        return self.correct / self.labelled

    @property
    def macro(self) -> ClassQuality | None:
        """The mean over classes, None where none is told apart."""
        count = len(self.classes)
        if not count:
            return None
        found = self.classes.values()
        return ClassQuality(
            sum(each.precision for each in found) / count,
            sum(each.recall for each in found) / count,
            sum(each.f1 for each in found) / count,
        )


def quality(model: Model) -> Quality | None:
    """Return the quality of a model's predictions, None where no truth is known."""
    together = {OTHER} if len(model.classes) >= MAX_CLASSES else set()
    labelled = correct = 0
    predicted: dict[str, int] = {}
    true: dict[str, int] = {}
    right: dict[str, int] = {}
    for guess, truth, count in _cells(model):
        if guess == truth and guess in together:
            continue
        labelled += count
        predicted[guess] = predicted.get(guess, 0) + count
        true[truth] = true.get(truth, 0) + count
        if guess == truth:
            correct += count
            right[guess] = right.get(guess, 0) + count
    if not labelled:
        return None
    classes = {}
    for name in sorted({*predicted, *true} - together):
        hits, guesses, truths = right.get(name, 0), predicted.get(name, 0), true.get(name, 0)
        classes[name] = ClassQuality(
            hits / guesses if guesses else 0.0,
            hits / truths if truths else 0.0,
            2 * hits / (guesses + truths),
        )
    return Quality(labelled, correct, classes)


def _cells(model: Model) -> Iterator[tuple[str, str, int]]:
    for guess, truths in model.outcomes.items():
        if guess is not None:
            yield from ((guess, truth, count) for truth, count in truths.items() if truth is not None)
