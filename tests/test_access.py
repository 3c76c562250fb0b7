"""Who may call: keys, tenants, open paths, foreign web pages."""

from __future__ import annotations

import base64
import hmac
from collections.abc import MutableMapping
from typing import Any

import orjson
import pytest

from gateway.access import Access, key_of
from gateway.settings import ApiKey

pytestmark = pytest.mark.anyio
BLUE, PLAIN = b"Bearer blue-key", b"Bearer plain-key"
KEYS: Any = (ApiKey.model_validate({"key": "blue-key", "tenant": "blue"}), ApiKey.model_validate("plain-key"))


class Called:
    """What came of a call: the status, and what the application behind saw."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.headers: dict[bytes, bytes] = {}
        self.passed: MutableMapping[str, Any] | None = None

    @property
    def tenant(self) -> Any:
        """The tenant that the application saw."""
        assert self.passed is not None
        return self.passed.get("state", {}).get("tenant", "not set")


async def call(
    *headers: tuple[bytes, bytes],
    keys: Any = KEYS,
    path: str = "/v1/events",
    method: str = "POST",
    loopback: bool = False,
) -> Called:
    called = Called()

    async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        called.passed = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            called.status, called.headers = message["status"], dict(message["headers"])
        else:
            called.body += message["body"]

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("no body is read to decide")

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    await Access(application, keys, loopback=loopback)(scope, receive, send)
    return called


def basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b"Bearer abc", b"abc"),
        (b"bearer abc", b"abc"),
        (b" BEARER   abc ", b"abc"),
        (b"ApiKey abc", b"abc"),
        (b"apikey abc", b"abc"),
        (basic(b"user:abc"), b"abc"),
        (basic(b":abc"), b"abc"),
        (basic(b"user:a:b:c"), b"a:b:c"),
        (basic("user:żółć".encode()), "żółć".encode()),
        (basic(b"abc"), None),
        (basic(b"user:"), None),
        (b"Basic", None),
        (b"Basic %%%", None),
        (b"Basic \xff\xfe", None),
        (b"Basic YWJj=YWJj", None),
        (b"Bearer", None),
        (b"Bearer  ", None),
        (b"Token abc", None),
        (b"abc", None),
        (b"", None),
    ],
)
async def test_forms(header: bytes, key: bytes | None) -> None:
    """A key comes as Bearer, as ApiKey, or as the password of Basic."""
    assert key_of(header) == key


@pytest.mark.parametrize(
    ("header", "status", "tenant"),
    [
        (BLUE, 200, "blue"),
        (PLAIN, 200, None),
        (basic(b"anyone:blue-key"), 200, "blue"),
        (b"Bearer blue-ke", 403, None),
        (b"Bearer blue-key2", 403, None),
        (b"Bearer BLUE-KEY", 403, None),
        (b"Bearer \xff", 403, None),
        (b"Bearer", 401, None),
        (None, 401, None),
    ],
)
async def test_keys(header: bytes | None, status: int, tenant: str | None) -> None:
    """No key gets 401, a wrong one 403, a right one passes with its tenant; X-Scope-OrgID then means nothing."""
    headers = [(b"x-scope-orgid", b"red")] + ([] if header is None else [(b"authorization", header)])
    called = await call(*headers)
    assert (called.status, called.passed is not None) == (status, status == 200)
    if status == 200:
        assert called.tenant == tenant
        return
    body = orjson.loads(called.body)
    assert (body["accepted"], body["rejected"], body["errors"][0]["rule"]) == (0, 0, "key")
    assert "http.api_keys" in body["errors"][0]["message"]
    assert (b"www-authenticate" in called.headers) is (status == 401)
    assert int(called.headers[b"content-length"]) == len(called.body)


@pytest.mark.parametrize(("given", "tenant"), [(b"red", "red"), (b"", None), (None, None), (b"r\xe9d", "réd")])
async def test_tenant_without_keys(given: bytes | None, tenant: str | None) -> None:
    """Where no key is required, X-Scope-OrgID chooses the tenant."""
    called = await call(*([] if given is None else [(b"x-scope-orgid", given)]), keys=())
    assert (called.status, called.tenant) == (200, tenant)


async def test_time_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is compared, in constant time, whether an earlier one fits or not."""
    compared: list[Any] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for given in (BLUE, PLAIN, b"Bearer wrong"):
        compared.clear()
        await call((b"authorization", given))
        assert compared == [b"blue-key", b"plain-key"]


