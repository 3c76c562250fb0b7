"""The policy by which Elasticsearch itself deletes old indices, where ``elasticsearch.ilm`` says so.

It is named ``ml-log-gateway-<index_prefix>retention`` and carries ``_meta.managed_by``; a policy of
that name without the mark is a user's own: it stays as it is, and the templates name it all the same.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import GatewayError
from gateway.sinks.elasticsearch.client import RequestFailed, request
from gateway.sinks.elasticsearch.templates import MANAGED_BY, Outcome

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

_MAY_PASS = (401, 408, 429)  # what of the 4xx speaks neither of lifecycle management nor of a privilege


class LifecycleUnusable(GatewayError):
    """The server has no index lifecycle management, or does not let us use it: trying again alone does not help."""


def policy_name(prefix: str) -> str:
    """Return the name of a prefix's policy."""
    return f"{MANAGED_BY}-{prefix}retention"


def index_settings(prefix: str) -> dict[str, str]:
    """Return what a template's ``index.lifecycle`` says, spelled as Elasticsearch gives it back."""
    return {"name": policy_name(prefix), "parse_origination_date": "true"}


def policy(days: int) -> dict[str, Any]:
    """Return the policy that keeps an index for ``days`` whole days after its own."""
    # The age of an index is counted from the beginning of the day in its name.
    phases = {"delete": {"min_age": f"{days + 1}d", "actions": {"delete": {}}}}
    version = hashlib.sha256(orjson.dumps(phases, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
    return {"_meta": {"managed_by": MANAGED_BY, "version": version}, "phases": phases}


async def look(client: AsyncElasticsearch, prefix: str, days: int) -> Outcome:
    """Say what has to be done for the policy; raise `LifecycleUnusable` or `RequestFailed`."""
    name = policy_name(prefix)
    try:
        answer = await _request(client, "GET", f"/_ilm/policy/{name}")
    except RequestFailed as error:
        if error.status == 404:
            return Outcome.CREATED
        raise
    try:
        meta = answer[name]["policy"].get("_meta") or {}
        managed_by = meta.get("managed_by")
    except (AttributeError, KeyError, TypeError):
        raise RequestFailed("Elasticsearch gave an answer to a request for a policy that is not one.") from None
    if managed_by != MANAGED_BY:
        return Outcome.LEFT_ALONE
    return Outcome.UNCHANGED if meta == policy(days)["_meta"] else Outcome.UPDATED


async def apply(client: AsyncElasticsearch, prefix: str, days: int) -> Outcome:
    """Put the policy in place; raise `LifecycleUnusable` or `RequestFailed`."""
    outcome = await look(client, prefix, days)
    if outcome in (Outcome.CREATED, Outcome.UPDATED):
        await _request(client, "PUT", f"/_ilm/policy/{policy_name(prefix)}", {"policy": policy(days)})
    return outcome


async def _request(client: AsyncElasticsearch, method: str, path: str, body: Any = None) -> Any:
    try:
        return await request(client, method, path, body=body)
    except RequestFailed as error:
        status = error.status or 0
        if not 400 <= status < 500 or status in _MAY_PASS or (method == "GET" and status == 404):
            raise
        raise LifecycleUnusable(
            f"Index lifecycle management cannot be used, so no index made now will be deleted: {error} "
            "Let the gateway delete old indices with elasticsearch.ilm: false."
        ) from None
