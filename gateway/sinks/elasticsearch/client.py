"""The official client, and its errors as what they mean for us."""

from __future__ import annotations

import ssl
import time
from base64 import b64encode
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.errors import GatewayError
from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.backoff import LONGEST_HINT_SECS
from gateway.sinks.elasticsearch.verdicts import Created

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

# Every item's status is kept, or positions would be lost.
_BULK = "/_bulk?filter_path=errors,items.*.status,items.*.error"
_JSON = {"accept": "application/json", "content-type": "application/json"}
_NDJSON = {"accept": "application/json", "content-type": "application/x-ndjson"}
_STRANGER = "What answers at elasticsearch.urls is not Elasticsearch."
_ODD = "Elasticsearch gave an answer to a bulk request that is not one"
# For this long Elasticsearch waits for a shard that is not there before it says so. Its own minute is
# as long as our patience with the whole request, and one such shard would fail all its neighbours.
SHARD_SECS = 10.0
OTHER_CONNECTIONS = 8  # for the console's queries, beside the bulks
LONGEST_REASON = 500


class Answer(NamedTuple):
    """What a bulk request came to. ``items`` is None when all were created; ``retry_after`` is in seconds."""

    items: list[dict[str, Any]] | None
    retry_after: float = 0.0


class RequestFailed(GatewayError):
    """The whole request came to nothing: it can be sent again.

    ``status`` is the HTTP status, None when there was no answer, ``retry_after`` the seconds that the
    server asks to be left alone, 0 when it does not. ``blames_body`` says that Elasticsearch refused
    what was sent, which might do better in smaller pieces.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        retry_after: float = 0.0,
        *,
        blames_body: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.blames_body = blames_body

    @property
    def reason(self) -> str:
        """A short word for metrics."""
        return "connection" if self.status is None else str(self.status)


def connect(settings: Elasticsearch) -> AsyncElasticsearch:
    """Return a client; nothing is sent yet. Raise `GatewayError` when the settings cannot be used."""
    from elasticsearch import AsyncElasticsearch  # heavy: loaded only where it is used

    from gateway.sinks.elasticsearch.wire import Answers, Bodies

    options: dict[str, Any] = {}
    if settings.api_key is not None:
        options["api_key"] = settings.api_key.get_secret_value().strip()
    if settings.username is not None and settings.password is not None:
        # The client takes ASCII alone; Elasticsearch reads UTF-8.
        login = f"{settings.username}:{settings.password.get_secret_value()}"
        options["basic_auth"] = b64encode(login.encode()).decode()
    try:
        if any(url.startswith("https://") for url in settings.urls):
            options["ssl_context"] = _tls(settings)
        return AsyncElasticsearch(
            [_with_port(url) for url in settings.urls],
            request_timeout=settings.request_timeout_secs,
            # Each address once: a dead one does not fail the request, what was answered is ours to judge.
            max_retries=len(settings.urls) - 1,
            retry_on_status=(),
            retry_on_timeout=False,
            connections_per_node=settings.max_in_flight + OTHER_CONNECTIONS,
            serializers={each.mimetype: each() for each in (Answers, Bodies)},
            **options,
        )
    except (ValueError, OSError, ssl.SSLError) as error:
        text = str(error)
        for url in settings.urls:
            text = text.replace(url, _without_secrets(url)).replace(_with_port(url), _without_secrets(url))
        raise GatewayError(f"elasticsearch: the settings cannot be used ({text}).") from None


async def bulk(client: AsyncElasticsearch, body: bytes, count: int, request_timeout_secs: float) -> Answer:
    """Send a bulk body of ``count`` documents; raise `RequestFailed` when there is no orderly answer to it."""
    shard_ms = int(1000 * min(SHARD_SECS, request_timeout_secs / 2))
    answer, headers = await _request(client, "POST", f"{_BULK}&timeout={shard_ms}ms", body, _NDJSON)
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list | Created):
        raise RequestFailed(f"{_ODD}.")
    found = items if isinstance(items, Created) else len(items)
    if found != count:
        raise RequestFailed(f"{_ODD}: {found} items for {count} documents.")
    if isinstance(items, Created) or answer.get("errors") is False:
        return Answer(None)
    answers = [next(iter(item.values()), None) for item in items if isinstance(item, dict)]
    orderly = [each for each in answers if isinstance(each, dict)]
    if len(orderly) != count:
        raise RequestFailed(f"{_ODD}: not every item has an answer.")
    return Answer(orderly, _seconds(headers.get("retry-after", "")))


async def request(client: AsyncElasticsearch, method: str, path: str, *, body: Any = None) -> Any:
    """Send a request and return the decoded answer; raise `RequestFailed`, whatever went wrong."""
    return (await _request(client, method, path, body, _JSON))[0]


async def _request(
    client: AsyncElasticsearch, method: str, path: str, body: Any, headers: dict[str, str]
) -> tuple[Any, Any]:
    """Return the decoded answer and its headers."""
    from elasticsearch import ApiError, SerializationError, TransportError, UnsupportedProductError

    try:
        answer = await client.perform_request(method, path, headers=headers, body=body)
    except UnsupportedProductError:  # before ApiError, of which it is one
        raise RequestFailed(_STRANGER, 0) from None
    except ApiError as error:
        # The client looks for Elasticsearch's own header where an answer is good; a stranger knows no such path.
        if error.meta.status in (404, 405) and "x-elastic-product" not in error.meta.headers:
            raise RequestFailed(_STRANGER, 0) from None
        raise _of_status(
            error.meta.status, error.meta.headers, error.body, f"{method} {path.partition('?')[0]}"
        ) from None
    except SerializationError as error:
        raise RequestFailed(
            f"Elasticsearch gave an answer that cannot be read: {error.message[:LONGEST_REASON]}."
        ) from None
    except TransportError as error:
        nodes = [each.config for each in client.transport.node_pool.all()]
        where = ", ".join(f"{node.host}:{node.port}" for node in nodes)
        reason = error.message.strip().replace(" ssl:default", "")[:LONGEST_REASON]  # said without TLS too
        raise RequestFailed(f"Elasticsearch at {where} cannot be reached: {reason}.") from None
    except Exception as error:  # what the client lets through, such as RecursionError for an endless answer
        raise RequestFailed(
            f"Elasticsearch gave an answer that cannot be read: {type(error).__name__}: {error}"[:LONGEST_REASON]
        ) from None
    if answer.meta.headers.get("x-elastic-product") != "Elasticsearch":  # the client looks at the first answer alone
        raise RequestFailed(_STRANGER, 0)
    return answer.body, answer.meta.headers


def _of_status(status: int, headers: Any, body: Any, call: str) -> RequestFailed:
    error = body.get("error") if isinstance(body, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None  # None: said by what stands before Elasticsearch
    who = "Elasticsearch" if kind or "x-elastic-product" in headers else "What stands before Elasticsearch"
    return RequestFailed(
        f"{who} answered {status} to {call}{_reason_of(error)}{_advice(status)}.",
        status,
        _seconds(headers.get("retry-after", "")),
        # The memory that a body needs may be there for half of it.
        blames_body=status == 413 or (status == 400 and bool(kind)) or kind == "circuit_breaking_exception",
    )


def _reason_of(error: Any) -> str:
    if isinstance(error, dict):
        return f": {error.get('type', '')}: {error.get('reason', '')}"[:LONGEST_REASON]
    return f": {error}"[:LONGEST_REASON] if error else ""


def _advice(status: int) -> str:
    if status == 401:
        return " (check elasticsearch.api_key, or username and password)"
    if status == 403:
        return " (the key lacks a privilege, or the cluster is read-only: see docs/elasticsearch.md)"
    return ""


def _seconds(retry_after: str) -> float:
    """Return the seconds that a Retry-After header asks for, given as such or as a date, as far as is sensible."""
    try:
        if retry_after.isdecimal():
            asked = float(retry_after)
        else:
            asked = parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, min(asked, LONGEST_HINT_SECS))


def _tls(settings: Elasticsearch) -> ssl.SSLContext:
    """Return a context of our own: the client's would not look whether a certificate is for an address of digits."""
    import certifi  # the client brings it along, and trusts it where nothing else is named

    if settings.ca_certs is None:
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
    else:
        try:
            context = ssl.create_default_context(cafile=settings.ca_certs)
        except OSError as error:  # also what is wrong with the content
            raise ValueError(f"elasticsearch.ca_certs {settings.ca_certs}: {error.strerror or error}") from None
    if not settings.verify_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _with_port(url: str) -> str:
    """The client wants a port in each address; Elasticsearch's own is 9200, that of https behind a proxy 443."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if ":" in host.rpartition("]")[2].rpartition("@")[2]:
        return url
    return f"{scheme}://{host}:{443 if scheme == 'https' else 9200}{slash}{path}"


def _without_secrets(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
