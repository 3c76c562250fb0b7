"""Accuracy, precision, recall and F1 are scikit-learn's, on predictions of a model that was trained."""

import random
import warnings
from typing import Any

import pytest

from gateway.monitoring.quality import quality
from gateway.summary import OTHER
from gateway.summary.figures import MAX_CLASSES
from tests.monitoring.telling import documents, gather, prediction


def scores(predicted: list[str], true: list[str]) -> dict[str, Any]:
    """Return what scikit-learn says."""
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    classes = sorted({*predicted, *true})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of 0 / 0, which is 0
        each = precision_recall_fscore_support(true, predicted, labels=classes)
        macro = precision_recall_fscore_support(true, predicted, average="macro")
    return {
        "accuracy": accuracy_score(true, predicted),
        "classes": {name: tuple(each[at][number] for at in range(3)) for number, name in enumerate(classes)},
        "macro": macro[:3],
    }


def check(predicted: list[str], true: list[str], *more: dict[str, Any]) -> None:
    """Compare with scikit-learn."""
    events = [
        prediction(prediction_class=guess, true_label=truth) for guess, truth in zip(predicted, true, strict=True)
    ]
    found = quality(gather(documents([*events, *more])).models["m", "1"])
    wanted = scores(predicted, true)
    assert found is not None
    assert found.labelled == len(true)
    assert found.accuracy == pytest.approx(wanted["accuracy"])
    assert {name: (each.precision, each.recall, each.f1) for name, each in found.classes.items()} == {
        name: pytest.approx(each) for name, each in wanted["classes"].items()
    }
    macro = found.macro
    assert macro is not None
    assert (macro.precision, macro.recall, macro.f1) == pytest.approx(wanted["macro"])


@pytest.mark.waits
def test_of_a_trained_model() -> None:
    """A model of handwritten digits, wrong now and then; what has no truth, or no class, does not count."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    data, target = load_digits(return_X_y=True)
    learn, ask, learnt, truths = train_test_split(data, target, train_size=120, random_state=7)
    guesses = LogisticRegression(max_iter=2000).fit(learn, learnt).predict(ask)
    assert 0.7 < (guesses == truths).mean() < 0.99
    check(
        [str(each) for each in guesses],
        [str(each) for each in truths],
        *[prediction(prediction_class="3")] * 50,
        *[prediction(true_label="4")] * 50,
    )


@pytest.mark.parametrize("seed", range(5))
def test_of_unbalanced_classes(seed: int) -> None:
    """Also classes that were never predicted, and ones that were never true; one is named like the rest."""
    rnd = random.Random(seed)
    true = rnd.choices(["cat", "dog", OTHER, "never guessed"], [90, 20, 5, 2], k=200)
    check(
        [rnd.choice([each, each, "cat", "macro", OTHER]) if each != "never guessed" else "cat" for each in true], true
    )


def test_nothing_is_made_up() -> None:
    """Without truths there is no quality; of classes that are not told apart nobody knows whether it is the same."""
    assert quality(gather(documents([prediction(prediction_class="a")])).models["m", "1"]) is None
    disk_model = gather(documents([prediction(prediction_class="c0", true_label="c0")])).models["m", "1"]
    for number in range(1, MAX_CLASSES + 10):
        name = f"c{number}"
        disk_model.plus(gather(documents([prediction(prediction_class=name, true_label=name)])).models["m", "1"])
    found = quality(disk_model)
    assert found is not None
    assert (found.labelled, found.accuracy) == (MAX_CLASSES, 1.0)
    assert OTHER not in found.classes
