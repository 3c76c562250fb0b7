"""How long is waited before the next try."""

import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.sinks.elasticsearch.backoff import FIRST_SECS, LONGEST_HINT_SECS, LONGEST_SECS, Backoff


@given(st.integers())
def test_waits_double_to_a_limit(seed: int) -> None:
    """Each wait is between half and all of twice the one before, and none is longer than the limit."""
    backoff = Backoff(random.Random(seed))
    for tries in range(40):
        longest = min(LONGEST_SECS, FIRST_SECS * 2**tries)
        assert longest / 2 <= backoff.next() <= longest


def test_two_do_not_come_back_together() -> None:
    """Waits are spread by chance."""
    assert len({Backoff(random.Random(seed)).next() for seed in range(50)}) > 40


def test_reset_begins_anew() -> None:
    """After a success the first wait is short again."""
    backoff = Backoff(random.Random(1))
    for _ in range(10):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= FIRST_SECS


@given(st.floats(0, LONGEST_HINT_SECS), st.integers(0, 2000))
def test_the_servers_wish_is_honoured(wish: float, tries: int) -> None:
    """A wait is at least what the server asked for."""
    backoff = Backoff(random.Random(1))
    for _ in range(tries % 20):
        backoff.next()
    assert wish <= backoff.next(wish) <= max(wish, LONGEST_SECS)


def test_a_million_tries_are_no_trouble() -> None:
    """However often it was tried, the wait can be computed."""
    backoff = Backoff(random.Random(1))
    backoff._tries = 10**6
    assert backoff.next() <= LONGEST_SECS
