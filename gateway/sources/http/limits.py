"""A rate limit in bytes a second for each tenant, without I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.settings import Limits

MAX_TENANTS = 10_000


class RateLimit:
    """A token bucket for each tenant."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes_per_sec = limits.bytes_per_sec
        self._burst = limits.burst_bytes or 2 * (limits.bytes_per_sec or 0)
        self._clock = clock
        self._buckets: dict[str | None, tuple[float, float]] = {}

    def take(self, tenant: str | None, size: int) -> float:
        """Take ``size`` bytes; return 0, or in how many seconds there is room for them (then none are taken)."""
        if self.bytes_per_sec is None:
            return 0.0
        moment = self._clock()
        left, at = self._buckets.get(tenant, (float(self._burst), moment))
        left = min(self._burst, left + (moment - at) * self.bytes_per_sec)
        if left < min(size, self._burst):
            return (min(size, self._burst) - left) / self.bytes_per_sec
        if len(self._buckets) >= MAX_TENANTS and tenant not in self._buckets:
            self._buckets.clear()
        self._buckets[tenant] = (left - size, moment)
        return 0.0

    def spent(self, tenant: str | None, size: int) -> None:
        """Take note of bytes that another process took: the limit holds for all of them together."""
        left, at = self._buckets.get(tenant, (float(self._burst), self._clock()))
        self._buckets[tenant] = (left - size, at)
