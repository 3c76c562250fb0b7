"""What the tests of `gateway generate` share."""

import os
from collections.abc import Iterator

import pytest

from tests.cli.line_server import Server


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the environment of whoever runs the tests sets."""
    for name in list(os.environ):
        if name.startswith(("GATEWAY_", "ELASTICSEARCH_")):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[Server]:
    """A listener that keeps every line."""
    server = Server()
    yield server
    server.close()
