"""Promise 3: an event with an identity is in each store once, however often and by whomever it is sent."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.crash import driver
from tests.crash.clients import Client, HttpClient, TcpClient
from tests.crash.lane import Lane
from tests.elasticsearch_node.client import EsClient

RATE = 150.0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sent_by_several_at_once_through_kills(es: EsClient, tmp_path: Path) -> None:
    """Three clients send the very same events over TCP and HTTP while the gateway is killed again and again."""
    now = datetime.now(UTC)

    def twins(tcp: int, http: int) -> list[Client]:
        return [
            TcpClient("twin", tcp, RATE, now, 1),
            TcpClient("twin", tcp, RATE, now, 2),
            HttpClient("twin", http, RATE, now, 3),
        ]

    lane = Lane("both", tmp_path, seed=3, now=now, elasticsearch=es.url, prefix=es.prefix, embedded=True, clients=twins)
    (result,) = driver.run([lane], secs=20, kills=6, rests=0)
    assert result.sound, result.problems
    assert result.indexed + result.dead == result.sent > 1000
    status = lane.last_status
    for sink in status["books"]["sinks"].values():
        # Most were accepted three times.
        assert sink["duplicates"] > result.indexed
