"""Who may call: API keys, and no calls from foreign web pages."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from gateway.settings import ApiKey

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOCAL_HOST = re.compile(rb"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?")
MAX_TENANT_BYTES = 128  # it is written into every document
OPEN_PATHS = {"/health", "/ready"}  # what load balancers ask, without a key
# What anyone may write to where no key is set. All else that writes needs a key, or a gateway on loopback.
INGESTION_PATHS = {"/", "/v1/events", "/v1/labels", "/v1/logs", "/loki/api/v1/push"}
_READING = ("GET", "HEAD")


class Keys:
    """The keys of which one is needed; false when there are none, and none is needed."""

    def __init__(self, keys: tuple[ApiKey, ...] = ()) -> None:
        self._keys = [(key.key.get_secret_value().encode(), key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, given: bytes) -> ApiKey | None:
        """Return the key that was given, None for a wrong one."""
        # All keys are compared, so that the time taken tells nothing.
        matches = [key for secret, key in self._keys if hmac.compare_digest(secret, given)]
        return matches[0] if matches else None


class Access:
    """ASGI middleware: refuses callers without a key, and notes the tenant of the others."""

    def __init__(self, application: Application, keys: tuple[ApiKey, ...], *, loopback: bool = False) -> None:
        """``loopback``: only this machine can call, so that another name in `Host` is a trick of a web page."""
        self._application = application
        self._loopback = loopback
        self._keys = Keys(keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, or answer 401 or 403."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._application(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").lower()
        if self._loopback and not self._keys and host and not _LOCAL_HOST.fullmatch(host):
            await _refuse(send, 403, "The gateway listens on this machine alone and is not known by this name (Host).")
            return
        writes = scope["method"] not in _READING
        if writes and _is_foreign(headers.get(b"origin"), host):
            await _refuse(send, 403, "A page of another site (Origin) may not send anything here.")
            return
        if not self._keys:
            if writes and not self._loopback and scope["path"] not in INGESTION_PATHS:
                await _refuse(send, 403, "Beyond loopback only events are taken without a key: set http.api_keys.")
                return
            tenant = headers.get(b"x-scope-orgid")
            if tenant is not None and len(tenant) > MAX_TENANT_BYTES:
                await _refuse(send, 400, f"X-Scope-OrgID has {len(tenant)} bytes, the limit is {MAX_TENANT_BYTES}.")
                return
            scope.setdefault("state", {})["tenant"] = tenant.decode("latin-1") if tenant else None
            await self._application(scope, receive, send)
            return
        given = key_of(headers.get(b"authorization", b""))
        if given is None:
            await _refuse(send, 401, "A key is needed: send the header Authorization: Bearer KEY (http.api_keys).")
            return
        key = self._keys.find(given)
        if key is None:
            await _refuse(send, 403, "This key is not one of http.api_keys.")
            return
        scope.setdefault("state", {})["tenant"] = key.tenant
        await self._application(scope, receive, send)


def _is_foreign(origin: bytes | None, host: bytes) -> bool:
    """Whether a browser sends this for a page that did not come from here."""
    return origin is not None and origin.lower().partition(b"://")[2] != host


def key_of(header: bytes) -> bytes | None:
    """Return the key in an Authorization header: Bearer, ApiKey, or the password of Basic."""
    scheme, _, value = header.strip().partition(b" ")
    value = value.strip()
    match scheme.lower():
        case b"bearer" | b"apikey":
            return value or None
        case b"basic":
            try:
                return base64.b64decode(value, validate=True).partition(b":")[2] or None
            except binascii.Error:
                return None
    return None


async def _refuse(send: Send, status: int, message: str) -> None:
    error = {"index": None, "path": "$", "rule": "key", "message": message, "value": ""}
    body = orjson.dumps({"accepted": 0, "rejected": 0, "errors": [error]})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="gateway", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
