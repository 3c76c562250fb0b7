"""The page System: what is set, without secrets; how it stands and what to do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.configuration import load
from gateway.console.pages import system
from gateway.settings import Settings
from tests.console.panels import Table, open_panels

pytestmark = pytest.mark.anyio

SECRETS = {
    "GATEWAY_HTTP__API_KEYS": "hush-key-1,hush-key-2",
    "ELASTICSEARCH_URL": "https://somebody:hush-password@one.example:9200/?access=hush-query",
}


def _schemas(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """All fields of a JSON schema, by name, with what each may be."""
    for part in (schema, *schema.get("$defs", {}).values()):
        for name, field in part.get("properties", {}).items():
            for each in (field, *field.get("anyOf", ())):
                yield name, each


SINK = {"state": "ok", "last_error": None, "required": True}
BOOKS = {"indexed": 4, "duplicates": 0, "waiting": 3, "dead_letters": 0, "skipped": 0, "damaged": 0}


def status(**sink: Any) -> dict[str, Any]:
    """What `/status` says of a gateway with one sink."""
    return {
        "uptime_secs": 90.0,
        "workers": [{"pid": 77, "connections": 1, "events": 7}],
        "sources": {"http": {"received": 8, "accepted": 7, "refused": 1, "connections": 2}},
        "spool": {"bytes": 1 << 20, "max_bytes": 4 << 20, "segments": 1, "oldest_secs": 5.0, "full": None,
                  "failure": None},
        "sinks": {"elasticsearch": {**SINK, **sink}},
        "dead_letters": {"bytes": 400, "lost": 0},
        "books": {"received": 8, "accepted": 7, "refused": 1, "dead_letters": 1, "difference": 0,
                  "sinks": {"elasticsearch": BOOKS}},
    }  # fmt: skip


def fields(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The names of all settings, but for those within lists and what may be missing as a whole."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize(
    "environ", [SECRETS, {"ELASTICSEARCH_URL": "http://two.example", "ELASTICSEARCH_API_KEY": "hush-api-key"}]
)
async def test_all_settings_and_no_secret(tmp_path: Path, environ: dict[str, str]) -> None:
    """Every setting has a row with its meaning; what is secret is only said to be there, wherever it was set."""
    settings = load(environ=environ)
    async with open_panels(tmp_path, lambda asking: system.page(settings, status, asking)) as panels:
        for panel in ("health", "about", "sources", "sinks", "spool", "indices", "settings"):
            assert "hush-" not in await panels.get(panel), panel
        rows = {row[0]: row for row in Table(await panels.get("settings")).rows if row[0] != "Setting"}
    assert set(rows) == set(fields(Settings))
    assert all(row[2] for row in rows.values())
    secret = {name for name, row in rows.items() if "not shown" in row[1]}
    assert secret & {"elasticsearch.password", "elasticsearch.api_key"}


def test_no_secret_is_overlooked() -> None:
    """What the settings hold as a secret is known here, so that a new one is tried above too."""
    found = [name for name, text in _schemas(Settings.model_json_schema()) if text.get("format") == "password"]
    assert sorted(found) == ["api_key", "key", "password"]


async def test_what_differs_is_told_with_its_default(tmp_path: Path) -> None:
    """A value that was set stands beside the default."""
    settings = load(environ=SECRETS, flags={"tcp": {"port": 7777}, "log": {"max_bytes": 3 << 20}})
    async with open_panels(tmp_path, lambda asking: system.page(settings, status, asking)) as panels:
        rows = {row[0]: row[1] for row in Table(await panels.get("settings")).rows}
    assert rows["tcp.port"] == "7777 default: 5001"
    assert rows["log.max_bytes"] == "3145728 3.0 MiB default: 10485760"
    assert rows["http.port"] == "8080"
    assert rows["http.api_keys"] == "2 set, not shown default: not set"
    assert rows["elasticsearch.urls"].startswith("https://one.example:9200/?…")
    assert rows["elasticsearch.username"].startswith("somebody")
    assert rows["elasticsearch.password"].startswith("set, not shown")


async def test_trouble_says_what_to_do(tmp_path: Path) -> None:
    """The trouble of a sink stands there with what to do; without trouble there is nothing to do."""
    now = status()
    async with open_panels(tmp_path, lambda asking: system.page(Settings(), lambda: now, asking)) as panels:
        assert "All is well" in await panels.get("health")
        assert "What to do" not in await panels.get("health")
        now = status(state="retrying", last_error="Elasticsearch at <one> cannot be reached.")
        health = await panels.get("health")
        assert "elasticsearch is retrying: Elasticsearch at &lt;one&gt; cannot be reached." in health
        assert "gateway check --connect" in health
        assert "8 in · 4 stored · 1 refused · 0 missing" in health
        sinks = Table(await panels.get("sinks")).rows
        assert ["Last error", "Elasticsearch at <one> cannot be reached."] in sinks
        now = status(state="stopped", last_error="No room.")
        assert "Do as its error says" in await panels.get("health")


async def test_indices(tmp_path: Path) -> None:
    """Each index of the store with its documents, the newest day first."""
    async with open_panels(tmp_path, lambda asking: system.page(Settings(), status, asking)) as panels:
        assert "No index yet" in await panels.get("indices")
        days = ("2026-06-15T10:00:00Z", "2026-06-14T10:00:00Z", "2026-06-15T09:00:00Z")
        await panels.send(*({"model_name": "m", "timestamp": day} for day in days))
        await panels.send({"message": "x", "timestamp": days[1]})
    async with open_panels(tmp_path, lambda asking: system.page(Settings(), status, asking)) as panels:
        rows = [row[:2] for row in await panels.rows("indices")]
    assert rows == [["ml-metrics-2026.06.15", "2"], ["ml-pipeline-2026.06.14", "1"], ["ml-metrics-2026.06.14", "1"]]
