"""A connection's transport as uvicorn uses it."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

HELD_BYTES = 64 * 1024


class Flow(FlowControl):
    """Reads no further while requests wait that were sent ahead."""

    def __init__(self, transport: asyncio.Transport, protocol: Any) -> None:
        super().__init__(transport)
        self._protocol = protocol

    def resume_reading(self) -> None:
        """Begin to read again, if that is wanted."""
        if self._protocol._ending or not (self._protocol._deaf or self._protocol.pipeline):
            super().resume_reading()


class Patient:
    """Joins what is written in one turn of the loop, as head and body of an answer are; leaves `close` to the protocol.

    Each write costs the system as much as an event costs all in all.
    """

    def __init__(self, transport: asyncio.Transport, protocol: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._protocol = protocol
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0
        self.close_now = transport.close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write before the loop does anything else, or at once what is much."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held, unless the connection was lost meanwhile."""
        if self._held:
            data = b"".join(self._held)
            self._held, self._held_bytes = [], 0
            if not self._transport.is_closing():
                self._transport.write(data)

    def close(self) -> None:
        self._protocol.end()

    def is_closing(self) -> bool:
        return self._protocol._ending or self._transport.is_closing()
