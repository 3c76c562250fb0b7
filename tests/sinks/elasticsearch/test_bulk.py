"""Records to bulk bodies of bounded size, and positions back to records."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.sinks.elasticsearch.bulk import Batcher, Bulk, Taken
from gateway.spool.books import Cursor
from gateway.spool.record import DeadLetter, Record, encode
from gateway.spool.segment import Position, parse
from gateway.spool.shelf import Letter
from gateway.spool.state import Parked
from tests.sinks.elasticsearch.running import Doc, draft

documents = st.builds(
    Doc,
    id=st.text("abc", min_size=1, max_size=3),
    source=st.integers(0, 60).map(lambda length: b'{"k":"' + b"x" * length + b'"}'),
    index=st.sampled_from(["a", "b", "c"]),
)
records = st.lists(st.lists(documents, max_size=12), max_size=8)


def record(documents: list[Doc], sequence: int = 1) -> Record:
    """Return a record as the reader gives it."""
    data = b"".join(encode(draft(documents), sequence, {}, 0))
    found = next(iter(parse(memoryview(data), 0, whole=True)))[1]
    assert isinstance(found, Record)
    return found


def taken(of: Record) -> Taken:
    """Return a record on its way."""
    return Taken(of.header, Position(), open=of.header.documents)


def batched(given_records: list[Record], max_bytes: int, max_events: int) -> list[Bulk]:
    """Return the bulks of records."""
    batcher = Batcher(max_bytes, max_events)
    bulks = [bulk for each in given_records for bulk in batcher.add(taken(each), each)]
    return bulks + ([batcher.flush()] if batcher else [])


@given(records, st.integers(1, 400), st.integers(1, 20))
def test_bodies_are_the_documents_in_order_within_bounds(
    given_documents: list[list[Doc]], max_bytes: int, max_events: int
) -> None:
    """Bulk bodies are all documents in order, and none exceeds its bounds unless by a single document."""
    made = [record(each, number) for number, each in enumerate(given_documents, 1)]
    bulks = batched(made, max_bytes, max_events)
    whole = b"".join(document.lines() for each in given_documents for document in each)
    assert b"".join(bulk.body() for bulk in bulks) == whole
    for bulk in bulks:
        assert bulk.size == len(bulk.body())
        assert 0 < bulk.count <= max_events
        assert bulk.size <= max_bytes or bulk.count == 1


@given(records, st.integers(1, 400), st.integers(1, 20))
def test_positions_lead_back_to_record_and_document(
    given_documents: list[list[Doc]], max_bytes: int, max_events: int
) -> None:
    """The n-th document of a bulk tells the record it is of, its position there, its index and its bytes."""
    made = [record(each, number) for number, each in enumerate(given_documents, 1)]
    found = [each for bulk in batched(made, max_bytes, max_events) for each in bulk.documents()]
    expected = [
        (sequence, position, document.index, document.source)
        for sequence, each in enumerate(given_documents, 1)
        for position, document in enumerate(each)
    ]
    assert [(each.taken.header.sequence, each.position, each.index, each.source) for each in found] == expected


@given(st.lists(documents, min_size=1, max_size=12))
def test_halves_are_the_whole(given_documents: list[Doc]) -> None:
    """The halves of a bulk hold its documents in order, and halving comes to an end at single documents."""
    [whole] = batched([record(given_documents)], 10_000, 100)
    left, singles = [whole], []
    while left:
        bulk = left.pop(0)
        if bulk.count == 1:
            singles.append(bulk)
        else:
            halves = bulk.halves()
            assert abs(halves[0].count - halves[1].count) <= 1
            left = [*halves, *left]
    assert [bulk.documents()[0] for bulk in singles] == whole.documents()


def test_bounds_may_be_lowered_on_the_way() -> None:
    """What is added after the bound was lowered comes in bodies of the new size."""
    one = record([Doc(str(number), b'{"k":1}') for number in range(10)])
    batcher = Batcher(10_000, 100)
    assert list(batcher.add(taken(one), one)) == []
    batcher.max_bytes = 120
    bulks = [*batcher.add(taken(one), one), batcher.flush()]
    assert bulks[0].count == 10  # collected before
    assert max(bulk.size for bulk in bulks[1:]) <= 120


def test_a_record_settles_into_the_books() -> None:
    """A cursor moved over a record counts each of its documents once."""
    header = record([Doc("1", b"{}")] * 6).header._replace(accepted=16, documents=6)
    letter = Letter("o", DeadLetter(0, "e", "", None, "mapping", "$", "r", "m", b"12345", 5), "i")
    parked = Parked("o", "i", 0, b"{}", b"1234567", "r")
    settled = Taken(header, Position(3, 4), 0, indexed=3, duplicates=1, letters=[letter], parked=[parked])
    assert settled.held == letter.cost + parked.cost
    assert settled.settle(Cursor(accepted=8, base=8)) == Cursor(
        Position(3, 4), 1, 16, 8, indexed=3, duplicates=1, dead_letters=1, damaged=2, parked=1
    )
