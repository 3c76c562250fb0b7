"""Every setting: its name, meaning, unit and default.

Later beats earlier: defaults, the YAML file, the environment, command-line flags.
Environment names are ``GATEWAY_<SECTION>__<FIELD>``; the few without ``__`` are in `PLAIN_NAMES`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.settings.events import Confidence, Enrichment, ErrorType, Events, Latency, Schemas, Thresholds
from gateway.settings.monitoring import Monitoring
from gateway.settings.section import MIB, Positive, Section
from gateway.settings.sources import ApiKey, Http, Limits, Tcp, Tls
from gateway.settings.storage import DeadLetters, Elasticsearch, Spool, Store

__all__ = [
    "ApiKey",
    "Confidence",
    "DeadLetters",
    "Elasticsearch",
    "Enrichment",
    "ErrorType",
    "Events",
    "Http",
    "Latency",
    "Limits",
    "Log",
    "Monitoring",
    "Schemas",
    "Settings",
    "Spool",
    "Store",
    "Tcp",
    "Thresholds",
    "Tls",
]


class Log(Section):
    """The gateway's own log."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level written.")
    format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON.")
    file: Path | None = Field(
        None, examples=["/var/log/gateway/gateway.log"], description="Also write JSON lines to this file, rotated."
    )
    max_bytes: Positive = Field(10 * MIB, description="The file is rotated at this size.")
    keep: Positive = Field(5, description="Rotated files that are kept.")


MAX_WORKERS = 64


def _workers(value: object) -> object:
    """Take ``auto``, or a number, also as the environment has it."""
    if value == "auto":
        return value
    if not isinstance(value, bool) and str(value).isdecimal() and 1 <= int(str(value)) <= MAX_WORKERS:
        return int(str(value))
    raise ValueError(f"has to be auto, or a number from 1 to {MAX_WORKERS}")


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, env_nested_delimiter="__", env_prefix="GATEWAY_"
    )

    data_dir: Path = Field(Path("data"), description="Folder of everything the gateway keeps.")
    tcp: Tcp = Field(default_factory=Tcp, description="JSON lines over TCP.")
    http: Http = Field(default_factory=Http, description="HTTP ingestion, API, console.")
    limits: Limits = Field(default_factory=Limits, description="Rate limits.")
    events: Events = Field(default_factory=Events, description="What an event may be.")
    schemas: Schemas = Field(default_factory=Schemas, description="Fields and kinds of one's own.")
    enrichment: Enrichment = Field(default_factory=Enrichment, description="What is added to inference events.")
    spool: Spool = Field(default_factory=Spool, description="Events on disk, not yet taken by a sink.")
    dead_letters: DeadLetters = Field(default_factory=DeadLetters, description="Refused events.")
    elasticsearch: Elasticsearch = Field(default_factory=Elasticsearch, description="The Elasticsearch sink.")
    store: Store = Field(default_factory=Store, description="The embedded store.")
    monitoring: Monitoring = Field(default_factory=Monitoring, description="Figures of models and services.")
    log: Log = Field(default_factory=Log, description="The gateway's own log.")
    decoder: Literal["fast", "pydantic"] = Field(
        "fast",
        description="`fast`: pydantic reads only what it would refuse or change; `pydantic`: it reads all events, at a "
        "higher cost and with the same outcome.",
    )
    workers: Annotated[int | Literal["auto"], BeforeValidator(_workers)] = Field(
        1, description="Processes that take events; above 1 beside the one that sends them. auto: one a processor core."
    )
    drain_timeout_secs: Annotated[float, Field(ge=0)] = Field(
        10, description="After SIGTERM sinks have this long to take what is on disk."
    )

    @property
    def receivers(self) -> int:
        """Processes that take events beside the owner; 0 when the owner does."""
        usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        count = usable if self.workers == "auto" else self.workers
        return 0 if count == 1 else min(count, MAX_WORKERS)

    @property
    def store_enabled(self) -> bool:
        """Whether the embedded store is a sink."""
        return not self.elasticsearch.urls if self.store.enabled is None else self.store.enabled
