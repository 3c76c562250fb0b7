"""What ``gateway templates`` does with the Elasticsearch of the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from gateway.errors import GatewayError
from gateway.kinds import make_registry
from gateway.settings import Settings

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

    from gateway.sinks.elasticsearch.inspection import Finding


def bodies(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the body of each index template by its name."""
    from gateway.sinks.elasticsearch import lifecycle, templates

    prefix = settings.events.index_prefix
    wish = lifecycle.index_settings(prefix) if settings.elasticsearch.ilm else None
    return templates.wanted(settings.elasticsearch, prefix, make_registry(settings), wish)


async def apply(settings: Settings) -> dict[str, str]:
    """Put policy and templates in place; return what was done by name: created, updated, unchanged or left alone.

    Raises `GatewayError`.
    """
    from gateway.sinks.elasticsearch import lifecycle, templates

    outcomes = {}
    prefix = settings.events.index_prefix
    async with _client(settings) as client:
        if settings.elasticsearch.ilm and settings.elasticsearch.retention_days is not None:
            policy = await lifecycle.apply(client, prefix, settings.elasticsearch.retention_days)
            outcomes[lifecycle.policy_name(prefix)] = policy
        outcomes |= await templates.apply(client, prefix, bodies(settings), exactly=True)
    return {name: outcome.value for name, outcome in outcomes.items()}


async def verify(settings: Settings) -> list[Finding]:
    """Compare with what the server has; raise `GatewayError` when it cannot be asked."""
    from gateway.sinks.elasticsearch.inspection import inspect

    async with _client(settings) as client:
        return await inspect(client, settings.elasticsearch, settings.events.index_prefix, make_registry(settings))


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[AsyncElasticsearch]:
    from gateway.sinks.elasticsearch.client import connect

    if not settings.elasticsearch.urls:
        raise GatewayError(
            "No Elasticsearch is set: name one with elasticsearch.urls or ELASTICSEARCH_URL. "
            "`gateway templates show` needs none."
        )
    client = connect(settings.elasticsearch)
    try:
        yield client
    finally:
        await client.close()
