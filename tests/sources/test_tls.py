"""TLS on the TCP source: the same lines, and no harm from who does not speak it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.errors import GatewayError
from gateway.settings import Tcp, Tls
from gateway.sources import listening as ports
from gateway.sources.listening import tls_context
from gateway.sources.tcp.source import TcpSource
from gateway.telemetry import Telemetry
from tests.elasticsearch_node.ports import free_port
from tests.sources.intake import FakeIntake
from tests.sources.sending import is_closed, listening, send, sender, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops, which have TLS of their own; the gateway runs on uvloop."""
    return "asyncio", {"use_uvloop": request.param}


class Authority:
    """An authority, a server's certificate of it, and clients with and without one."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.pem, self.certificate, self.key = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
        server = self.ca.issue_cert("localhost")
        self.ca.cert_pem.write_to_path(str(self.pem))
        server.private_key_pem.write_to_path(str(self.key))
        for blob in server.cert_chain_pems:
            blob.write_to_path(str(self.certificate), append=True)

    def tls(self, *, client_ca: bool = False) -> dict[str, Any]:
        """Return the settings of a source."""
        tls = {"certificate": self.certificate, "key": self.key}
        return {"tls": tls | ({"client_ca": self.pem} if client_ca else {}), "tls_port": free_port()}

    def client(self, certificate_of: trustme.CA | None = None) -> ssl.SSLContext:
        """Return what a client needs."""
        context = ssl.create_default_context(cafile=str(self.pem))
        if certificate_of is not None:
            certificate_of.issue_cert("client").configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority for the whole file."""
    return Authority(tmp_path_factory.mktemp("tls"))


def secure_port(source: TcpSource) -> int:
    return source.settings.tls_port


async def test_lines(authority: Authority) -> None:
    """Over TLS lines arrive as over plain TCP, which stays open beside it."""
    intake = FakeIntake()
    lines = [b'{"n":%d,"x":"%b"}' % (n, b"y" * 500) for n in range(3000)]
    async with listening(intake, **authority.tls()) as source:
        await send(secure_port(source), b"\n".join(lines), context=authority.client())
        await send(source.port, b'{"plain":1}\n')
        await until(lambda: len(intake.lines) == 3001)
    assert [line for line in intake.lines if b"plain" not in line] == lines


async def test_no_warning_of_the_event_loop(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """An orderly end over TLS is nothing to log."""
    caplog.set_level(logging.INFO)
    intake = FakeIntake()
    async with listening(intake, **authority.tls()) as source:
        await send(secure_port(source), b"{}", context=authority.client())
        await until(lambda: source.status()["connections"] == 0 and len(intake.lines) == 1)
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_client_certificates(authority: Authority) -> None:
    """With client_ca set, only who shows a certificate of that authority is heard."""
    intake = FakeIntake()
    async with listening(intake, **authority.tls(client_ca=True)) as source:
        for stranger in (authority.client(), authority.client(trustme.CA())):
            with pytest.raises((OSError, ssl.SSLError)):  # at the handshake, or with TLS 1.3 at the first read
                async with sender(secure_port(source), stranger) as (reader, writer):
                    writer.write(b'{"stranger":1}\n')
                    assert await reader.read() == b""
                    raise ConnectionResetError
        await send(secure_port(source), b'{"friend":1}\n', context=authority.client(authority.ca))
        await until(lambda: intake.lines == [b'{"friend":1}'])


@contextmanager
def intruder(port: int, data: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(data)
        yield raw


async def test_who_speaks_no_tls(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent and plain clients on the TLS port hurt nobody, take none of the connections, and are closed."""
    monkeypatch.setattr(ports, "HANDSHAKE_SECS", 0.5)
    intake = FakeIntake()
    async with listening(intake, max_connections=1, **authority.tls()) as source:
        port = secure_port(source)
        with intruder(port, b""), intruder(port, b'{"a":1}\n'), intruder(port, b"\x16\x03\x01"):
            await send(port, b'{"good":1}\n', context=authority.client())
            await until(lambda: intake.lines == [b'{"good":1}'])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await is_closed(reader)
            writer.close()
    assert source.status()["connections"] == 0


async def test_a_client_that_just_closes(authority: Authority) -> None:
    """Most clients end TLS by closing the socket: the last line of an orderly end is taken."""
    intake = FakeIntake()

    def plainly() -> None:
        raw = socket.create_connection(("localhost", port))
        with authority.client().wrap_socket(raw, server_hostname="localhost") as secured:
            secured.sendall(b'{"a":1}\n{"b":2}\n')

    async with listening(intake, **authority.tls()) as source:
        port = secure_port(source)
        await asyncio.to_thread(plainly)
        await until(lambda: intake.lines == [b'{"a":1}', b'{"b":2}'])
        await until(lambda: source.status()["connections"] == 0)


@pytest.mark.waits
async def test_backpressure(authority: Authority) -> None:
    """Over TLS too the sender is held up while nothing can be taken, and nothing is lost."""
    intake = FakeIntake()
    intake.open.clear()
    chunk = b"x" * 999 + b"\n"
    async with listening(intake, **authority.tls()) as source:
        async with sender(secure_port(source), authority.client()) as (_, writer):

            async def send_all() -> None:
                for _ in range(30):
                    writer.write(chunk * 1000)
                    await writer.drain()

            sending = asyncio.create_task(send_all())
            await asyncio.sleep(0.7)
            assert not sending.done()
            assert source.held < 4 << 20
            intake.open.set()
            await asyncio.wait_for(sending, 20)
        await until(lambda: len(intake.lines) == 30_000)


async def test_wrong_files(authority: Authority, tmp_path: Path) -> None:
    """A certificate that is missing or wrong is said in one sentence that names the setting."""
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    missing = tmp_path / "missing.pem"
    for certificate, key, client_ca in (
        (bad, authority.key, None),
        (authority.certificate, authority.certificate, None),
        (authority.certificate, authority.key, bad),
    ):
        with pytest.raises(GatewayError, match=r"^tcp\.tls: the certificate or key cannot be used \(.*\)\.$"):
            tls_context(Tls(certificate=certificate, key=key, client_ca=client_ca), "tcp.tls")
    sound = {"certificate": authority.certificate, "key": authority.key, "client_ca": authority.certificate}
    for name in sound:
        with pytest.raises(GatewayError) as caught:
            tls_context(Tls(**{**sound, name: missing}), "tcp.tls")
        assert str(caught.value) == f"tcp.tls.{name}: {missing} cannot be read: No such file or directory."


async def test_the_second_port_in_use(authority: Authority) -> None:
    """When the TLS port is taken the plain one is given back."""
    async with listening(FakeIntake(), **authority.tls()) as source:
        port = free_port()
        with pytest.raises(GatewayError, match=r"tcp\.tls_port"):
            TcpSource(Tcp(port=port, tls_port=secure_port(source), tls=source.settings.tls), FakeIntake(), Telemetry())
        async with listening(FakeIntake(), port=port):
            pass
