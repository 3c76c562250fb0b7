"""What a page looks at, as its address has it."""

from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.console.view import MOST_POINTS, RANGES, view
from gateway.store.query import QueryError

FIELDS = {"model": "model_name"}


def test_without_anything_it_is_the_last_hour() -> None:
    """A page opened by its bare address shows what is new."""
    looked_at = view([], ["model"])
    assert looked_at.until - looked_at.since == 3600
    assert looked_at.address("/models") == "/models"


@pytest.mark.parametrize("name", RANGES)
def test_a_stretch_has_a_bounded_number_of_points(name: str) -> None:
    """A chart of a month is as quick as one of an hour."""
    looked_at = view([("range", name)], [])
    assert RANGES[name] / looked_at.step_secs <= MOST_POINTS


def test_an_address_leads_to_the_same_view() -> None:
    """What one sends to a colleague shows what one saw."""
    parameters = [("from", "2026-11-01T00:00:00Z"), ("to", "2026-11-02T00:00:00Z"), ("model", "a b&c"), ("q", "x y")]
    looked_at = view(parameters, ["model", "q"])
    again = view(parse_qsl(urlsplit(looked_at.address("/models")).query), ["model", "q"])
    assert again == looked_at
    query = again.query("ml-metrics-*", FIELDS, limit=7)
    assert query.where == (("model_name", "a b&c"),)
    assert query.words == ["x", "y"]
    assert query.limit == 7
    assert query.until_us is not None
    assert query.since_us is not None
    assert query.until_us - query.since_us == 86_400_000_000


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ([("range", "2h")], "range is '2h'"),
        ([("from", "yesterday")], "from is 'yesterday'"),
        ([("from", "2026-11-02"), ("to", "2026-11-01")], "from must be before to"),
        ([("colour", "red")], "'colour' is nothing"),
        ([("model", "a"), ("model", "b")], "model is given twice"),
    ],
)
def test_what_makes_no_sense_is_told(parameters: list[tuple[str, str]], told: str) -> None:
    """A mistyped address says what is wrong with it."""
    with pytest.raises(QueryError, match=told):
        view(parameters, ["model"])
