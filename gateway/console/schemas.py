"""`/v1/schemas`: what an event may be."""

from __future__ import annotations

import functools
from typing import Any

import orjson
from fastapi import APIRouter, Response

from schemas import Registry, fields, json_schema


def router(registry: Registry, index_prefix: str) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["schemas"])

    # Made when first asked for, in a thread: pydantic takes a while over them.
    @functools.cache
    def listing() -> bytes:
        return orjson.dumps({"schemas": [_summary(name) for name in registry.told]})

    def _summary(name: str) -> dict[str, Any]:
        kind = registry.told[name]
        return {
            "kind": name,
            "type": kind.type,
            "index": f"{index_prefix}{kind.index}-*",
            "description": " ".join((kind.event.__doc__ or "").split()),
            "decided_by": kind.decided_by,
            "fields": fields(kind),
            "url": f"/v1/schemas/{name}",
        }

    @routes.get("/v1/schemas")
    def all_schemas() -> Response:
        """Return the kinds of events, where each goes, and the fields that it knows."""
        return Response(listing(), media_type="application/json")

    @routes.get("/v1/schemas/{kind}")
    def one_schema(kind: str) -> Response:
        """Return the JSON schema (draft 2020-12) of a kind's events."""
        if kind not in registry.told:
            message = f"There is no kind {kind[:100]!r}: there are {', '.join(registry.told)}."
            return Response(orjson.dumps({"error": message}), 404, media_type="application/json")
        return Response(orjson.dumps(json_schema(registry.told[kind])), media_type="application/schema+json")

    return routes
