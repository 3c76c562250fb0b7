"""The rate limit, without I/O (promise 5)."""

from __future__ import annotations

import pytest

from gateway.settings import Limits
from gateway.sources.http.limits import MAX_TENANTS, RateLimit


def test_rate_limit() -> None:
    """A tenant may send a burst, then so much a second, and is told how long to wait; others are not held up."""
    now = 0.0
    limit = RateLimit(Limits(bytes_per_sec=10, burst_bytes=20), lambda: now)
    assert limit.take("a", 20) == 0
    assert limit.take("a", 5) == 0.5
    assert limit.take("b", 20) == 0
    now = 0.5
    assert limit.take("a", 5) == 0
    assert limit.take("a", 1) == pytest.approx(0.1)
    now = 100.0
    assert limit.take("a", 20) == 0
    assert limit.take("a", 1) > 0


def test_larger_than_the_burst() -> None:
    """A body larger than the burst passes when nothing was sent before, and is paid for afterwards."""
    now = 0.0
    limit = RateLimit(Limits(bytes_per_sec=10), lambda: now)
    assert limit.take(None, 50) == 0
    assert limit.take(None, 10) == pytest.approx(4)


def test_no_limit() -> None:
    """Without a limit nothing is counted."""
    limit = RateLimit(Limits())
    assert [limit.take("a", 10**12) for _ in range(3)] == [0, 0, 0]


def test_many_tenants() -> None:
    """Tenants without number do not fill the memory."""
    limit = RateLimit(Limits(bytes_per_sec=10), lambda: 0.0)
    for number in range(3 * MAX_TENANTS):
        limit.take(str(number), 1)
    assert len(limit._buckets) <= MAX_TENANTS
