from hypothesis import given
from hypothesis import strategies as st

from gateway.spool.books import Cursor, sink_books, total
from gateway.spool.record import Counts
from gateway.spool.segment import Position

numbers = st.integers(0, 10**9)


@given(numbers, numbers, numbers, numbers, numbers, numbers, numbers, numbers)
def test_every_event_is_somewhere(
    base: int, indexed: int, duplicates: int, letters: int, skipped: int, damaged: int, parked: int, ahead: int
) -> None:
    """What a sink took, what it put aside and what it has not read are together all that was accepted."""
    taken = indexed + duplicates + letters + skipped + damaged + parked
    cursor = Cursor(Position(7, 100), 3, base + taken, base, indexed, duplicates, letters, skipped, damaged, parked)

    books, difference = sink_books(cursor, base + taken + ahead)

    assert difference == 0
    assert ahead + parked == books["waiting"]
    assert taken + ahead == sum(books.values())


@given(numbers, st.integers(1, 10**6))
def test_an_event_that_is_nowhere_is_missed(accepted: int, lost: int) -> None:
    """An event that a sink moved over without a verdict shows as the difference."""
    cursor = Cursor(accepted=accepted + lost, base=0, indexed=accepted)

    assert lost == sink_books(cursor, accepted + lost)[1]
    assert -lost == sink_books(cursor.advanced(indexed=accepted + 2 * lost), accepted + lost)[1]


def test_a_sink_that_has_not_begun() -> None:
    """A sink without a first record owes nothing for what was before it."""
    assert sink_books(Cursor(), 1000) == (
        {"indexed": 0, "duplicates": 0, "waiting": 0, "dead_letters": 0, "skipped": 0, "damaged": 0},
        0,
    )


def test_a_sink_that_came_late() -> None:
    """A sink's books begin with its first record."""
    books, difference = sink_books(Cursor(accepted=950, base=900, indexed=50), 1000)

    assert (books["indexed"], books["waiting"], difference) == (50, 50, 0)


def test_total_sums_all_sources() -> None:
    """The total is the sum over sources, and nothing without one."""
    assert Counts(11, 7, 3, 1) == total({"tcp": Counts(10, 6, 3, 1), "http": Counts(1, 1)})
    assert Counts() == total({})


def test_a_cursor_is_changed_by_copy() -> None:
    """An advanced cursor leaves the old one as it was, for the case that it cannot be kept."""
    old = Cursor(indexed=1)

    assert (old.indexed, old.advanced(indexed=2).indexed) == (1, 2)
