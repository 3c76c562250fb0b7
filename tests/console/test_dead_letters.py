"""Dead letters over HTTP, where an answer does not come to its end."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway_process import GatewayFactory

pytestmark = [pytest.mark.process, pytest.mark.waits]


@pytest.mark.parametrize("takes_it", [True, False])
def test_a_stop_amid_an_export(gateway: GatewayFactory, *, takes_it: bool) -> None:
    """The answer has no end, by which its reader knows, and the log says so in a sentence."""
    running = gateway()
    running.send_tcp(b'{"model_name":"m","cpu_usage":"x","pad":"%b"}\n' % (b"x" * 900_000) * 30)
    running.wait_until(lambda now: now["books"]["dead_letters"] == 30)
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", running.http_port))
        reader.settimeout(20)
        reader.sendall(b"GET /v1/dead-letters/export HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = reader.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        with ThreadPoolExecutor(1) as reading:
            rest = reading.submit(_end_of, reader) if takes_it else None
            assert running.stop() == 0
        assert rest is None or rest.result() != b"0\r\n\r\n"
    assert "An export of dead letters broke off." in running.output()
    assert "Traceback" not in running.output()


def _end_of(reader: socket.socket) -> bytes:
    end = b""
    while chunk := reader.recv(65536):
        end = (end + chunk)[-5:]
    return end
