import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.spool.record import (
    CHECKSUM,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    SECTION,
    VERSION,
    Counts,
    DeadLetter,
    Documents,
    Draft,
    Record,
    decode_header,
    encode,
)
from tests.spool.building import draft, letter, names_of

numbers = st.integers(0, 2**40)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
letters = st.builds(
    DeadLetter,
    at=st.floats(0, 4e9),
    source=texts,
    peer=texts,
    tenant=st.none() | texts,
    reason=texts,
    path=texts,
    rule=texts,
    message=texts,
    data=st.binary(max_size=50) | st.just(b"<" + MAGIC + b">"),
    data_bytes=numbers,
    kind=st.none() | texts,
)
documents = st.builds(Documents, index=texts, count=st.integers(0, 1000), data=st.binary(max_size=100))
counts = st.dictionaries(texts, st.builds(Counts, numbers, numbers, numbers, numbers), max_size=4)


def record_of(data: bytes) -> Record:
    """Return the record that the bytes are."""
    header = decode_header(data)
    assert header is not None
    body = memoryview(data)[HEADER_BYTES:]
    assert (header.body_bytes, header.checksum) == (len(body), zlib.crc32(body))
    return Record(header, body)


def by_hand(*sections: tuple[int, int, bytes]) -> Record:
    """Return a record of sections given as type, encoding and data."""
    body = b"".join(SECTION.pack(kind, encoding, 1, len(data), 1) + b"n" + data for kind, encoding, data in sections)
    header = HEADER.pack(MAGIC, VERSION, len(sections), 7, 0, 0, len(body), 0, 0, zlib.crc32(body))
    return record_of(header + CHECKSUM.pack(zlib.crc32(header)) + body)


summaries = st.binary(max_size=20) | st.just(b"<" + MAGIC + b">")


@given(
    st.lists(documents, max_size=3), st.lists(letters, max_size=3), st.lists(texts, max_size=3), summaries, counts,
    numbers,
)  # fmt: skip
def test_round_trip(
    groups: list[Documents],
    dead: list[DeadLetter],
    settled: list[str],
    summary: bytes,
    sums: dict[str, Counts],
    number: int,
) -> None:
    """A record gives back all that was put into it."""
    sequence, written_us = number, number + 1
    data = b"".join(encode(Draft("tcp", Counts(), groups, dead, settled, summary), sequence, sums, written_us))

    record = record_of(data)

    assert [(g.index, g.count, bytes(g.data)) for g in groups] == [
        (g.index, g.count, bytes(g.data)) for g in record.documents()
    ]
    assert dead == record.dead_letters()
    assert settled == record.settled()
    assert summary == bytes(record.summary() or b"")
    assert sums == record.counts()
    header = record.header
    assert (sequence, written_us) == (header.sequence, header.written_us)
    assert sum(each.accepted for each in sums.values()) == header.accepted
    assert (sum(group.count for group in groups), len(dead)) == (header.documents, header.dead_letters)


def test_opening_record_holds_counts_alone() -> None:
    """The record that opens a segment carries the running counts and no event."""
    sums = {"tcp": Counts(3, 2, 1)}

    record = record_of(b"".join(encode(None, 9, sums, 0)))

    assert ([], [], sums) == (record.documents(), record.dead_letters(), record.counts())
    assert record.header.accepted == 2


@pytest.mark.parametrize(("kind", "encoding"), [(99, 0), (1, 99), (2, 99), (3, 99)])
def test_what_a_later_version_adds_is_passed_over(kind: int, encoding: int) -> None:
    """Sections of an unknown type or encoding do not hide those behind them."""
    record = by_hand((kind, encoding, b"\xff" * 9), (1, 0, b"known"))

    assert [Documents("n", 1, b"known")] == record.documents()
    assert (record.dead_letters(), record.counts(), record.summary()) == ([], {}, None)


def test_letters_of_an_earlier_version() -> None:
    """A dead letter was written without what its events were known to be."""
    old = msgspec.msgpack.encode([(1.5, "tcp", "p", None, "json", "$", "json_invalid", "m", b"x", 1)])

    assert by_hand((2, 0, old)).dead_letters() == [
        DeadLetter(1.5, "tcp", "p", None, "json", "$", "json_invalid", "m", b"x", 1, None)
    ]


def test_a_later_version_may_count_more() -> None:
    """Further counts behind the known ones are passed over."""
    assert {"tcp": Counts(1, 2, 3, 4)} == by_hand((3, 0, b"\x81\xa3tcp\x95\x01\x02\x03\x04\x05")).counts()


def test_a_block_may_span_hundreds_of_daily_indices() -> None:
    """A backfill of a year and more in one block is one record."""
    groups = [Documents(f"ml-metrics-{day}", 1, b"x") for day in range(1000)]

    record = record_of(b"".join(encode(Draft("http", Counts(1000, 1000), groups), 1, {}, 0)))

    assert [group.index for group in groups] == [group.index for group in record.documents()]


def test_no_sender_can_write_the_magic_into_a_body() -> None:
    """Bytes of a refused event that look like a record are found as they were, but do not lie on disk so."""
    forged = b"".join(encode(draft("forged"), 5, {}, 0))

    made = draft("a", refused=(forged,))
    made.summary = forged
    data = b"".join(encode(made, 1, {"tcp": Counts(2, 1, 1)}, 0))

    assert data.count(MAGIC) == 1
    assert [letter(forged)] == record_of(data).dead_letters()
    assert forged == bytes(record_of(data).summary() or b"")
    assert names_of(record_of(data)) == ["a"]


@given(st.integers(0, HEADER_BYTES - 1), st.integers(1, 255))
def test_a_changed_byte_of_the_header_is_found(at: int, mask: int) -> None:
    """A header with any other byte is none."""
    data = bytearray(b"".join(encode(draft("a"), 1, {}, 0)))
    data[at] ^= mask

    assert decode_header(bytes(data)) is None


def test_a_header_cut_off_is_none() -> None:
    """A part of a header is not one."""
    data = b"".join(encode(draft("a"), 1, {}, 0))

    assert [decode_header(data[:length]) for length in range(HEADER_BYTES)] == [None] * HEADER_BYTES
    assert decode_header(data[:HEADER_BYTES]) is not None


def test_a_record_has_an_upper_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be longer than any reader takes is refused when it is made."""
    monkeypatch.setattr("gateway.spool.record.MAX_BODY_BYTES", 1000)

    with pytest.raises(ValueError, match="longer than 1000"):
        encode(draft("a", pad=1000), 1, {}, 0)
