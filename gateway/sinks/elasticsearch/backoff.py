"""How long to wait before trying again, without I/O."""

from __future__ import annotations

import random

FIRST_SECS = 0.2
LONGEST_SECS = 30.0
LONGEST_HINT_SECS = 60.0  # of what a server asks for: who says a day is asked again all the same


class Backoff:
    """Doubles from `FIRST_SECS` to `LONGEST_SECS`, with jitter so that many do not come back at once."""

    def __init__(self, draw: random.Random | None = None) -> None:
        self._draw = draw or random.Random()  # noqa: S311 - not a secret
        self._tries = 0

    def next(self, retry_after: float = 0.0) -> float:
        """Return the seconds to wait, at least as long as the server asked for."""
        longest: float = min(LONGEST_SECS, FIRST_SECS * 2 ** min(self._tries, 20))
        self._tries += 1
        wait = longest * self._draw.uniform(0.5, 1.0)
        return max(wait, retry_after)

    def reset(self) -> None:
        """Begin anew."""
        self._tries = 0
