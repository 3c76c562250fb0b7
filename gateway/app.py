"""The only wiring: settings to objects, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
import functools
import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from fastapi_offline import FastAPIOffline

import gateway
from gateway.access import Access, Keys
from gateway.console import aggregate, dead_letters, export, operations, routes, schemas, search, tail, verify
from gateway.console.health import Health
from gateway.console.live import Live
from gateway.data_dir import lock_data_dir
from gateway.errors import GatewayError
from gateway.kinds import make_registry
from gateway.monitoring.figures import Figures
from gateway.monitoring.gathering import gatherer
from gateway.monitoring.metrics import MlMetrics
from gateway.monitoring.tail import Tail
from gateway.operations.dead_letters import DeadLetters
from gateway.operations.exports import Exports
from gateway.operations.formats import check_formats
from gateway.operations.overview import Overview
from gateway.operations.replay import Trial
from gateway.operations.verification import InElasticsearch, InEmbeddedStore, Verification
from gateway.pipeline.configured import make_digest
from gateway.pipeline.intake import Door
from gateway.settings import Settings
from gateway.sinks.lanes import Lanes
from gateway.sources.http.limits import RateLimit
from gateway.sources.http.routes import Ingestion
from gateway.sources.http.server import HttpServer
from gateway.sources.listening import is_loopback
from gateway.sources.tcp.source import TcpSource
from gateway.spool.books import Cursor, total
from gateway.spool.chosen import Reading
from gateway.spool.folders import Folders
from gateway.spool.letters import LetterBox
from gateway.spool.state import State
from gateway.store.store import Store
from gateway.telemetry import Telemetry
from gateway.workers.crew import Crew

if TYPE_CHECKING:
    from gateway.store.embedded import EmbeddedStore

log = structlog.get_logger(__name__)


class Gateway:
    """A whole gateway. `start`, then `stop`; what it could not send meanwhile is on disk."""

    def __init__(self, settings: Settings) -> None:
        """Open data directory and ports; raise `GatewayError` with what is in the way. Blocks."""
        self.settings = settings
        self.telemetry = Telemetry()
        self.registry = make_registry(settings)
        digest = make_digest(settings, self.registry)
        self._lock = lock_data_dir(settings.data_dir)
        try:
            check_formats(settings.data_dir)
            self.state = State(settings.data_dir / "state.sqlite3", settings.dead_letters.max_bytes)
            path, receivers = settings.data_dir / "spool", settings.receivers
            self.spool = Folders(path, settings.spool, self.telemetry.group_synced, receivers)
        except OSError as error:
            raise GatewayError(
                f"{error.filename or settings.data_dir} cannot be used ({error.strerror}): mend that, or set "
                "GATEWAY_DATA_DIR to another directory."
            ) from None
        self._letter_boxes = [LetterBox(folder, self.state) for folder in self.spool.all]
        self._reading = Reading(settings.data_dir / "state.sqlite3")
        self._dead_letters = DeadLetters(
            self.state, self._reading, self.spool, self._letter_boxes, digest, self._trials
        )
        self.sinks: list[Lanes] = []
        self._store: Store | None = None
        self.figures = Figures(settings.monitoring, gatherer(self.registry, settings.monitoring.log_duration_unit))
        self._ml_metrics = MlMetrics(self.figures)
        self._verification = Verification(settings)
        self._tail = Tail(self.spool.all)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

        door = Door(digest, self.spool.own.append, self.spool.own.closed, self.telemetry)
        self.overview = Overview(
            self.spool, self.state, lambda: self.sinks, self._sources, self.telemetry, self._letter_boxes, self._workers
        )
        keys = Keys(settings.http.api_keys)
        self.tcp: TcpSource | None = None
        self.http: HttpServer | None = None
        self.crew: Crew | None = None
        ingestion = Ingestion(settings.http, RateLimit(settings.limits), door, self.telemetry)
        application = FastAPIOffline(  # /docs brings its own scripts
            title="ML log gateway", version=gateway.__version__, redoc_url=None, favicon_url="data:,",
            static_url="/docs/static",
        )  # fmt: skip
        application.include_router(ingestion.router())
        application.include_router(operations.router(self.overview.status, self._metrics, self._unready))
        application.include_router(search.router(lambda: self._store))
        application.include_router(aggregate.router(lambda: self._store))
        application.include_router(tail.router(self._tail))
        application.include_router(export.router(Exports(settings.data_dir / "exports", lambda: self._store).export))
        application.include_router(schemas.router(self.registry, settings.events.index_prefix))
        application.include_router(verify.router(self._verification.arrived, self._verification.remove))
        application.include_router(dead_letters.router(self._dead_letters))
        health = Health(self.overview.status, self.figures)
        self._live = Live(health.now)
        application.include_router(self._live.router())
        kinds = [kind.index for kind in self.registry.told.values()]
        application.include_router(routes.pages(settings, lambda: self._store, health, self._dead_letters, kinds))
        local = is_loopback(settings.http.host)
        self._application = Access(ingestion.before(application), settings.http.api_keys, loopback=local)
        if receivers:
            self.crew = Crew(settings, self.spool, self.telemetry, self._lock)
        else:
            self.tcp = TcpSource(settings.tcp, door, self.telemetry, keys) if settings.tcp.enabled else None
            self.http = HttpServer(settings.http, self._application)

    @property
    def http_port(self) -> int:
        """The port for HTTP."""
        return self.http.port if self.http is not None else self.crew.http_port if self.crew is not None else 0

    @property
    def tcp_port(self) -> int:
        """The port for JSON lines, 0 when there is none."""
        return self.tcp.port if self.tcp is not None else self.crew.tcp_port if self.crew is not None else 0

    async def start(self) -> None:
        """Listen first, then load what is heavy: events are safe on disk before any sink is up."""
        if self.tcp is not None:
            await self.tcp.start()
        if self.http is not None:
            await self.http.start()
        if self.crew is not None:
            await self.crew.start(self._application)
        parts = (*(box.run() for box in self._letter_boxes), self.overview.watch())
        self._tasks = [asyncio.create_task(part) for part in parts]
        sinks = await asyncio.to_thread(self._make_sinks)
        try:
            await self._forget_others({sink.name for sink in sinks})
        except sqlite3.Error as error:  # the next start does it
            log.error("The sinks of this start cannot be noted in state.sqlite3.", error=str(error))
        self.figures.load(await self.state.run(self.state.figures))  # the embedded store reads its own
        for sink in sinks:
            await sink.start()
            self.sinks.append(sink)
            self._tasks.append(asyncio.create_task(sink.run()))
        self.spool.attached()
        for task in self._tasks:
            task.add_done_callback(_tell_failure)

    async def stop(self) -> None:
        """Close the listeners, finish what was read, sync, let the sinks take what they can, close."""
        self._stopping = True
        self._live.close()
        await self._tail.close()  # its answers have no end of their own
        await asyncio.gather(*(part.stop() for part in (self.tcp, self.http, self.crew, self._dead_letters) if part))
        await self.spool.stop()
        secs = self.settings.drain_timeout_secs
        await asyncio.gather(self._drain_letters(secs), *(sink.drain(secs) for sink in self.sinks))
        await asyncio.gather(*(sink.stop() for sink in self.sinks))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(box.stop() for box in self._letter_boxes))
        await asyncio.to_thread(self._reading.close)
        self.state.close()
        os.close(self._lock)

    async def _drain_letters(self, secs: float) -> None:
        with suppress(TimeoutError, OSError):  # what is not kept now is read from the spool again
            async with asyncio.timeout(secs):
                await asyncio.gather(*(box.catch_up() for box in self._letter_boxes))

    def _make_sinks(self) -> list[Lanes]:
        """Load what is heavy, and only what is used; blocks."""
        settings, prefix = self.settings, self.settings.events.index_prefix
        sinks: list[Lanes] = []
        if settings.store_enabled:
            from gateway.sinks.embedded import EmbeddedSink

            store = self._embedded_store()
            embedded = []
            for folder in self.spool.all:
                first = folder is self.spool.own
                part = EmbeddedSink(
                    folder, self.state, store, settings.store, self.telemetry, first=first, figures=self.figures
                )
                embedded.append(part)
            sinks.append(Lanes(list(zip(self.spool.all, embedded, strict=True))))
            self._store = store
            self._verification.places[sinks[-1].name] = InEmbeddedStore(store, prefix)
        if settings.elasticsearch.urls:
            from gateway.sinks.elasticsearch.sink import ElasticsearchSink
            from gateway.store.elasticsearch import ElasticsearchStore

            figures = None if sinks else self.figures  # only one sink is asked what there is
            lanes: list[ElasticsearchSink] = []
            for folder in self.spool.all:
                beside = lanes[0] if lanes else None
                lane = ElasticsearchSink(
                    folder, self.state, settings.elasticsearch, prefix, self.telemetry, self.registry, beside, figures
                )
                lanes.append(lane)
            sink = lanes[0]
            sinks.append(Lanes(list(zip(self.spool.all, lanes, strict=True))))
            self._verification.places[sink.name] = InElasticsearch(sink.client, prefix)
            self._store = self._store or ElasticsearchStore(sink.client, prefix, self.registry)
        return sinks

    def _embedded_store(self) -> EmbeddedStore:
        from gateway.store.embedded import EmbeddedStore

        return EmbeddedStore(self.settings.data_dir / "store.duckdb", self.settings.store, registry=self.registry)

    async def _forget_others(self, configured: set[str]) -> None:
        """Drop the cursors of sinks that are no longer configured: they have no claim on the spool."""
        for name in await self.state.run(self.state.sinks) - configured:
            cursors = {each.name: self.state.cursor(name, each.name) for each in self.spool.all}
            if name == "embedded":  # of which the state has only what it had to skip
                taken = await self._forget_embedded()
                for folder, skipped in cursors.items():
                    cursor = taken.get(folder)
                    cursors[folder] = cursor.skipped_to(skipped) if cursor and skipped else cursor
            await self.state.run(functools.partial(self.state.forget, name))
            missing = 0
            for each in self.spool.all:
                if (cursor := cursors[each.name]) is not None:
                    missing += total(each.counts).accepted - cursor.accepted + cursor.parked
            log.warning(
                "A sink is no longer configured: its place in the spool is dropped.", sink=name, not_taken=missing
            )
        if "embedded" in configured:
            await self.state.run(self.state.drop_figures)
        await self.state.run(lambda: self.state.remember(configured))

    async def _forget_embedded(self) -> dict[str, Cursor | None]:
        store = self._embedded_store()
        try:
            await store.open()
            return {each.name: await store.forget(each.name) for each in self.spool.all}
        except GatewayError as error:
            log.warning("The embedded store is not used and cannot be opened.", error=str(error))
            return {}
        finally:
            await store.close()

    def _trials(self) -> dict[str, Trial]:
        return {sink.name: sink.trial for sink in self.sinks}

    async def _metrics(self) -> bytes:
        return self.overview.metrics() + await self._ml_metrics.text()

    def _unready(self) -> str | None:
        if self._stopping:
            return "The gateway is stopping."
        return self.spool.failure or self.spool.full()

    def _sources(self) -> dict[str, dict[str, Any]]:
        if self.crew is not None:
            return self.crew.sources()
        live = {"http": self.http, "tcp": self.tcp}
        return {name: source.status() for name, source in live.items() if source is not None}

    def _workers(self) -> list[dict[str, Any]]:
        if self.crew is not None:
            return self.crew.status()
        connections = sum(each["connections"] for each in self._sources().values())
        return [{"pid": os.getpid(), "connections": connections, "events": total(self.spool.counts).received}]


def _tell_failure(task: asyncio.Task[None]) -> None:
    """A task that ends by an error is a mistake of ours: say so, loudly."""
    if not task.cancelled() and task.exception() is not None:
        log.error("A part of the gateway ended, restart it.", exc_info=task.exception())
