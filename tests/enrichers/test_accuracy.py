import pytest

from enrichers import accuracy


@pytest.mark.parametrize(
    ("predicted", "truth", "correct"),
    [
        ("setosa", "setosa", True),
        ("setosa", "virginica", False),
        ("Setosa", "setosa", False),
        (1, 1, True),
        (1, "1", True),
        ("1", 1, True),
        (True, True, True),
        (True, "true", True),
        (False, "false", True),
        (True, False, False),
        (1, True, False),
        (0, False, False),
        ("True", True, False),
        (1.0, 1, False),
        (1.0, "1.0", True),
        (0.5, "0.5", True),
        ("", "", True),
        (0, 0, True),
    ],
)
def test_compares(predicted: object, truth: object, correct: bool) -> None:
    """A prediction is right when it is the truth's JSON text without quotes."""
    added = accuracy()({"prediction_class": predicted, "true_label": truth})

    assert correct is added["prediction_correct"]
    assert [float(correct)] == [added["prediction_accuracy"]]
    assert float is type(added["prediction_accuracy"])
    assert len(added) == 2


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"prediction_class": "a"},
        {"true_label": "a"},
        {"prediction_class": "a", "true_label": None},
        {"prediction_class": None, "true_label": "a"},
        {"prediction_class": None, "true_label": None},
    ],
)
def test_nothing_to_compare(event: dict[str, object]) -> None:
    """Without prediction or truth nothing is said; `null` is absent."""
    assert accuracy()(event) == {}
