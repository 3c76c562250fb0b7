"""What every sink is to the rest of the gateway."""

from __future__ import annotations

from typing import Any, Protocol

from gateway.spool.books import Cursor


class Sink(Protocol):
    """Reads the spool at its own pace; what it has taken for good is in its cursor."""

    name: str

    @property
    def cursor(self) -> Cursor:
        """How far it has come, as it is on disk."""

    async def start(self) -> None:
        """Open what it writes to as far as that is local; raise `GatewayError` when it cannot."""

    async def run(self) -> None:
        """Take events until cancelled; trouble is waited out, never raised."""

    async def drain(self, secs: float) -> None:
        """Take what is in the spool, for at most ``secs``."""

    async def trial(self, documents: list[tuple[str, bytes]]) -> list[str | None]:
        """Return for each index name and document (one line of JSON) None, or why it would not be taken now.

        Changes nothing that anybody sees. Raises `GatewayError` when it cannot be known.
        """

    async def stop(self) -> None:
        """Stop and close; what was not taken stays in the spool."""

    def status(self) -> dict[str, Any]:
        """Return ``state`` (ok, retrying or stopped), ``last_error`` and what else tells how it does."""
