"""What a test asks of Elasticsearch, in few words."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

import httpx

SHARDS_READY_SECS = 10.0
NAMES_A_REQUEST = 50


def new_prefix() -> str:
    """Return a prefix for index names that no other test has."""
    return f"t-{secrets.token_hex(4)}-"


class EsError(AssertionError):
    """Elasticsearch answered a request with an error."""

    def __init__(self, response: httpx.Response) -> None:
        request = response.request
        super().__init__(f"{request.method} {request.url}: {response.status_code} {response.text[:2000]}")
        self.status = response.status_code


class EsClient:
    """A synchronous client: every call returns the answer's JSON and raises EsError from status 400 on.

    ``http`` is the plain client beneath, for answers that are meant to be errors.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self.url = url
        self.prefix = prefix
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def close(self) -> None:
        """Let go of the connections."""
        self.http.close()

    def get(self, path: str, **params: str) -> Any:
        """``GET`` a path."""
        return self._json("GET", path, params=params)

    def post(self, path: str, json: Any = None, **params: str) -> Any:
        """``POST`` a JSON body, or bytes as they are (``_bulk``'s lines)."""
        return self._json("POST", path, json, params)

    def put(self, path: str, json: Any = None, **params: str) -> Any:
        """``PUT`` a JSON body."""
        return self._json("PUT", path, json, params)

    def delete(self, path: str, **params: str) -> Any:
        """``DELETE`` a path."""
        return self._json("DELETE", path, params=params)

    def refresh(self, index: str | None = None) -> None:
        """Make all that was written so far visible to searches, in this test's indices or those named."""
        self.post(f"/{index or self.prefix + '*'}/_refresh", ignore_unavailable="true")

    def search(self, index: str | None = None, body: Mapping[str, Any] | None = None) -> Any:
        """Refresh, then search; the total is exact, and an index that is not there holds nothing."""
        index = index or f"{self.prefix}*"
        return self._of_all_shards(index, "_search", {"track_total_hits": True} | dict(body or {}))

    def sources(self, index: str | None = None, body: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Refresh, then return the documents found, at most 10,000."""
        found = self.search(index, {"size": 10_000} | dict(body or {}))
        return [hit["_source"] for hit in found["hits"]["hits"]]

    def count(self, index: str | None = None, body: Mapping[str, Any] | None = None) -> int:
        """Refresh, then count the documents; an index that is not there holds none."""
        counted = self._of_all_shards(index or f"{self.prefix}*", "_count", dict(body) if body else None)
        return int(counted["count"])

    def indices(self) -> list[str]:
        """Return the names of this test's indices, sorted."""
        return sorted(self.get(f"/{self.prefix}*/_settings", expand_wildcards="all"))

    def clean(self) -> None:
        """Delete this test's indices, index templates and component templates."""
        indices = self.indices()  # by name, since servers refuse to delete by wildcard
        for start in range(0, len(indices), NAMES_A_REQUEST):
            batch = ",".join(indices[start : start + NAMES_A_REQUEST])
            self.delete(f"/{batch}", ignore_unavailable="true")
        for kind in ("_index_template", "_component_template"):
            for names in (f"{self.prefix}*", f"ml-log-gateway-{self.prefix}*"):
                response = self.http.delete(f"/{kind}/{names}")
                if response.is_error and response.status_code != httpx.codes.NOT_FOUND:
                    raise EsError(response)

    def _json(self, method: str, path: str, body: Any = None, params: Mapping[str, str] | None = None) -> Any:
        if isinstance(body, bytes):
            ndjson = {"Content-Type": "application/x-ndjson"}
            response = self.http.request(method, path, content=body, headers=ndjson, params=params)
        else:
            response = self.http.request(method, path, json=body, params=params)
        if response.is_error:
            raise EsError(response)
        return response.json()

    def _of_all_shards(self, index: str, call: str, body: Any) -> Any:
        """Ask again while an index that was just created has shards that do not answer yet."""
        deadline = time.monotonic() + SHARDS_READY_SECS
        while True:
            try:
                self.refresh(index)
                answer = self.post(f"/{index}/{call}", body, ignore_unavailable="true")
            except EsError as error:
                if error.status != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                    raise
            else:
                shards = answer["_shards"]
                if shards["successful"] == shards["total"]:
                    return answer
                if time.monotonic() > deadline:
                    raise AssertionError(f"not every shard of {index} answers: {shards}")
            time.sleep(0.1)
