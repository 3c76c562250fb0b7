"""What `Client.send` raises besides TypeError and ValueError."""

from __future__ import annotations


class ClientFull(Exception):
    """There is no room for the event, which was not taken: the gateway is away or too slow."""


class ClientClosed(Exception):
    """The client was closed before; the event was not taken."""


CLOSED = "The client is closed: send before close(), or make another client."
