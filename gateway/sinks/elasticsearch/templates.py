"""Index templates, derived from the schemas and put in place before the first document.

Each is named ``ml-log-gateway-<index>`` and carries ``_meta.managed_by``; a template of that
name without the mark is a user's own and stays as it is.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch.client import RequestFailed, request
from schemas import KINDS, index_template

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

_INDICES = tuple(dict.fromkeys(kind.index for kind in KINDS.values()))
MANAGED_BY = "ml-log-gateway"


def wanted(settings: Elasticsearch, prefix: str) -> dict[str, dict[str, Any]]:
    """Return each template's body by its name. The version in it is a hash of the rest."""
    templates = {}
    for index in _INDICES:

        def body(version: str, index: str = index) -> dict[str, Any]:
            return index_template(
                index,
                pattern=f"{prefix}{index}-*",
                shards=settings.shards,
                auto_expand_replicas=settings.auto_expand_replicas,
                refresh_interval=settings.refresh_interval,
                version=version,
            )

        unversioned = orjson.dumps(body(""), option=orjson.OPT_SORT_KEYS)
        templates[f"{MANAGED_BY}-{prefix}{index}"] = body(hashlib.sha256(unversioned).hexdigest()[:12])
    return templates


def prefix_of(index: str) -> str:
    """Return the prefix of a daily index, such as ``team-`` of ``team-ml-metrics-2026.01.31``."""
    name = index[: -len("-YYYY.MM.dd")]
    return name.removesuffix(next((each for each in _INDICES if name.endswith(each)), name))


async def apply(client: AsyncElasticsearch, settings: Elasticsearch, prefix: str) -> list[str]:
    """Create or update what is not as wanted; return the names of user's own templates left alone.

    Raises `RequestFailed`.
    """
    templates = wanted(settings, prefix)
    try:
        answer = await request(client, "GET", f"/_index_template/{MANAGED_BY}-{prefix}*")
    except RequestFailed as error:
        if error.status != 404:
            raise
        answer = {"index_templates": []}
    try:
        present = {each["name"]: each["index_template"].get("_meta") or {} for each in answer["index_templates"]}
    except (AttributeError, KeyError, TypeError):
        raise RequestFailed("Elasticsearch gave an answer to a request for templates that is not one.") from None
    foreign = []
    for name, body in templates.items():
        meta = present.get(name)
        if meta is not None and meta.get("managed_by") != MANAGED_BY:
            foreign.append(name)
        elif meta != body["_meta"]:
            await request(client, "PUT", f"/_index_template/{name}", body=body)
    return foreign
