"""Figures that are added up and taken away again."""

from copy import deepcopy
from random import Random

import pytest

from gateway.summary import MILLISECONDS, OTHER, Histogram, Model, Summary, estimated
from gateway.summary.figures import MAX_CLASSES, MAX_MODELS, MAX_USERS, USER_HASHES


def some(draw: Random) -> Summary:
    """Return figures of a few models."""
    made = Summary(indices={"ml-metrics": draw.randint(1, 9)}, users=sorted(draw.sample(range(1000), 5)))
    for name in draw.sample(["a", "b", "c"], 2):
        classes = draw.sample(["yes", "no", "maybe"], 2)
        made.models[name, "1"] = Model(
            predictions=draw.randint(1, 9),
            errors={draw.choice(["timeout", "data"]): draw.randint(1, 9)},
            outcomes={classes[0]: {classes[1]: draw.randint(1, 9), None: 2}, None: {classes[0]: 1}},
            classes=classes,
            duration_ms=Histogram(
                [draw.randint(1, 400) for _ in range(len(MILLISECONDS) + 1)], draw.randint(1, 99) / 4
            ),
            refused=draw.randint(0, 3),
        )
        made.endpoints[name, "/predict"] = Histogram([1, draw.randint(1, 9)], 0.5)
    return made


def test_what_is_encoded_is_read_again() -> None:
    """A record's bytes hold all of it."""
    made = some(Random(1))
    assert Summary.decode(made.encode()) == made


def test_the_order_does_not_matter() -> None:
    """Records may be added in any order."""
    draw = Random(2)
    parts = [some(draw) for _ in range(6)]
    one, other = Summary(), Summary()
    for part in parts:
        one.plus(part)
    for part in reversed(parts):
        other.plus(part)
    for model in (*one.models.values(), *other.models.values()):
        model.classes.sort()
    assert one == other


def test_what_was_added_can_be_taken_away() -> None:
    """Duplicates leave no trace, not even a zero."""
    draw = Random(3)
    one, more = some(draw), some(draw)
    before = deepcopy(one)
    one.plus(more)
    one.minus(more)
    assert one.indices == before.indices
    for key, model in before.models.items():
        assert one.models[key].predictions == model.predictions
        assert one.models[key].outcomes == model.outcomes
        assert one.models[key].errors == model.errors
        assert one.models[key].duration_ms == model.duration_ms


def test_too_many_classes_are_one() -> None:
    """A regression's answers do not fill the memory; what is taken away again comes from the same place."""
    model = Model()
    for each in range(MAX_CLASSES + 10):
        model.plus(Model(1, outcomes={str(each): {None: 1}}, classes=[str(each)]))
    assert model.outcomes[OTHER] == {None: 10}
    model.plus(Model(1, outcomes={"55": {None: 1}}, classes=["55"]), -1)
    assert model.outcomes[OTHER] == {None: 9}


def test_too_many_models_are_one() -> None:
    """Whoever puts an id into the model's name harms only the own figures."""
    summary = Summary()
    for each in range(MAX_MODELS + 10):
        summary.plus(Summary(models={(f"m{each}", ""): Model(1)}))
    assert summary.models[OTHER, ""].predictions == 10
    assert len(summary.models) == MAX_MODELS + 1


@pytest.mark.parametrize("users", [0, 10, MAX_USERS - 1, 5_000, 200_000])
def test_the_number_of_users(users: int) -> None:
    """Exact for few, near for many, and the same whichever of them came together."""
    draw = Random(users)
    hashes = [draw.randrange(USER_HASHES) for _ in range(users)]
    summary = Summary()
    for at in range(0, users, 100):
        summary.plus(Summary(users=sorted(hashes[max(0, at - 50) : at + 100])))
    assert estimated(summary.users) == pytest.approx(users, rel=0.15)
    if users < MAX_USERS:
        assert estimated(summary.users) == users
