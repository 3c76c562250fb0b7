"""Index templates, derived from the schemas and put in place before the first document.

Each is named ``ml-log-gateway-<index>`` and carries ``_meta.managed_by``; a template of that
name without the mark is a user's own and stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

import orjson

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.client import RequestFailed, request
from schemas import Registry

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

MANAGED_BY = "ml-log-gateway"
Body = dict[str, Any]


class Outcome(Enum):
    """What was done, or has to be done, to have something in place."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    LEFT_ALONE = "left alone"  # it is a user's own


def name_of(prefix: str, index: str) -> str:
    """Return the name of the template of an index."""
    return f"{MANAGED_BY}-{prefix}{index}"


def wanted(
    settings: Elasticsearch, prefix: str, registry: Registry, lifecycle: Mapping[str, str] | None = None
) -> dict[str, Body]:
    """Return each template's body by its name. The version in it is a hash of the rest.

    ``lifecycle`` is what ``index.lifecycle`` is to say.
    """
    templates = {}
    for index in registry.indices:

        def body(version: str, index: str = index) -> Body:
            template = registry.index_template(
                index,
                pattern=f"{prefix}{index}-*",
                shards=settings.shards,
                auto_expand_replicas=settings.auto_expand_replicas,
                refresh_interval=settings.refresh_interval,
                version=version,
            )
            if lifecycle is not None:
                template["template"]["settings"]["index"]["lifecycle"] = dict(lifecycle)
            return template

        unversioned = orjson.dumps(body(""), option=orjson.OPT_SORT_KEYS)
        templates[name_of(prefix, index)] = body(hashlib.sha256(unversioned).hexdigest()[:12])
    return templates


async def present(client: AsyncElasticsearch, pattern: str) -> dict[str, Body]:
    """Return the templates whose name fits, by name; raise `RequestFailed`."""
    try:
        answer = await request(client, "GET", f"/_index_template/{pattern}")
    except RequestFailed as error:
        if error.status != 404:
            raise
        return {}
    try:
        return {each["name"]: dict(each["index_template"]) for each in answer["index_templates"]}
    except (KeyError, TypeError, ValueError):
        raise RequestFailed("Elasticsearch gave an answer to a request for templates that is not one.") from None


def compare(found: Body | None, body: Body, *, exactly: bool = False) -> Outcome:
    """Say what has to be done for a template; ``exactly`` also sees what was changed by hand."""
    if found is None:
        return Outcome.CREATED
    meta = found.get("_meta")
    if not isinstance(meta, dict) or meta.get("managed_by") != MANAGED_BY:
        return Outcome.LEFT_ALONE
    # Servers may add keys of their own, such as the time of creation.
    same = all(found.get(key) == value for key, value in body.items()) if exactly else meta == body["_meta"]
    return Outcome.UNCHANGED if same else Outcome.UPDATED


async def apply(
    client: AsyncElasticsearch, prefix: str, templates: Mapping[str, Body], *, exactly: bool = False
) -> dict[str, Outcome]:
    """Create or update what is not as wanted; return what was done, by name. Raises `RequestFailed`."""
    found = await present(client, f"{MANAGED_BY}-{prefix}*")
    outcomes = {name: compare(found.get(name), body, exactly=exactly) for name, body in templates.items()}
    for name, outcome in outcomes.items():
        if outcome in (Outcome.CREATED, Outcome.UPDATED):
            await request(client, "PUT", f"/_index_template/{name}", body=templates[name])
    return outcomes
