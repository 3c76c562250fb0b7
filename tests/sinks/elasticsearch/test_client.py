"""The client: where it goes, how it shows who it is, and what it never says."""

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.errors import GatewayError
from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.backoff import LONGEST_HINT_SECS
from gateway.sinks.elasticsearch.client import RequestFailed, bulk, connect, request
from tests.sinks.elasticsearch.odd_server import OddServer, page, status
from tests.sinks.elasticsearch.running import docs, running

pytestmark = pytest.mark.anyio
SECRET = "c3dvcmRmaXNo"


async def asked(odd: OddServer, **settings: Any) -> dict[str, str]:
    """Return the headers of a request."""
    client = connect(Elasticsearch(**{"urls": (odd.url,), **settings}))
    try:
        await request(client, "GET", "/")
    finally:
        await client.close()
    return odd.requests[-1].headers


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://es.example", "es.example", 9200, ""),
        ("http://es.example/", "es.example", 9200, ""),
        ("http://es.example:9201", "es.example", 9201, ""),
        ("https://es.example", "es.example", 443, ""),
        ("https://es.example:9200/search/here", "es.example", 9200, "/search/here"),
        ("http://es.example/search", "es.example", 9200, "/search"),
        ("http://[::1]", "::1", 9200, ""),
        ("http://[::1]:9201", "::1", 9201, ""),
        (f"http://me:{SECRET}@es.example", "es.example", 9200, ""),
    ],
)
async def test_addresses(url: str, host: str, port: int, path: str) -> None:
    """An address without a port means 9200, with https 443; a path is kept."""
    client = connect(Elasticsearch(urls=(url,)))
    [node] = client.transport.node_pool.all()
    await client.close()
    assert (node.config.host, node.config.port, node.config.path_prefix) == (host, port, path)


@pytest.mark.parametrize(
    ("asked", "secs"),
    [
        ("", 0),
        ("0", 0),
        ("7", 7),
        ("86400", LONGEST_HINT_SECS),
        ("9" * 400, LONGEST_HINT_SECS),
        ("-3", 0),
        ("1.5", 0),
        ("soon", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_HINT_SECS),
        ("Mon, 01 Jan 0001 00:00:00 -0000", 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", 0),
    ],
)
async def test_retry_after(asked: str, secs: float, odd: OddServer) -> None:
    """What a server asks for is taken as far as it can be understood, and never for more than a minute."""
    client = connect(Elasticsearch(urls=(odd.url,)))
    odd.always = status(429, retry_after=asked)
    try:
        with pytest.raises(RequestFailed) as caught:
            await bulk(client, b"", 0, 1)
    finally:
        await client.close()
    assert caught.value.retry_after == secs


async def test_api_key(odd: OddServer) -> None:
    """An API key is sent as Elasticsearch gave it, without the line end of the file it came from."""
    assert (await asked(odd, api_key=f"{SECRET}\n"))["authorization"] == f"ApiKey {SECRET}"


async def test_basic(odd: OddServer) -> None:
    """User and password are sent as UTF-8, whatever is in them."""
    said = (await asked(odd, username="jörg", password="p:ß"))["authorization"]
    assert base64.b64decode(said.removeprefix("Basic ")).decode() == "jörg:p:ß"


async def test_nobody(odd: OddServer) -> None:
    """Without key and user nothing is shown."""
    assert "authorization" not in await asked(odd)


async def test_path_prefix(odd: OddServer) -> None:
    """A path in the address stands before each request's own."""
    await asked(odd, urls=(f"{odd.url}/search",))
    assert odd.requests[-1].path == "/search/"


@pytest.mark.parametrize(
    "settings",
    [
        {"urls": (f"http://me:{SECRET}@es:99999",)},
        {"urls": (f"http://me:{SECRET}@es:port",)},
        {"urls": (f"http://me:{SECRET}@es", "https://es"), "ca_certs": ssl.get_default_verify_paths().cafile},
        {"urls": ("https://es",), "ca_certs": "/nowhere.pem", "api_key": SECRET},
        {"urls": ("https://es",), "ca_certs": __file__, "username": "me", "password": SECRET},
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any]) -> None:
    """They are told in one sentence without secrets."""
    with pytest.raises(GatewayError, match=r"^elasticsearch: the settings cannot be used \(.+\)\.$") as caught:
        connect(Elasticsearch(**settings))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("oddity", [status(401), status(403), status(500), page(502, SECRET.encode()), None])
@pytest.mark.parametrize("settings", [{"api_key": SECRET}, {"username": "me", "password": SECRET}, {"in_url": True}])
async def test_errors_hold_no_secrets(oddity: Any, settings: dict[str, Any], odd: OddServer) -> None:
    """Whatever goes wrong, keys and passwords are not in what is said about it."""
    odd.always = oddity
    url = odd.url if oddity else "http://127.0.0.1:1"
    if settings.pop("in_url", False):
        url = url.replace("://", f"://me:{SECRET}@")
    client = connect(Elasticsearch(urls=(url,), **settings))
    with pytest.raises(RequestFailed) as caught:
        await bulk(client, b"{}\n{}\n", 1, 10)
    await client.close()
    encoded = base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert not {SECRET, encoded} & set(str(caught.value).split())
    assert SECRET not in str(caught.value).replace(f": {SECRET}.", "")  # but for a page that says it itself


async def test_one_of_several_is_dead(odd: OddServer, tmp_path: Path) -> None:
    """A dead address among several costs no failure: the request goes to the next."""
    async with running(tmp_path, "http://127.0.0.1:1", odd.url, "http://127.0.0.1:2") as rig:
        for start in range(0, 50, 10):
            await rig.append(docs(10, start=start))
            await rig.settled()
        assert (rig.books["indexed"], rig.books["duplicates"]) == (50, 0)
        assert rig.status["last_error"] is None


async def test_shards_are_waited_for_less_long_than_answers(odd: OddServer) -> None:
    """Elasticsearch is told to give up on a shard before the gateway gives up on the whole request."""
    client = connect(Elasticsearch(urls=(odd.url,)))
    lines = docs(1)[0].lines()
    await bulk(client, lines, 1, 60)
    await bulk(client, lines, 1, 4)
    await client.close()
    assert [each.path.partition("timeout=")[2] for each in odd.bulks] == ["10000ms", "2000ms"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that signs certificates."""
    return trustme.CA()


async def over_tls(authority: trustme.CA, host: str, **settings: Any) -> Any:
    """Ask a server with a certificate for ``host``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    async with OddServer(context) as server:
        client = connect(Elasticsearch(urls=(server.url,), **settings))
        try:
            return await request(client, "GET", "/")
        finally:
            await client.close()


async def test_tls(authority: trustme.CA, tmp_path: Path) -> None:
    """A server whose certificate the named authority signed is believed."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    answer = await over_tls(authority, "127.0.0.1", ca_certs=tmp_path / "ca.pem")
    assert answer["version"]["number"]


@pytest.mark.parametrize(("host", "known"), [("127.0.0.1", False), ("elsewhere.example", True)])
async def test_tls_of_somebody_else(host: str, known: bool, authority: trustme.CA, tmp_path: Path) -> None:
    """A certificate of another authority, or for another host, is refused with the reason."""
    (authority if known else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
    with pytest.raises(RequestFailed, match="certificate verify failed"):
        await over_tls(authority, host, ca_certs=tmp_path / "ca.pem")


async def test_tls_unchecked(authority: trustme.CA) -> None:
    """With verify_certs off any certificate will do."""
    assert await over_tls(authority, "elsewhere.example", verify_certs=False)