@pytest.mark.parametrize(
    ("path", "is_open"),
    [
        ("/health", True),
        ("/ready", True),
        ("/health/", False),
        ("/health/../v1/events", False),
        ("/Health", False),
        ("//health", False),
        ("/status", False),
        ("/metrics", False),
        ("/", False),
        ("/v1/search", False),
        ("/docs", False),
        ("/nowhere", False),
    ],
)
async def test_open_paths(path: str, is_open: bool) -> None:
    """Load balancers ask /health and /ready without a key; nothing else is open."""
    assert (await call(path=path, method="GET")).status == (200 if is_open else 401)


@pytest.mark.parametrize(
    ("method", "origin", "host", "status"),
    [
        ("POST", None, b"gateway:8080", 200),
        ("POST", b"http://gateway:8080", b"gateway:8080", 200),
        ("POST", b"https://Gateway:8080", b"gateway:8080", 200),
        ("POST", b"http://evil.example", b"gateway:8080", 403),
        ("POST", b"http://gateway:8081", b"gateway:8080", 403),
        ("POST", b"null", b"gateway:8080", 403),
        ("DELETE", b"http://evil.example", b"gateway:8080", 403),
        ("GET", b"http://evil.example", b"gateway:8080", 200),
    ],
)
@pytest.mark.parametrize("keys", [(), KEYS])
async def test_foreign_pages(method: str, origin: bytes | None, host: bytes, status: int, keys: Any) -> None:
    """A page of another site may not have a browser write here."""
    headers = [(b"host", host), (b"authorization", BLUE)] + ([] if origin is None else [(b"origin", origin)])
    assert (await call(*headers, method=method, keys=keys)).status == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost:8080", 200),
        (b"LOCALHOST", 200),
        (b"127.0.0.1:8080", 200),
        (b"[::1]:8080", 200),
        (b"evil.example:8080", 403),
        (b"localhost.evil.example", 403),
        (b"127.0.0.1.evil.example", 403),
    ],
)
async def test_foreign_names(host: bytes, status: int) -> None:
    """On loopback without a key, a name that is not this machine's is a web page's trick, and is refused."""
    assert (await call((b"host", host), keys=(), loopback=True, method="GET")).status == status
    assert (await call((b"host", host), (b"authorization", BLUE), loopback=True, method="GET")).status == 200
    assert (await call((b"host", host), keys=(), method="GET")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "loopback", "status"),
    [
        ("DELETE", "/v1/verify/0123456789", False, 403),
        ("DELETE", "/v1/verify/0123456789", True, 200),
        ("POST", "/v1/dead-letters/replay", False, 403),
        ("POST", "/v1/events/", False, 403),
        ("GET", "/v1/search", False, 200),
        ("HEAD", "/", False, 200),
        ("POST", "/", False, 200),
        ("POST", "/v1/events", False, 200),
        ("POST", "/v1/labels", False, 200),
        ("POST", "/v1/logs", False, 200),
        ("POST", "/loki/api/v1/push", False, 200),
    ],
)
async def test_writes_beside_ingestion(method: str, path: str, loopback: bool, status: int) -> None:
    """Where no key is set, only a gateway on loopback lets callers write anything but events."""
    called = await call(method=method, path=path, loopback=loopback, keys=())
    assert called.status == status
    if status == 403:
        assert "http.api_keys" in orjson.loads(called.body)["errors"][0]["message"]
    assert (await call((b"authorization", BLUE), method=method, path=path, loopback=loopback)).status == 200


async def test_other_protocols_pass() -> None:
    """What is no HTTP request is not judged here."""
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        return None

    await Access(application, KEYS)({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]
